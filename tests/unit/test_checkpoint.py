"""Checkpoints are whole, or named and passed over."""

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from anymae import files
from anymae.errors import AnymaeError, FolderError
from anymae.training.checkpoint import MANIFEST, Checkpoints, Snapshot, read_checkpoint


def snapshot(step: int) -> Snapshot:
    weight = torch.full((3, 2), float(step))
    return Snapshot({"w": weight}, {"exp_avg.w": weight / 2}, {"step": step, "seconds": 0.1})


def shapes(state: Mapping[str, Any]) -> dict[str, torch.Size]:
    return {"w": torch.Size([3, 2])}


@pytest.fixture
def store(tmp_path: Path) -> Checkpoints:
    made = Checkpoints(tmp_path / "checkpoints", keep=3)
    for step in (10, 20, 30):
        made.save(snapshot(step), best=None)
    return made


def test_a_checkpoint_comes_back_to_the_bit(store: Checkpoints) -> None:
    found = store.newest(shapes)
    assert found is not None
    assert found.state == {"step": 30, "seconds": 0.1}
    assert torch.equal(found.model["w"], torch.full((3, 2), 30.0))
    assert torch.equal(found.optimizer["exp_avg.w"], torch.full((3, 2), 15.0))


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3, 4, 5):
        store.save(snapshot(step), best=2 if step >= 2 else 1)
    assert store.steps() == [2, 4, 5]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


def empty(path: Path) -> None:
    for part in path.iterdir():
        part.unlink()


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def with_manifest(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """Change a checkpoint, then make its manifest agree."""

    def damage(path: Path) -> None:
        change(path)
        named = {
            part.name: {"bytes": part.stat().st_size, "sha256": files.sha256(part)}
            for part in path.iterdir()
            if part.name != MANIFEST
        }
        files.write_json(path / MANIFEST, {"format_version": 1, "files": named})

    return damage


def rewrite(name: str, tensors: dict[str, torch.Tensor]) -> Callable[[Path], None]:
    return with_manifest(lambda path: save_file(tensors, path / name))


PICKLE = b"\x80\x04cos\nsystem\n(S'touch /tmp/anymae-was-here'\ntR."
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (lambda p: os.truncate(p / "model.safetensors", 40), "has 40 bytes instead of"),
    "flipped": (lambda p: flip(p / "model.safetensors"), "content of model.safetensors has"),
    "flipped-optimizer": (lambda p: flip(p / "optimizer.safetensors"), "content of optimizer"),
    "flipped-state": (lambda p: flip(p / "state.json"), "content of state.json has changed"),
    "empty": (lambda p: os.truncate(p / "model.safetensors", 0), "has 0 bytes instead of"),
    "emptied": (empty, "has no manifest"),
    "missing": (lambda p: (p / "optimizer.safetensors").unlink(), "has no optimizer.safetensors"),
    "no-manifest": (lambda p: (p / MANIFEST).unlink(), "has no manifest.json"),
    "bad-manifest": (lambda p: os.truncate(p / MANIFEST, 20), "manifest.json cannot be read"),
    "extra": (
        lambda p: append(p / "model.safetensors"),
        "bytes instead of",
    ),
    "shape": (rewrite("model.safetensors", {"w": torch.ones(2, 3)}), "w is (2, 3), not (3, 2)"),
    "unknown": (
        rewrite("model.safetensors", {"w": torch.ones(3, 2), "v": torch.ones(1)}),
        "has an unknown weight v",
    ),
    "lacks": (rewrite("model.safetensors", {}), "lacks weight w"),
    "nan": (
        rewrite("model.safetensors", {"w": torch.full((3, 2), torch.nan)}),
        "not finite, in weight w",
    ),
    "inf": (
        rewrite("optimizer.safetensors", {"exp_avg.w": torch.full((3, 2), torch.inf)}),
        "not finite, in optimizer state exp_avg.w",
    ),
    "pickle": (
        with_manifest(lambda p: (p / "model.safetensors").write_bytes(PICKLE) and None),
        "only safetensors are read",
    ),
    "no-json": (
        with_manifest(lambda p: (p / "state.json").write_text("{") and None),
        "is no JSON file",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_passed_over(
    store: Checkpoints, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage, sentence = DAMAGES[name]
    damage(store.path(30))
    found = store.newest(shapes)
    assert found is not None and found.state["step"] == 20
    assert "step-00000030" in caplog.text and sentence in caplog.text
    assert not Path("/tmp/anymae-was-here").exists()


def test_nothing_is_found_where_all_are_damaged(store: Checkpoints) -> None:
    for step in store.steps():
        flip(store.path(step) / "model.safetensors")
    assert store.newest(shapes) is None


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(store: Checkpoints) -> None:
    flip(store.path(30) / "model.safetensors")
    store.save(snapshot(30), best=None)
    assert read_checkpoint(store.path(30), shapes).state["step"] == 30


def test_what_was_passed_over_replaces_nothing_that_is_saved(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=1)
    for step in (50, 57):
        store.save(snapshot(step), best=50)
    flip(store.path(57) / "model.safetensors")
    assert store.save(snapshot(55), best=50) == store.path(55)
    assert store.steps() == [50, 55]
    found = store.newest(shapes)
    assert found is not None and found.state["step"] == 55


def test_a_full_disk_calls_no_checkpoint_of_a_later_step_intact(
    store: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, write: object) -> None:
        raise OSError(28, "No space left on device")

    flip(store.path(30) / "model.safetensors")
    monkeypatch.setattr(files, "_write", fail)
    with pytest.raises(AnymaeError, match=r"step 25.*step 20 is intact"):
        store.save(snapshot(25), best=None)


@pytest.mark.parametrize("primitive", ["_write", "sync", "_rename"])
def test_a_full_disk_is_one_error_and_earlier_checkpoints_stay(
    store: Checkpoints, monkeypatch: pytest.MonkeyPatch, primitive: str
) -> None:
    def fail(path: Path, *more: object) -> None:
        path.write_bytes(b"half") if primitive == "_write" else None
        raise OSError(28, "No space left on device")

    before = {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}
    monkeypatch.setattr(files, primitive, fail)
    with pytest.raises(AnymaeError, match=r"step 40.*No space left.*step 30 is intact.*--resume"):
        store.save(snapshot(40), best=None)
    assert {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()} == before


def test_a_read_only_folder_is_one_error(
    store: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, write: object) -> None:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(files, "_write", fail)
    with pytest.raises(AnymaeError, match=r"Read-only file system.*step 30 is intact"):
        store.save(snapshot(40), best=None)
    assert store.steps() == [10, 20, 30]


def test_a_disk_that_is_really_full_is_told_the_same_way(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        store = Checkpoints(small / "checkpoints", keep=2)
        store.save(snapshot(1), best=None)
        large = Snapshot({"w": torch.randn(100_000)}, {}, {"step": 2})
        with pytest.raises(AnymaeError, match=r"step 2.*step 1 is intact"):
            store.save(large, best=None)
        assert store.steps() == [1]
        assert read_checkpoint(store.path(1)).state["step"] == 1
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_only_safetensors_and_json_are_written(store: Checkpoints) -> None:
    names = {path.name for path in store.path(30).iterdir()}
    assert names == {"model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}
    assert json.loads((store.path(30) / "state.json").read_text())["step"] == 30


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=r"no manifest\.json"):
        read_checkpoint(tmp_path)
