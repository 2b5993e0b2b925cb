"""Data are downloaded and built from a server on this machine; nothing else is reached."""

import gzip
import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pytest

from anymae.benchmark.download import download
from anymae.benchmark.fetch import RECIPES, content_digest, fetch, read_content
from anymae.benchmark.location import LOST
from anymae.benchmark.suite import SUITES
from anymae.errors import DataError, FolderError

CONTENT = bytes(range(256)) * 400


class Handler(SimpleHTTPRequestHandler):
    """Knows ranges; breaks off or fails as often as it is told to."""

    log: list[tuple[str, str | None]]
    breaks = 0
    errors = 0
    error = 503
    begins = 0
    """Times that a range is answered from the first byte on."""

    def do_GET(self) -> None:
        kind = type(self)
        asked = self.headers.get("Range")
        kind.log.append((self.path, asked))
        if kind.errors:
            kind.errors -= 1
            self.send_error(kind.error)
            return
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        if asked and kind.begins:
            kind.begins -= 1
            start = 0
        self.send_response(206 if asked else 200)
        if asked:
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = len(content)
        if kind.breaks:
            kind.breaks -= 1
            stop = (start + len(content)) // 2
        self.wfile.write(content[start:stop])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, type[Handler]]]:
    folder = tmp_path / "server"
    folder.mkdir()
    kind = type("Fresh", (Handler,), {"log": []})
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=str(folder)))
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", folder, kind
    http.shutdown()
    http.server_close()
    thread.join()


def test_a_broken_download_is_continued_not_repeated(
    server: tuple[str, Path, type[Handler]], tmp_path: Path
) -> None:
    url, folder, kind = server
    (folder / "a").write_bytes(CONTENT)
    kind.breaks = 2
    digest = hashlib.sha256(CONTENT).hexdigest()
    got = download(f"{url}/a", tmp_path / "got", digest=digest, wait=0)
    assert got.read_bytes() == CONTENT
    half, most = len(CONTENT) // 2, len(CONTENT) * 3 // 4
    assert kind.log == [("/a", None), ("/a", f"bytes={half}-"), ("/a", f"bytes={most}-")]
    download(f"{url}/a", tmp_path / "got", digest=digest, wait=0)
    assert len(kind.log) == 3  # what is there is not fetched


def test_a_server_that_is_busy_is_asked_again(
    server: tuple[str, Path, type[Handler]], tmp_path: Path
) -> None:
    url, folder, kind = server
    (folder / "a").write_bytes(CONTENT)
    kind.errors = 3
    assert download(f"{url}/a", tmp_path / "got", wait=0).read_bytes() == CONTENT
    kind.errors = 4
    with pytest.raises(DataError, match="could not be fetched"):
        download(f"{url}/a", tmp_path / "other", wait=0)
    assert not (tmp_path / "other").exists()


def test_other_content_is_refused_and_not_kept(
    server: tuple[str, Path, type[Handler]], tmp_path: Path
) -> None:
    url, folder, _ = server
    (folder / "a").write_bytes(CONTENT)
    with pytest.raises(DataError, match="the file has changed"):
        download(f"{url}/a", tmp_path / "got", digest="0" * 64, wait=0)
    assert not list(tmp_path.glob("got*"))
    with pytest.raises(DataError, match="answers 404"):
        download(f"{url}/b", tmp_path / "got", wait=0)


def test_a_file_that_was_complete_already_is_taken(
    server: tuple[str, Path, type[Handler]], tmp_path: Path
) -> None:
    url, folder, _ = server
    (folder / "a").write_bytes(CONTENT)
    (tmp_path / "got.part").write_bytes(CONTENT)
    assert download(f"{url}/a", tmp_path / "got", wait=0).read_bytes() == CONTENT


@pytest.mark.parametrize("error", [408, 429])
def test_a_server_that_asks_for_patience_is_asked_again(
    server: tuple[str, Path, type[Handler]], tmp_path: Path, error: int
) -> None:
    url, folder, kind = server
    (folder / "a").write_bytes(CONTENT)
    kind.error, kind.errors = error, 2
    assert download(f"{url}/a", tmp_path / "got", wait=0).read_bytes() == CONTENT


def test_what_does_not_continue_the_file_is_not_appended(
    server: tuple[str, Path, type[Handler]], tmp_path: Path
) -> None:
    url, folder, kind = server
    (folder / "a").write_bytes(CONTENT)
    (tmp_path / "got.part").write_bytes(CONTENT[:100])
    kind.begins = 1
    assert download(f"{url}/a", tmp_path / "got", wait=0).read_bytes() == CONTENT
    # Of another version of the file, longer than this one.
    (tmp_path / "other.part").write_bytes(CONTENT + CONTENT)
    assert download(f"{url}/a", tmp_path / "other", wait=0).read_bytes() == CONTENT


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return gzip.compress(head + array.tobytes(), 1)


def write_images(content: dict[str, np.ndarray], originals: list[Path]) -> None:
    originals[0].write_bytes(idx(content["images"]))
    originals[1].write_bytes(idx(content["labels"]))


def write_sentences(table: pa.Table, originals: list[Path]) -> None:
    is_dev = np.array(table["split"]) == "glue_dev"
    for path, kept in zip(originals, (~is_dev, is_dev), strict=True):
        rows = table.filter(kept).select(["sentence", "label"]).to_pylist()
        lines = [f"{row['sentence']}\t{row['label']}\n" for row in rows]
        path.write_text("sentence\tlabel\n" + "".join(lines))


def write_csvs(table: pa.Table, originals: list[Path]) -> None:
    split = np.array(table["split"])
    rest = table.drop_columns(["split"])
    if "sequence" in rest.column_names:
        rest = rest.rename_columns(["seq", "label"])
    for path, name in zip(originals, dict.fromkeys(split.tolist()), strict=True):
        csv.write_csv(rest.filter(split == name), path)


def write_arrays(table: pa.Table, originals: list[Path]) -> None:
    split = np.array(table["split"])
    names = list(dict.fromkeys(split.tolist()))
    for path in originals:
        kind, part = path.stem.rsplit("_", 1)
        rows = table.filter(split == {"val": "valid"}.get(part, part))
        assert {"val": "valid"}.get(part, part) in names
        if kind == "y":
            np.save(path, np.asarray(rows["label"]).astype(np.float64))
            continue
        wanted = pa.types.is_floating if kind == "X_num" else pa.types.is_large_string
        columns = [
            np.asarray(rows[field.name].to_pylist())
            for field in table.schema
            if wanted(field.type) and field.name not in ("label", "split")
        ]
        np.save(path, np.stack(columns, 1))


WRITERS: dict[str, Callable[..., None]] = {
    ".gz": write_images,
    ".tsv": write_sentences,
    ".csv": write_csvs,
    ".npy": write_arrays,
}


@pytest.mark.parametrize("suite", ["images", "language", "tables"])
def test_a_suite_is_built_from_its_originals(
    suite: str, server: tuple[str, Path, type[Handler]], data_folder: Path, tmp_path: Path
) -> None:
    url, folder, kind = server
    for file in SUITES[suite].files:
        originals = [folder / path for path in RECIPES[file].originals]
        for path in originals:
            path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[originals[0].suffix](read_content(data_folder / file), originals)
    kind.breaks = 1
    built = fetch(suite, data=tmp_path / "data", root=url, wait=0)
    assert built == [tmp_path / "data" / file for file in SUITES[suite].files]
    for file in SUITES[suite].files:
        mine, theirs = (read_content(place / file) for place in (tmp_path / "data", data_folder))
        assert content_digest(mine) == content_digest(theirs) == RECIPES[file].digest
    task = next(iter(SUITES[suite].tasks.values()))
    SUITES[suite](tmp_path / "data").load(task, 0)
    asked = len(kind.log)
    assert fetch(suite, data=tmp_path / "data", root=url) == [] and len(kind.log) == asked


@pytest.mark.parametrize(
    "file",
    [
        "proteins/tape/stability.parquet",
        "proteins/tape/remote_homology.parquet",
        "physics/higgs/higgs_small_valid_test.parquet",
    ],
)
def test_the_files_of_larger_suites_come_out_the_same(
    file: str, data_folder: Path, tmp_path: Path
) -> None:
    recipe = RECIPES[file]
    originals = [tmp_path / Path(path).name for path in recipe.originals]
    WRITERS[originals[0].suffix](read_content(data_folder / file), originals)
    assert content_digest(recipe.build(originals)) == recipe.digest


def test_changed_originals_are_refused(
    server: tuple[str, Path, type[Handler]], tmp_path: Path
) -> None:
    url, folder, _ = server
    images = np.zeros((3, 28, 28), np.uint8)
    originals = [folder / path for path in RECIPES["images/mnist_t10k.npz"].originals]
    originals[0].parent.mkdir(parents=True)
    write_images({"images": images, "labels": np.zeros(3, np.uint8)}, originals)
    with pytest.raises(DataError, match="content digest"):
        fetch("images", data=tmp_path / "data", root=url, wait=0)
    assert not (tmp_path / "data" / "images" / "mnist_t10k.npz").exists()


def test_a_stored_file_that_is_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images" / "mnist_t10k.npz"
    path.parent.mkdir()
    for content, said in ((b"", "cannot be read"), (b"<html>", "cannot be read")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=said):
            fetch("images", data=tmp_path)
    np.savez(path, images=np.zeros((1, 28, 28), np.uint8), labels=np.zeros(1, np.uint8))
    with pytest.raises(DataError, match="holds something else"):
        fetch("images", data=tmp_path)


def test_what_can_be_built_is_built_before_the_rest_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built: list[str] = []

    def build(file: str, folder: Path, *_: object) -> dict[str, np.ndarray]:
        built.append(file)
        return {"a": np.zeros(1, np.uint8)}

    # The package has the function under the module's name.
    monkeypatch.setattr(sys.modules[fetch.__module__], "_build", build)
    monkeypatch.setenv("ANYMAE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"higgs_extra_train\.parquet \(it was put together"):
        fetch("higgs")
    assert built == ["physics/higgs/higgs_small_valid_test.parquet"]
    assert (tmp_path / built[0]).is_file()


def test_a_place_that_cannot_be_written_is_no_fault_of_the_connection(
    server: tuple[str, Path, type[Handler]], tmp_path: Path
) -> None:
    url, folder, kind = server
    (folder / "a").write_bytes(CONTENT)
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="is a file"):
        fetch("images", data=tmp_path / "file" / "data", root=url, wait=0)
    (tmp_path / "got.part").mkdir()
    with pytest.raises(FolderError, match=r"got\.part could not be written"):
        download(f"{url}/a", tmp_path / "got", wait=0)
    assert len(kind.log) == 1


def test_a_page_in_place_of_an_original_is_told(
    server: tuple[str, Path, type[Handler]], tmp_path: Path
) -> None:
    url, folder, _ = server
    for file in SUITES["images"].files:
        for path in RECIPES[file].originals:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(b"<html>log in</html>")
    with pytest.raises(DataError, match=r"damaged or something else: remove .*originals"):
        fetch("images", data=tmp_path / "data", root=url, wait=0)


def test_what_cannot_be_rebuilt_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"cannot be built.*chembl_mix\.parquet \(it was put.*pickles"
    ):
        fetch("moleculenet", data=tmp_path)


def test_every_file_can_be_built_or_has_a_reason() -> None:
    files = [file for suite in SUITES for file in SUITES[suite].files]
    assert sorted(files) == sorted([*RECIPES, *LOST])
