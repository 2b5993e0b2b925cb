"""One self-contained HTML page: no scripts, no links, pictures inside."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from anymae.files import write_named


@dataclass(frozen=True, kw_only=True)
class Block:
    """A section of a page; whatever is empty is left out."""

    title: str = ""
    text: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    """Of a table."""
    html: str = ""
    """Inserted as it is: everything else is escaped."""
    note: str = ""


def render_page(title: str, blocks: Sequence[Block]) -> str:
    """Return the page as HTML.

    >>> "<td>1 &lt; 2</td>" in render_page("Runs", [Block(rows=[["1 < 2"]])])
    True
    """
    pages = Environment(
        loader=PackageLoader("anymae.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template("page.html.j2").render(title=title, blocks=blocks)


PAGES = (".html", ".htm")
"""What names of pages end in."""


def write_page(path: Path, title: str, blocks: Sequence[Block]) -> None:
    """Write the page, whole or not at all.

    Raises:
        FolderError: It cannot be written.
    """
    # Names of files need not be text.
    page = render_page(title, blocks).encode(errors="replace")
    write_named(path, lambda staged: staged.write_bytes(page))
