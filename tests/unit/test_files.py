"""Files are whole or not there."""

import os
from pathlib import Path

import pytest
import torch

from anymae import files
from anymae.errors import FolderError


def test_json_text_and_tensors_come_back(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"x": [1, 0.1, None, "é"]})
    assert files.read_json(tmp_path / "a.json") == {"x": [1, 0.1, None, "é"]}
    tensors = {"a": torch.arange(6).view(2, 3), "b": torch.tensor(0.5).double()}
    files.write_tensors(tmp_path / "t.safetensors", tensors, {"note": "hello"})
    back = files.read_tensors(tmp_path / "t.safetensors")
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert files.read_metadata(tmp_path / "t.safetensors")["note"] == "hello"


def test_windows_flushes_files_that_may_be_written_and_no_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").touch()
    opened, real = [], os.open

    def watch(path: Path, flags: int) -> int:
        opened.append((Path(path).name, flags & os.O_ACCMODE))
        return real(path, flags)

    with monkeypatch.context() as patched:
        patched.setattr(files, "WINDOWS", True)
        patched.setattr(files.os, "open", watch)
        files.sync(tmp_path)
        files.sync(tmp_path / "a")
    assert opened == [("a", os.O_RDWR)]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})

    def fail(path: Path, to: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_rename", fail)
    with pytest.raises(OSError, match="No space"):
        files.write_json(path, {"new": 1})
    assert files.read_json(path) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_numbers_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "step-1"
    files.write_folder(path, lambda staged: (staged / "a").touch())

    def fail(staged: Path) -> None:
        (staged / "b").touch()
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.write_folder(path, fail)
    assert [str(entry.relative_to(tmp_path)) for entry in tmp_path.rglob("*")] == [
        "step-1",
        "step-1/a",
    ]
    files.write_folder(path, lambda staged: (staged / "c").touch())
    assert [entry.name for entry in path.iterdir()] == ["c"]


def test_only_an_absent_or_empty_folder_is_free(tmp_path: Path) -> None:
    files.require_free(tmp_path / "new" / "deep")
    files.require_free(tmp_path)
    (tmp_path / "file").touch()
    for taken in (tmp_path, tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FolderError):
            files.require_free(taken)


def test_a_read_only_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    with pytest.raises(FolderError, match="read-only"):
        files.require_writable(tmp_path / "run")


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".staged-step-2").mkdir()
    (tmp_path / ".staged-step-2" / "half").touch()
    (tmp_path / ".removed-step-1").mkdir()
    (tmp_path / ".staged-run.yaml").touch()
    (tmp_path / "step-3").mkdir()
    files.remove_leftovers(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-3"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\x80\x04\x95"])
def test_what_is_no_json_object_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(FolderError, match=r"a\.json"):
        files.read_json(tmp_path / "a.json")


def test_a_pickle_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.")
    for read in (files.read_tensors, files.read_metadata):
        with pytest.raises(FolderError, match="only safetensors are read"):
            read(tmp_path / "m.safetensors")


def test_a_file_of_tensors_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    for read in (files.read_tensors, files.read_metadata):
        with pytest.raises(FolderError, match="is not there; name a folder"):
            read(tmp_path / "m.safetensors")


def test_content_is_flushed_before_it_gets_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    for name in ("sync", "_rename"):

        def noted(*paths: Path, name: str = name, real: object = getattr(files, name)) -> None:
            done.append((name, paths[0].name))
            real(*paths)  # type: ignore[operator]

        monkeypatch.setattr(files, name, noted)
    files.write_json(tmp_path / "a.json", {})
    named = [("_rename", ".staged-a.json"), ("sync", tmp_path.name)]
    assert done == [("sync", ".staged-a.json"), *named]
    done.clear()
    files.write_folder(tmp_path / "f", lambda staged: files.write_json(staged / "b.json", {}))
    named = [("_rename", ".staged-f"), ("sync", tmp_path.name)]
    assert done == [("sync", "b.json"), ("sync", ".staged-f"), *named]
