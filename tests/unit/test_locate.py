"""What is read is never written over."""

import sys
from pathlib import Path

import pytest

from anymae.data.sources.locate import require_apart
from anymae.errors import FolderError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is typed: `in/a.csv`, a link to it, and another file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("kept")
    (tmp_path / "link.csv").symlink_to(tmp_path / "in" / "a.csv")
    (tmp_path / "other.csv").write_text("")
    return tmp_path


@pytest.mark.parametrize("read", ["in/a.csv", "in", "in/*.csv", "**/a.csv", "link.csv", "in/../in"])
def test_a_file_that_is_read_is_refused(read: str, folder: Path) -> None:
    for out in ("in/a.csv", "link.csv", folder / "in" / "a.csv"):
        with pytest.raises(FolderError, match="among the data that are read"):
            require_apart(Path(out), [1, 2], "absent.csv", read)
    require_apart(Path("other.csv"), [1, 2], None, read)


def test_a_local_url_is_the_file_that_it_names(folder: Path) -> None:
    with pytest.raises(FolderError, match="among the data"):
        require_apart(Path("in/a.csv"), f"file://{folder}/in/%61.csv")
    require_apart(Path("in/a.csv"), "https://in/a.csv", "hf://in/a.csv")


def test_a_new_file_may_not_join_the_folder_that_is_read(folder: Path) -> None:
    with pytest.raises(FolderError, match="among the data"):
        require_apart(Path("in/deep/new.csv"), "in")
    for apart in ("in/report.json", "in/README.md", "in/.hidden.csv", "in/_done.csv", "new.csv"):
        require_apart(Path(apart), "in", "in/*.csv")


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python 3.13 takes ** in a name for *")
def test_what_is_no_pattern_is_left_to_reading(folder: Path) -> None:
    require_apart(Path("in/a.csv"), "in/**.csv")
