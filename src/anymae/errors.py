"""Errors and warnings a user can meet: what was found, what was expected, what to do.

The command line turns errors into one sentence on stderr and an exit code; Python callers catch
`AnymaeError` or one of its subclasses, and filter `AnymaeWarning`.
"""

import difflib
from collections.abc import Iterable
from importlib import import_module


class AnymaeError(Exception):
    """Something went wrong that the message explains in full."""

    exit_code = 1
    """Status of the command line when this error ends it."""


class AnymaeWarning(UserWarning):
    """The result is there, and there is a reason to doubt it."""


class UserInputError(AnymaeError, ValueError):
    """The request cannot be carried out as given; nothing was written."""

    exit_code = 2


class DataError(UserInputError):
    """The data cannot be read, or hold something that cannot be an input."""


class ConfigError(UserInputError):
    """A setting is unknown, out of range or contradicts another."""


class FolderError(UserInputError):
    """A folder is not what the request needs: taken, missing, no run, or damaged."""


class MissingExtraError(UserInputError):
    """An optional dependency is needed; the message names the extra to install."""


class OutOfMemoryError(UserInputError):
    """Something did not fit in memory; the message says what to do, such as a smaller command."""


class NonFiniteError(AnymaeError):
    """The loss or the gradient stopped being finite; the last good checkpoint is kept."""

    exit_code = 3


class InterruptedRunError(AnymaeError):
    """Training was asked to stop; everything is saved and the message says how to resume."""

    exit_code = 130


def require_extra(extra: str, needs: str, *packages: str) -> None:
    """Check that optional packages are there.

    Args:
        extra: What of anymae brings them.
        needs: What needs what, such as `a search needs Optuna`; a package stands for `{}`.
        packages: What is imported.

    Raises:
        MissingExtraError: One is not installed.
    """
    for name in packages:
        try:
            import_module(name)
        except ImportError:
            raise MissingExtraError(
                f"{needs.format(name)}; install it with: pip install 'anymae[{extra}]'"
            ) from None


def first_line(error: Exception) -> str:
    """Return the first line of what an error says; its type where it says nothing.

    >>> first_line(ValueError("no month 13")), first_line(EOFError())
    ('no month 13', 'EOFError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant.

    Returns:
        `"; did you mean 'ratio'?"`, or a list of what is known when nothing is near.

    >>> nearest("ration", ["ratio", "kind"]), nearest("lr", ["learning_rate", "kind"])
    ("; did you mean 'ratio'?", "; did you mean 'learning_rate'?")
    """
    names = sorted(known)
    close = [name for name in names if initials(name) == word]
    close = close or difflib.get_close_matches(word, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}"


def initials(name: str) -> str | None:
    """Return what a name of several words is shortened to.

    >>> initials("learning_rate"), initials("ratio")
    ('lr', None)
    """
    words = name.split("_")
    return "".join(word[:1] for word in words) if len(words) > 1 else None
