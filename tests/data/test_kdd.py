"""Loading NSL-KDD and KDD Cup 99 as a user does."""

import csv
import gzip
import hashlib
import http.server
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from fedjax_anomaly.data import kdd
from fedjax_anomaly.data.files import read_raw_file
from fedjax_anomaly.data.kdd import load_kddcup99, load_nsl_kdd
from fedjax_anomaly.data.kdd_builder import KddBlocks
from fedjax_anomaly.data.kdd_format import CATEGORICAL_COLUMNS, COLUMNS, NUMERIC_COLUMNS
from fedjax_anomaly.data.table import Dataset, Table


def test_nsl_kdd_is_a_dataset_whose_column_groups_are_the_sequence(nsl_kdd_dir: Path, tmp_path: Path) -> None:
    dataset = load_nsl_kdd(nsl_kdd_dir, tmp_path / "cache")
    assert dataset.name == "nsl_kdd"
    assert dataset.row_order == "none"
    assert dataset.feature_groups is not None
    assert sum(dataset.feature_groups, ()) == COLUMNS
    assert dataset.category_columns == ("service", "protocol_type", "flag", "attack")
    assert dataset.train.attack.strings().tolist() == ["normal", "neptune", "normal", "back"]
    assert dataset.test.attack.strings().tolist() == ["normal", "mscan"]
    assert "difficulty" not in dataset.train.numeric_names


def test_kddcup99_is_a_dataset_in_capture_order(kddcup99_dir: Path, tmp_path: Path) -> None:
    dataset = load_kddcup99(kddcup99_dir, tmp_path / "cache")
    assert dataset.name == "kddcup99"
    assert dataset.row_order == "capture"
    assert dataset.feature_groups is None
    assert dataset.train.attack.strings().tolist() == ["normal", "smurf", "smurf"]
    assert dataset.test.attack.strings().tolist() == ["normal", "normal"]
    for name in dataset.category_columns:
        assert len(dataset.train.column(name)) == 3


def test_the_copy_with_its_other_name_is_found(kddcup99_dir: Path, tmp_path: Path) -> None:
    folder = kddcup99_dir / "kddcup99"
    plain = folder / "kddcup.data_10_percent"
    (folder / "kddcup.data_10_percent_corrected.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert len(load_kddcup99(str(folder), str(tmp_path / "cache")).train) == 3


def test_nsl_kdd_without_a_data_dir_names_the_publisher() -> None:
    with pytest.raises(FileNotFoundError, match=r"https://www\.unb\.ca/cic/datasets/nsl\.html.*--data_dir"):
        load_nsl_kdd(None)


def test_a_missing_file_is_named_with_its_publisher(kddcup99_dir: Path, tmp_path: Path) -> None:
    (kddcup99_dir / "kddcup99" / "corrected").unlink()
    with pytest.raises(FileNotFoundError, match=r"^no corrected .*http://kdd\.ics\.uci\.edu"):
        load_kddcup99(kddcup99_dir, tmp_path / "cache")


def test_the_loaders_import_tensorflow_datasets_only_when_called() -> None:
    code = "import sys, fedjax_anomaly.data.kdd; print({'tensorflow_datasets', 'pyarrow'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.fixture
def publisher(kddcup99_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A publisher on this machine: the folder that it serves, with the checksums of what is in it now registered."""
    folder = kddcup99_dir / "kddcup99"
    for path in list(folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=folder)

        def log_message(self, *args: Any) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        urls = {"train": f"{base}/kddcup.data_10_percent.gz", "test": f"{base}/corrected.gz"}
        infos = {}
        for url in urls.values():
            contents = (folder / url.rsplit("/", 1)[1]).read_bytes()
            size = tfds.core.utils.Size(len(contents))
            infos[url] = tfds.download.checksums.UrlInfo(size, hashlib.sha256(contents).hexdigest(), None)
        monkeypatch.setattr(kdd, "KDD_CUP_99_URLS", urls)
        monkeypatch.setattr(KddBlocks, "url_infos", infos)
        yield folder
        server.shutdown()


def test_a_download_loads_as_a_local_copy(publisher: Path, tmp_path: Path) -> None:
    downloaded = load_kddcup99(None, tmp_path / "cache")
    local = load_kddcup99(publisher, tmp_path / "local")
    np.testing.assert_array_equal(downloaded.train.numeric, local.train.numeric)
    assert downloaded.test.attack.strings().tolist() == local.test.attack.strings().tolist()


def test_a_download_is_not_repeated(publisher: Path, tmp_path: Path) -> None:
    load_kddcup99(None, tmp_path)
    for path in publisher.iterdir():
        path.unlink()
    assert len(load_kddcup99(None, tmp_path).train) == 3


def test_a_corrupted_download_is_refused(publisher: Path, tmp_path: Path) -> None:
    path = publisher / "corrected.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"1.00", b"2.00")))
    with pytest.raises(ValueError, match=r"^\S+/corrected\.gz sent a file that does not match its registered checksum"):
        load_kddcup99(None, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_download_names_the_way_out(publisher: Path, tmp_path: Path) -> None:
    (publisher / "corrected.gz").unlink()
    with pytest.raises(ConnectionError, match=r"^cannot download \S+/corrected\.gz \(.*404.*\); .* with --data_dir\.$"):
        load_kddcup99(None, tmp_path / "cache")


def test_an_unreachable_publisher_is_given_up_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Port 9 (discard) of this machine: the connection is refused, and TFDS alone would try for minutes.
    url = "http://127.0.0.1:9/raw"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(kdd, "KDD_CUP_99_URLS", {"train": url, "test": url})
    infos = {url: tfds.download.checksums.UrlInfo(tfds.core.utils.Size(1), "0" * 64, None)}
    monkeypatch.setattr(KddBlocks, "url_infos", infos)
    with pytest.raises(ConnectionError, match=r"^cannot download http://127\.0\.0\.1:9/raw \(.*refused.*\); try again"):
        load_kddcup99(None, tmp_path)


@pytest.fixture(scope="module")
def real_nsl_kdd(real_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_nsl_kdd(real_data_dir, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def real_kddcup99(real_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_kddcup99(real_data_dir, tmp_path_factory.mktemp("cache"))


def test_the_published_counts_are_met_exactly(real_nsl_kdd: Dataset, real_kddcup99: Dataset) -> None:
    def counts(table: Table) -> tuple[int, int]:
        return int((~table.label).sum()), int(table.label.sum())

    # Normal rows and attacks, as Tavallaee et al. (2009) and the publishers state them.
    assert counts(real_nsl_kdd.train) == (67_343, 58_630)
    assert counts(real_nsl_kdd.test) == (9_711, 12_833)
    assert counts(real_kddcup99.train) == (97_278, 396_743)
    assert counts(real_kddcup99.test) == (60_593, 250_436)
    # 22 attacks in the training files and `normal`; 17 attacks in the corrected test file are new.
    assert len(real_kddcup99.train.attack.names) == len(real_nsl_kdd.train.attack.names) == 23
    assert len(set(real_kddcup99.test.attack.names) - set(real_kddcup99.train.attack.names)) == 17


@pytest.mark.parametrize(
    ("dataset", "split", "name"),
    [
        ("real_nsl_kdd", "train", "nsl_kdd/KDDTrain+.txt.xz"),
        ("real_nsl_kdd", "test", "nsl_kdd/KDDTest+.txt.xz"),
        ("real_kddcup99", "train", "kddcup99/kddcup.data_10_percent.gz"),
        ("real_kddcup99", "test", "kddcup99/corrected.gz"),
    ],
)
def test_the_real_rows_are_read_in_order(
    dataset: str, split: str, name: str, real_data_dir: Path, request: pytest.FixtureRequest
) -> None:
    table: Table = getattr(request.getfixturevalue(dataset), split)
    lines = read_raw_file(real_data_dir / name).decode().splitlines()
    attacks = [line.split(",", 42)[41].removesuffix(".") for line in lines]
    assert table.attack.strings().tolist() == attacks
    rows = [0, 1, len(table) // 2, -2, -1]
    for row, fields in zip(rows, csv.reader(io.StringIO("\n".join(lines[row] for row in rows))), strict=True):
        record = dict(zip(COLUMNS, fields[:41], strict=True))
        np.testing.assert_array_equal(
            table.numeric[row], np.array([record[name] for name in NUMERIC_COLUMNS], np.float32)
        )
        assert [table.column(name).strings()[row] for name in CATEGORICAL_COLUMNS] == [
            record[name] for name in CATEGORICAL_COLUMNS
        ]


def test_the_attacks_of_the_captured_rows_come_in_runs(real_nsl_kdd: Dataset, real_kddcup99: Dataset) -> None:
    def lag_one_correlation(table: Table) -> float:
        label = table.label.astype(np.float64)
        return float(np.corrcoef(label[:-1], label[1:])[0, 1])

    # What `row_order` states: neighbouring rows of a capture are alike, those of a shuffled file are not.
    assert lag_one_correlation(real_kddcup99.train) > 0.9
    assert abs(lag_one_correlation(real_nsl_kdd.train)) < 0.02
