"""The cache is keyed by content, survives kills and company, and costs no memory."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anymae.config import DataConfig
from anymae.data import cache, spool
from anymae.data.cache import cache_folder, content_digest
from anymae.data.sources import read_source
from anymae.errors import DataError, UserInputError

CONFIG = DataConfig()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANYMAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entries(folder: Path) -> list[Path]:
    return [path for path in (folder / "tables").iterdir() if path.is_dir()]


def test_the_second_opening_reads_the_cache(
    tmp_path: Path, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "x.csv").write_text("a\n1\n2\n")
    first = read_source(tmp_path / "x.csv", CONFIG)
    assert "is copied to the cache once" in caplog.text
    assert "0.0 MB" in caplog.text
    caplog.clear()
    (tmp_path / "y.csv").write_text("a\n1\n2\n")
    second = read_source(tmp_path / "y.csv", CONFIG)
    assert caplog.text == ""
    assert second.table.equals(first.table)
    assert second.name.endswith("y.csv")
    assert len(entries(own_cache)) == 1


def test_a_changed_byte_is_other_content(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a\n1\n2\n")
    stat = path.stat()
    assert read_source(path, CONFIG).table["a"].to_pylist() == [1, 2]
    path.write_text("a\n1\n3\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert read_source(path, CONFIG).table["a"].to_pylist() == [1, 3]


def test_a_big_file_is_hashed_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_REMEMBER_BYTES", 10)
    monkeypatch.setattr(cache.time, "time", lambda: 4e9)
    path = tmp_path / "x"
    path.write_bytes(b"x" * 100)
    digest = content_digest([path])
    hashed = []
    monkeypatch.setattr(cache, "sha256", lambda path: hashed.append(path) or "other")
    assert content_digest([path]) == digest
    assert not hashed
    (note,) = (cache.cache_folder() / "digests").iterdir()
    for damaged in ("", digest[:-1], "\0" * 64):
        note.write_text(damaged)
        assert content_digest([path]) == "other"
    stat = path.stat()
    path.write_bytes(b"y" * 100)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert content_digest([path]) == "other"


@pytest.mark.parametrize(
    "damage",
    ["truncate", "no entry", "nonsense", "missing key", "null", "[]", '{"bytes": null}', "places"],
)
def test_a_damaged_entry_is_made_anew(damage: str, tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n2\n")
    read_source(tmp_path / "x.csv", CONFIG)
    (entry,) = entries(own_cache)
    if damage == "truncate":
        content = (entry / "table.arrow").read_bytes()
        (entry / "table.arrow").write_bytes(content[:-100])
    elif damage == "no entry":
        (entry / "entry.json").unlink()
    elif damage == "missing key":
        found = json.loads((entry / "entry.json").read_text())
        del found["unread"]
        (entry / "entry.json").write_text(json.dumps(found))
    elif damage == "places":
        (entry / "places.npy").write_bytes(b"")
    else:
        (entry / "entry.json").write_text("{" if damage == "nonsense" else damage)
    assert read_source(tmp_path / "x.csv", CONFIG).table["a"].to_pylist() == [1, 2]


def test_a_refused_file_leaves_nothing(tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n")
    with pytest.raises(DataError):
        read_source(tmp_path / "x.csv", CONFIG)
    assert entries(own_cache) == []


def test_a_cache_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    (tmp_path / "file").touch()
    monkeypatch.setenv("ANYMAE_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserInputError, match="set ANYMAE_CACHE to a folder with room"):
        read_source(tmp_path / "x.csv", CONFIG)


def test_the_platform_decides_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANYMAE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == Path("/somewhere/anymae")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "anymae"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert cache_folder() == Path("/local/anymae/cache")


def _start(path: Path, before: str = "") -> subprocess.Popen[str]:
    code = (
        f"{before}import sys\nfrom anymae.config import DataConfig\n"
        "from anymae.data.sources import read_source\n"
        "frame = read_source(sys.argv[1], DataConfig())\n"
        "print(frame.table.num_rows, frame.table['a'].to_numpy().sum())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )


def test_a_kill_in_the_middle_costs_nothing_but_time(tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n" + "".join(f"{i}\n" for i in range(1000)))
    # All is written, none of it in its place.
    die = (
        "import os\nfrom anymae.data import cache\n"
        "cache.sync = lambda path: os.kill(os.getpid(), 9)\n"
    )
    process = _start(tmp_path / "x.csv", die)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert {entry.suffix for entry in entries(own_cache)} == {".part", ".spool"}
    frame = read_source(tmp_path / "x.csv", CONFIG)
    assert frame.table["a"].to_numpy().sum() == 1000 * 999 // 2
    (entry,) = entries(own_cache)
    assert (entry / "entry.json").exists()


def test_processes_that_come_together_make_one_entry(tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n" + "1\n" * 100_000)
    processes = [_start(tmp_path / "x.csv") for _ in range(3)]
    assert [process.communicate()[0].split() for process in processes] == [["100000"] * 2] * 3
    assert len(entries(own_cache)) == 1


def test_what_is_spooled_in_pieces_is_what_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "FLUSH_BYTES", 100)
    generator = np.random.default_rng(0)
    table = pa.table(
        {
            "numbers": pa.array([None if i % 5 == 0 else i for i in range(300)], pa.int32()),
            "flags": pa.array([None if i % 7 == 0 else i % 3 == 0 for i in range(300)]),
            "text": pa.array([None if i % 11 == 0 else "é" * (i % 9) for i in range(300)]),
            "time": pa.array(generator.integers(0, 10**12, 300), pa.timestamp("us")),
            "ragged": pa.array(
                [None if i % 13 == 0 else [[1.0 * j] * 2 for j in range(i % 4)] for i in range(300)]
            ),
            "fixed": pa.array(
                [None if i % 6 == 0 else [i, i + 1] for i in range(300)], pa.list_(pa.int16(), 2)
            ),
            "nothing": pa.nulls(300),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    monkeypatch.setattr("anymae.data.sources.parquet._ROWS", 13)
    frame = read_source(tmp_path / "x.parquet", CONFIG)
    assert frame.table.to_pydict() == table.to_pydict()
    assert all(column.num_chunks == 1 for column in frame.table.columns)
    frame.table.validate(full=True)


@pytest.mark.parametrize("inner", [pa.float64(), pa.int32(), pa.large_string()])
def test_nulls_inside_lists_stay_beside_rows_that_are_null(
    tmp_path: Path, inner: pa.DataType
) -> None:
    cells = pa.array(["1", None, "3"], pa.large_string()).cast(inner).to_pylist()
    for rows in ([cells, cells], [cells, None, cells], [None, cells]):
        for kind in (pa.list_(inner, 3), pa.list_(pa.list_(inner, 3), 1)):
            nested = [row if row is None or kind.list_size == 3 else [row] for row in rows]
            table = pa.table({"x": pa.array(nested, kind)})
            pq.write_table(table, tmp_path / "x.parquet")
            frame = read_source(tmp_path / "x.parquet", CONFIG)
            assert frame.table["x"].to_pylist() == nested


def test_rows_of_nulls_alone_stand_beside_rows_that_are_null(tmp_path: Path) -> None:
    rows = [[None, None], None, [None, None]]
    for kind in (pa.list_(pa.null(), 2), pa.list_(pa.null())):
        table = pa.table({"x": pa.array(rows, kind), "y": [1, 2, 3]})
        with pa.ipc.new_stream(tmp_path / "x.arrow", table.schema) as writer:
            writer.write_table(table)
        assert read_source(tmp_path / "x.arrow", CONFIG).table["x"].to_pylist() == rows


def test_wide_tables_need_no_open_file_for_each_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "FLUSH_BYTES", 10_000)
    table = pa.table({f"x{i}": [float(i), 1.0, None] for i in range(1500)})
    pq.write_table(table, tmp_path / "x.parquet")
    monkeypatch.setattr("anymae.data.sources.parquet._ROWS", 2)
    assert read_source(tmp_path / "x.parquet", CONFIG).table.equals(table)


def test_reading_needs_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FLUSH_BYTES", 1 << 18)
    monkeypatch.setattr("anymae.data.sources.parquet._ROWS", 1 << 12)
    rows = 400_000
    path = tmp_path / "x.parquet"
    with pq.ParquetWriter(path, pa.schema([("a", pa.float64()), ("b", pa.float64())])) as writer:
        for start in range(0, rows, 10_000):
            cells = pa.array(np.arange(start, start + 10_000.0))
            writer.write_table(pa.table({"a": cells, "b": cells}))
    # What waits is bytes of Python's; what is read and joined is Arrow's.
    usual, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        frame = read_source(path, CONFIG)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)
    assert frame.table["b"][rows - 1].as_py() == rows - 1
    assert frame.table.nbytes == 16 * rows
    assert peak < 4 * spool.FLUSH_BYTES < frame.table.nbytes / 6
    assert pool.max_memory() < 4 * spool.FLUSH_BYTES
    assert pool.bytes_allocated() == 0


def test_opening_moses_again_is_instant(data_folder: Path) -> None:
    path = data_folder / "chem/moses/moses.parquet"
    read_source(path, CONFIG)
    before, start = psutil.Process().memory_full_info().uss, time.process_time()
    frame = read_source(path, CONFIG)
    assert time.process_time() - start < 1
    assert psutil.Process().memory_full_info().uss - before < 50e6
    assert frame.table.num_rows == 1_936_962


def test_other_settings_are_other_entries(tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\nnone\n")
    assert read_source(tmp_path / "x.csv", CONFIG).table["a"].to_pylist() == ["1", "none"]
    declared = DataConfig(missing=("none",))
    assert read_source(tmp_path / "x.csv", declared).table["a"].to_pylist() == [1, None]
    assert len(entries(own_cache)) == 2


def test_another_format_is_another_entry(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ANYMAE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "x").write_text("a\n1\n")

    for name in ("one", "two"):

        def fill(sink: Any, name: str = name) -> None:
            sink.add(pa.table({name: [1]}))

        reading = cache.Reading("x", name, (tmp_path / "x",), fill, {})
        assert cache.through_cache(reading).table.column_names == [name]


def test_an_entry_of_another_layout_is_another_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANYMAE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "x.csv").write_text("a\n1\n")
    for layout in (cache.LAYOUT, cache.LAYOUT + 1):
        monkeypatch.setattr(cache, "LAYOUT", layout)
        read_source(tmp_path / "x.csv", DataConfig())
    entries = [path for path in (tmp_path / "cache/tables").iterdir() if path.is_dir()]
    assert len(entries) == 2
