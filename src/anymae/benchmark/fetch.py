"""`anymae benchmark fetch`: build the data folder from the public originals.

What is built is compared with the digest of the content that the stored results were computed on,
so it does not matter which mirror a file came from or how Parquet was written. Files that cannot be
built here (`LOST`) are named, with the reason.
"""

import gzip
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from anymae.benchmark.download import ADVICE, download
from anymae.benchmark.location import LOST, REPLACE, UNKNOWN, home
from anymae.benchmark.suite import SUITES
from anymae.data.sources.base import reading
from anymae.errors import DataError
from anymae.files import require_writable, told, write_file
from anymae.wording import listed

logger = logging.getLogger(__name__)

ROOT = "https://raw.githubusercontent.com"
PROTEINBERT = "nadavbra/protein_bert/2090b78f09e70f0b960d7b591bf80d3d411c9d3f/protein_benchmarks"
TABLES = "ruheyun/tab-ddpm-dp/ec7254ad810d34b7fe403fca1aa076acf3de274b/data"
MNIST = "potterhsu/MnistTensorFlowVsPyTorch/31a36c2e0d0cb489b9d883d560215cc567340a8d/data"
SST2 = "forest-snow/alps/43232f234087cdbb4b06cd0e3997460610a0dbfd/data/SST-2"
ADULT = "sassoftware/sas-viya-workbench-examples/f9cda3e662b45c427ce8a472ad62cc19093af376/data"
HIGGS = (
    *("lepton_pT", "lepton_eta", "lepton_phi", "missing_energy_magnitude", "missing_energy_phi"),
    *(f"jet{jet}_{number}" for jet in range(1, 5) for number in ("pt", "eta", "phi", "btag")),
    *("m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"),
)
SST2_TRAIN = 60_614

Content: TypeAlias = pa.Table | dict[str, npt.NDArray[np.uint8]]


class Recipe(NamedTuple):
    """How one file of the data folder is made."""

    originals: tuple[str, ...]
    """Paths below `ROOT`."""
    build: Callable[[Sequence[Path]], Content]
    digest: str
    """Of the content, see `content_digest`."""


def fetch(
    suite: str, *, data: str | Path | None = None, root: str = ROOT, wait: float = 1.0
) -> list[Path]:
    """Build the files of a suite that are not there yet.

    Files that are there are read, and compared with the same digests.

    Args:
        suite: One of `SUITES`.
        data: The data folder; `None` is that of `$ANYMAE_DATA`, else that in the user's cache.
        root: Where the originals are; a mirror has the same paths.
        wait: Seconds before a failed download is tried again.

    Returns:
        The files that were built.

    Raises:
        DataError: A file is damaged, an original cannot be had, its content differs, or, once
            all others are there, a file cannot be built.
        FolderError: The folder cannot be written.
    """
    folder = home(data)
    missing = [file for file in SUITES[suite].files if not (folder / file).is_file()]
    for file in SUITES[suite].files:
        if file not in missing and file in RECIPES:
            _check_stored(folder / file, RECIPES[file])
    found = [file for file in missing if file in RECIPES]
    if found:
        require_writable(folder)
    for file in found:
        content = _build(file, folder, root, wait)
        with told(folder / file, ADVICE):
            _write(content, folder / file)
        logger.info("built %s", folder / file)
    lost: dict[str, list[str]] = {}
    for file in missing:
        if file not in RECIPES:
            lost.setdefault(LOST.get(file, UNKNOWN), []).append(file)
    if lost:
        why = "; ".join(
            f"{listed(of)} ({'each' if len(of) > 1 else 'it'} {reason})"
            for reason, of in lost.items()
        )
        raise DataError(
            f"these cannot be built from public files: {why}; copy them into {folder} or name a "
            "folder that has them with --data"
        )
    return [folder / file for file in found]


def _check_stored(path: Path, recipe: Recipe) -> None:
    """Refuse a file of the data folder that holds something else than it should."""
    with reading(str(path), REPLACE):
        found = content_digest(read_content(path))
    if found != recipe.digest:
        raise DataError(
            f"{path} holds something else than the stored results were computed on; remove it and "
            "run again"
        )


def _build(file: str, folder: Path, root: str, wait: float) -> Content:
    """Fetch the originals of a file, and make it of them."""
    recipe, originals = RECIPES[file], folder / "originals"
    origin = f"{root}/{recipe.originals[0]}"
    parts = [download(f"{root}/{path}", originals / path, wait=wait) for path in recipe.originals]
    with reading(
        f"{file}, built from {origin},",
        f"what was fetched is damaged or something else: remove {originals} and run again",
    ):
        content = recipe.build(parts)
    found = content_digest(content)
    if found != recipe.digest:
        raise DataError(
            f"{file} built from {origin} has the content digest {found}, not {recipe.digest}; an "
            f"original has changed, remove {originals} and run again, or report it"
        )
    return content


def content_digest(content: Content) -> str:
    """Return the sha256 of names and values, and of the types of what is floating or no table."""
    digest = hashlib.sha256()
    columns: Mapping[str, object] = (
        dict(zip(content.column_names, content.columns, strict=True))
        if isinstance(content, pa.Table)
        else content
    )
    for name, column in columns.items():
        if isinstance(column, pa.ChunkedArray) and not pa.types.is_floating(column.type):
            values = [str(value) for value in column.to_pylist()]
            digest.update("\x1f".join([name, *values]).encode())
        else:
            array = np.asarray(column)
            digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def read_content(path: Path) -> Content:
    """Read a file of the data folder."""
    if path.suffix == ".npz":
        with np.load(path) as data:
            return dict(data)
    table: pa.Table = pq.read_table(path)
    return table


def _write(content: Content, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)

    def fill(staged: Path) -> None:
        if isinstance(content, pa.Table):
            pq.write_table(content, staged, compression="zstd")
        else:
            with staged.open("wb") as file:
                np.savez_compressed(file, **content)

    write_file(path, fill)


def _images(parts: Sequence[Path]) -> Content:
    images, labels = (gzip.decompress(part.read_bytes()) for part in parts)
    return {
        "images": np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28),
        "labels": np.frombuffer(labels, np.uint8, offset=8),
    }


def _sentences(parts: Sequence[Path]) -> Content:
    tables = [
        csv.read_csv(
            part,
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(
                column_types={"sentence": pa.large_string(), "label": pa.int8()},
                strings_can_be_null=False,
            ),
        )
        for part in parts
    ]
    train, dev = (table.num_rows for table in tables)
    split = ["train"] * SST2_TRAIN + ["train_holdout"] * (train - SST2_TRAIN) + ["glue_dev"] * dev
    return _with_split(pa.concat_tables(tables), split)


def _sequences(label: pa.DataType) -> Callable[[Sequence[Path]], Content]:
    def build(parts: Sequence[Path]) -> Content:
        types = {"seq": pa.large_string(), "label": label}
        options = csv.ConvertOptions(column_types=types)
        tables = [csv.read_csv(part, convert_options=options) for part in parts]
        names = ("train", "valid", "test")
        split = [n for n, table in zip(names, tables, strict=True) for _ in range(table.num_rows)]
        return _with_split(pa.concat_tables(tables).rename_columns(["sequence", "label"]), split)

    return build


def _adult(parts: Sequence[Path]) -> Content:
    tables = [csv.read_csv(part) for part in parts]
    split = ["train"] * tables[0].num_rows + ["test"] * tables[1].num_rows
    whole = pa.concat_tables(tables)
    return _with_split(whole.cast(pa.schema([_plain(field) for field in whole.schema])), split)


def _plain(field: pa.Field) -> pa.Field:
    return field.with_type(pa.large_string()) if pa.types.is_string(field.type) else field


def _arrays(
    kinds: Sequence[str], splits: Sequence[str], label: str, names: Sequence[str] = ()
) -> Callable[[Sequence[Path]], Content]:
    """Build from arrays `KIND_SPLIT.npy`, all kinds of one split after the other."""

    def build(parts: Sequence[Path]) -> Content:
        """Join the splits, each array a column."""
        loaded = [np.load(part, allow_pickle=False) for part in parts]
        columns: dict[str, pa.Array] = {}
        for number, kind in enumerate(kinds):
            whole = np.concatenate(loaded[number :: len(kinds)])
            if kind == "y":
                columns["label"] = pa.array(whole.astype(label))
                continue
            for place in range(whole.shape[1]):
                short = kind.removeprefix("X_")
                name = names[place] if names else f"{short}_{place}"
                column = whole[:, place]
                columns[name] = (
                    pa.array(column.astype("f4"))
                    if kind == "X_num"
                    else pa.array(column.astype(str).tolist(), pa.large_string())
                )
        sizes = [len(part) for part in loaded[:: len(kinds)]]
        split = [name for name, size in zip(splits, sizes, strict=True) for _ in range(size)]
        return _with_split(pa.table(columns), split)

    return build


def _with_split(table: pa.Table, split: Sequence[str]) -> pa.Table:
    return table.append_column("split", pa.array(split, pa.large_string()))


def _of_arrays(name: str, kinds: Sequence[str], parts: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{TABLES}/{name}/{kind}_{part}.npy" for part in parts for kind in kinds)


_NUMERIC, _MIXED = ("X_num", "y"), ("X_num", "X_cat", "y")
_PARTS, _SPLITS = ("train", "val", "test"), ("train", "valid", "test")


def _proteins(name: str) -> tuple[str, ...]:
    return tuple(f"{PROTEINBERT}/{name}.{part}.csv" for part in _SPLITS)


RECIPES: Mapping[str, Recipe] = {
    "images/mnist_t10k.npz": Recipe(
        (f"{MNIST}/t10k-images-idx3-ubyte.gz", f"{MNIST}/t10k-labels-idx1-ubyte.gz"),
        _images,
        "a6a3c736010196383399cd7ee77ecc2ca48e7286b0b7ab12d04732cfea3e1e96",
    ),
    "text/sst2.parquet": Recipe(
        (f"{SST2}/train.tsv", f"{SST2}/dev.tsv"),
        _sentences,
        "7f187228364909c6f302c043a0052cdb3b053848e3252679d4a04b97a00c13a4",
    ),
    "proteins/tape/remote_homology.parquet": Recipe(
        _proteins("remote_homology"),
        _sequences(pa.int32()),
        "c964be23a766b89302a4fd27a112280e08b6aa1e0e89136d38b26f7254f2cbc1",
    ),
    "proteins/tape/stability.parquet": Recipe(
        _proteins("stability"),
        _sequences(pa.float32()),
        "a32a9ac61c7d1cf75271658a8b244feaebdced4811fce6176e248d031aa00b38",
    ),
    "tabular/california.parquet": Recipe(
        _of_arrays("california", _NUMERIC, _PARTS),
        _arrays(_NUMERIC, _SPLITS, "f4"),
        "5482a725dcfc7986364c3a03edfe0acafbcec8a249345fb95d395a8501f44580",
    ),
    "tabular/house.parquet": Recipe(
        _of_arrays("house", _NUMERIC, _PARTS),
        _arrays(_NUMERIC, _SPLITS, "f4"),
        "dd5b258592c333b068dde6a7d90d9751b2f2d7bcb1cd2764f9f5700bed621159",
    ),
    "tabular/default.parquet": Recipe(
        _of_arrays("default", _MIXED, _PARTS),
        _arrays(_MIXED, _SPLITS, "i8"),
        "495914f18447acbe4d6b075b8e5016c5678f57a19df6ba1a894dd1c57ae0a1b5",
    ),
    "tabular/adult.parquet": Recipe(
        (f"{ADULT}/adult_train.csv", f"{ADULT}/adult_test.csv"),
        _adult,
        "2760ef392bbed96e27cb4603df68fad0cb422199ea31e2fe2665e394e67607ec",
    ),
    "physics/higgs/higgs_small_valid_test.parquet": Recipe(
        _of_arrays("higgs-small", _NUMERIC, ("val", "test")),
        _arrays(_NUMERIC, ("valid", "test"), "i1", HIGGS),
        "c76a67d34541ccc65f4afb42baf200ce9865c29abb582e1578cfece782ec0a8d",
    ),
}
"""Files that can be rebuilt; their digests are those of the data behind the stored results."""
