"""Preparing NSL-KDD and KDD Cup 99 through TensorFlow Datasets, and reading the prepared rows back."""

import resource
import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import tqdm_utils

from fedjax_anomaly.data import kdd_builder
from fedjax_anomaly.data.kdd_builder import KddBlocks, load_tables
from fedjax_anomaly.data.kdd_format import KDD_CUP_99, NSL_KDD, read_kdd_file
from fedjax_anomaly.data.table import Table


@pytest.fixture
def sources(nsl_kdd_dir: Path) -> dict[str, Path | str]:
    """Raw NSL-KDD files of 4 training and 2 test rows."""
    return {"train": nsl_kdd_dir / "nsl_kdd" / "KDDTrain+.txt", "test": nsl_kdd_dir / "nsl_kdd" / "KDDTest+.txt"}


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def load(sources: Mapping[str, Path | str], cache_dir: Path) -> dict[str, Table]:
    return load_tables(sources, NSL_KDD, cache_dir)


def assert_same_table(actual: Table, expected: Table) -> None:
    np.testing.assert_array_equal(actual.numeric, expected.numeric)
    assert actual.numeric.dtype == expected.numeric.dtype
    assert actual.numeric_names == expected.numeric_names
    assert actual.categorical_names == expected.categorical_names
    for a, b in zip((*actual.categorical, actual.attack), (*expected.categorical, expected.attack), strict=True):
        np.testing.assert_array_equal(a.codes, b.codes)
        assert (a.codes.dtype, a.names) == (b.codes.dtype, b.names)


@pytest.mark.parametrize("block_rows", [1, 3, 8192])
def test_prepared_rows_are_the_raw_rows_in_order(
    block_rows: int, sources: dict[str, Any], cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kdd_builder, "BLOCK_ROWS", block_rows)
    tables = load(sources, cache_dir)
    assert list(tables) == ["train", "test"]
    for split, path in sources.items():
        assert_same_table(tables[split], read_kdd_file(path, NSL_KDD))


def test_more_blocks_than_digits_stay_in_order(
    tmp_path: Path, cache_dir: Path, kdd_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Block 10 must not come between blocks 1 and 2.
    monkeypatch.setattr(kdd_builder, "BLOCK_ROWS", 1)
    (tmp_path / "raw").write_text("".join(f"{kdd_line(row, 'normal.')}\n" for row in range(12)))
    tables = load_tables({"train": tmp_path / "raw", "test": tmp_path / "raw"}, KDD_CUP_99, cache_dir)
    assert tables["train"].numeric[:, 0].tolist() == [float(row) for row in range(12)]


def test_a_second_load_reads_the_cache(
    sources: dict[str, Any], cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(sources, cache_dir)
    monkeypatch.delattr(kdd_builder, "read_kdd_file")
    second = load(sources, cache_dir)
    for split in sources:
        assert_same_table(second[split], first[split])


def test_a_changed_file_is_prepared_anew(sources: dict[str, Any], cache_dir: Path) -> None:
    before = load(sources, cache_dir)
    sources["test"].write_text(sources["test"].read_text().replace("mscan", "saint"))
    assert load(sources, cache_dir)["test"].attack.names == ("normal", "saint")
    sources["test"].write_text(sources["test"].read_text().replace("saint", "mscan"))
    assert_same_table(load(sources, cache_dir)["test"], before["test"])
    assert len(list(cache_dir.iterdir())) == 2


def test_exchanged_splits_are_prepared_anew(sources: dict[str, Any], cache_dir: Path) -> None:
    load(sources, cache_dir)
    exchanged = load({"train": sources["test"], "test": sources["train"]}, cache_dir)
    assert (len(exchanged["train"]), len(exchanged["test"])) == (2, 4)


def test_a_failed_preparation_leaves_nothing_behind(sources: dict[str, Any], cache_dir: Path) -> None:
    intact = sources["test"].read_text()
    sources["test"].write_text(intact + "0,tcp\n")  # Found after the training rows have been written.
    for _ in range(2):
        with pytest.raises(ValueError, match=r"KDDTest\+\.txt, line 3: 2 columns, expected 43; get it anew\.$"):
            load(sources, cache_dir)
        assert list(cache_dir.iterdir()) == []
    sources["test"].write_text(intact)
    assert len(load(sources, cache_dir)["test"]) == 2


def test_a_preparation_leaves_no_temporary_folder(
    sources: dict[str, Any], cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    load(sources, cache_dir)
    assert list((tmp_path / "temporary").iterdir()) == []
    assert [path.name.startswith("nsl_kdd-1.0.0-") for path in cache_dir.iterdir()] == [True]


def test_a_preparation_that_another_one_overtakes_succeeds(
    sources: dict[str, Any], cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_after_another_process(path: Path, kdd_format: Any) -> Table:
        monkeypatch.setattr(kdd_builder, "read_kdd_file", read_kdd_file)
        load(sources, cache_dir)
        return read_kdd_file(path, kdd_format)

    monkeypatch.setattr(kdd_builder, "read_kdd_file", read_after_another_process)
    assert_same_table(load(sources, cache_dir)["train"], read_kdd_file(sources["train"], NSL_KDD))
    assert len(list(cache_dir.iterdir())) == 1


def test_a_full_disk_is_reported_with_the_cache_folder(sources: dict[str, Any], cache_dir: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))  # No file may grow beyond 16 bytes, as on a full disk.
    try:
        with pytest.raises(OSError, match=rf"^cannot prepare data in cache_dir={cache_dir} \(.+\); free space there"):
            load(sources, cache_dir)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(cache_dir.iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_is_reported(sources: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot prepare data in cache_dir=\S+/file/cache .*or give another cache_dir"):
        load(sources, tmp_path / "file" / "cache")


def test_damaged_prepared_data_is_reported_with_its_folder(sources: dict[str, Any], cache_dir: Path) -> None:
    load(sources, cache_dir)
    (records,) = cache_dir.glob("**/*train.array_record*")
    contents = bytearray(records.read_bytes())
    contents[120] ^= 0xFF  # In the first block: the file's signature has 64 bytes, the block's header 40.
    records.write_bytes(contents)
    (folder,) = cache_dir.iterdir()
    with pytest.raises(ValueError, match=rf"the prepared data in {folder} is damaged \(.+\); delete that folder"):
        load(sources, cache_dir)
    shutil.rmtree(folder)
    assert len(load(sources, cache_dir)["train"]) == 4


@pytest.mark.parametrize("shown", [True, False])
def test_nothing_is_printed_and_progress_bars_stay_as_they_were(
    shown: bool, sources: dict[str, Any], cache_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        tfds.display_progress_bar(shown)
        load(sources, cache_dir)
        load(sources, cache_dir)
        assert tqdm_utils._active is shown
    finally:
        tfds.enable_progress_bar()
    assert tuple(capfd.readouterr()) == ("", "")


def test_local_files_are_loaded_without_a_connection(
    sources: dict[str, Any], cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert len(load(sources, cache_dir)["train"]) == 4


def test_the_registered_checksum_is_that_of_the_tfds_builder() -> None:
    from tensorflow_datasets.datasets.kddcup99 import kddcup99_dataset_builder

    url = "http://kdd.ics.uci.edu/databases/kddcup99/corrected.gz"
    path = Path(kddcup99_dataset_builder.__file__).with_name("checksums.tsv")
    assert KddBlocks.url_infos[url] == tfds.download.checksums.load_url_infos(path)[url]
