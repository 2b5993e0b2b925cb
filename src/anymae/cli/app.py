"""The application: its verbs, and what becomes of an error.

A verb that goes wrong ends with one sentence on stderr and the status that the error carries;
`--debug`, anywhere on the command line, shows where it was raised.
"""

import errno
import io
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import IO, Annotated, NoReturn, TextIO, cast

import typer

from anymae.cli import exchange, judge, start, train, use
from anymae.cli.options import spread
from anymae.errors import AnymaeError, FolderError

_USAGE_ERROR = cast("type[Exception]", typer.BadParameter.__mro__[1])
"""What typer raises for a malformed command line; its other names differ between versions."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What the system says of a place that takes no more."""

app = typer.Typer(
    name="anymae",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from anymae import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error was raised; accepted anywhere.")
    ] = False,
) -> None:
    """Pretrain a masked autoencoder that chooses its own masks, on any data."""


VERBS: Mapping[str, Sequence[Callable[..., None]]] = {
    "Start": (start.quickstart, start.inspect),
    "Train": (train.pretrain, train.finetune, train.tune),
    "Use": (use.embed, use.predict, use.score, use.show),
    "Judge": (judge.probe, judge.evaluate, judge.compare, judge.benchmark, judge.report),
    "Exchange": (exchange.export, exchange.push, exchange.convert),
}
"""By what they are for, in the order of `--help`."""

for _panel, _verbs in VERBS.items():
    for _verb in _verbs:
        app.command(rich_help_panel=_panel)(spread(_verb))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words after `anymae`; `None` takes those of the process.

    Returns:
        0 done, 1 failed, 2 the request is wrong and nothing was written, 3 the loss stopped
        being finite, 130 interrupted, 143 terminated.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"] or ["--help"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal of another encoding than UTF-8 lacks the lines of tables, and letters.
        sys.stdout.reconfigure(errors="replace")
    try:
        status = _run(words)
    except _USAGE_ERROR as error:
        return _fail(_sentence(error), 2)
    except AnymaeError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_code)
    except _Terminated:
        return _fail("terminated", 143)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            # The large files have sentences of their own, with what is left and how to go on.
            place = error.filename or "a file"
            return _fail(
                f"{place} could not be written ({error.strerror}); make room there, then repeat "
                "the command",
                FolderError.exit_code,
            )
        problem = f"{type(error).__name__}: {error}"
        return _fail(f"unexpected {problem}; please report it, with what --debug shows", 1)
    # For Ctrl-C typer returns the status and says nothing.
    return _fail("interrupted", 130) if status == 130 else int(status or 0)


def _run(words: list[str]) -> int | None:
    """Run a verb; one whose output nobody reads any more has done enough."""
    output, errors = sys.stdout, sys.stderr
    with _duplicated(output) as copy:
        try:
            with _logs_on_stderr(), _termination_as_exception():
                status: int | None = app(words, prog_name="anymae", standalone_mode=False)
        except SystemExit as end:
            # So typer and rich answer a closed pipe, which may be any that the verb wrote to.
            if not isinstance(end.__context__, BrokenPipeError):
                raise
            sys.stdout, sys.stderr = output, errors
            if copy is None or not _is_unread(copy):
                raise end.__context__ from None
            # Nor shall anything be said on exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
            return 0
    return status


def _duplicated(output: TextIO) -> AbstractContextManager[IO[bytes] | None]:
    """Hold on to where output goes, as rich puts another place under its number."""
    try:
        return os.fdopen(os.dup(output.fileno()), "wb", 0)
    except (AttributeError, OSError, ValueError):  # there is none, or none of the system's
        return nullcontext()


def _is_unread(output: IO[bytes]) -> bool:
    """True where nobody reads a pipe any more; on Windows this cannot be asked."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(output, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


class _Terminated(BaseException):
    """SIGTERM arrived."""


@contextmanager
def _termination_as_exception() -> Iterator[None]:
    """Let what is open be closed on SIGTERM, other processes among it, as it is on Ctrl-C.

    While it trains, a run answers the signal itself: it saves and leaves.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


class _StderrHandler(logging.Handler):
    """Prints what the library logs; where to is asked anew each time, as progress bars need it."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        typer.echo(prefix + record.getMessage(), err=True)


@contextmanager
def _logs_on_stderr() -> Iterator[None]:
    logger, handler = logging.getLogger("anymae"), _StderrHandler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _sentence(error: Exception) -> str:
    """Word a malformed command line as one sentence."""
    context = getattr(error, "ctx", None)
    message = _named_setting(error) or getattr(error, "format_message", error.__str__)()
    command = context.command_path if context is not None else "anymae"
    message = message.replace(": Value error, ", ": ")
    return f"{message.rstrip('.').replace(chr(10), ' ')}; see `{command} --help`"


def _named_setting(error: Exception) -> str | None:
    """Answer a flag that is not there, and is a setting's name, with how to give the setting."""
    from anymae.recipes import settings_named
    from anymae.task import FinetuneConfig

    flag, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if flag is None or context is None:
        return None
    known = {option for parameter in context.command.params for option in parameter.opts}
    found = settings_named(flag.lstrip("-").replace("-", "_"))
    flags = [f"--{name.partition('.')[2].replace('_', '-')}" for name in found]
    there = [one for one in flags if one in known]
    if there:
        return f"No such option: {flag}; write {there[0]}"
    if context.command.name == "finetune":
        found = [name for name in found if name.startswith("training.")]
        own = flag.lstrip("-").replace("-", "_")
        found = [own] if own in FinetuneConfig.model_fields else found
    if not found or "--set" not in known:
        return None
    return f"No such option: {flag}; write {' or '.join(f'--set {name}=VALUE' for name in found)}"


def _fail(sentence: str, status: int) -> int:
    sys.stderr.write(f"anymae: {sentence}\n")
    return status
