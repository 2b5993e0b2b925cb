"""The command line: parses, calls one public function, prints."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, as `anymae.cli.app.main` does; Ctrl-C while it is imported ends it too.

    Args:
        arguments: Words after `anymae`; `None` takes those of the process.
    """
    try:
        from anymae.cli import app
    except KeyboardInterrupt:
        sys.stderr.write("anymae: interrupted\n")
        return 130
    return app.main(arguments)
