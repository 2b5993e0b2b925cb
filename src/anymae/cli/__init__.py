"""The command line: parses, calls one public function, prints."""

from anymae.cli.app import main as main

__all__ = ["main"]
