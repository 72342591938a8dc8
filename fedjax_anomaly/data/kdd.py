"""NSL-KDD and KDD Cup 99: connections of a simulated network under attack, with the publishers' own splits."""

from collections.abc import Mapping
from pathlib import Path

from fedjax_anomaly.data.files import default_cache_dir, find_raw_file
from fedjax_anomaly.data.kdd_format import COLUMN_GROUPS, KDD_CUP_99, NSL_KDD, KddFormat
from fedjax_anomaly.data.table import Dataset, RowOrder, Table

CATEGORY_COLUMNS = ("service", "protocol_type", "flag", "attack")

NSL_KDD_HOMEPAGE = "https://www.unb.ca/cic/datasets/nsl.html"
KDD_CUP_99_HOMEPAGE = "http://kdd.ics.uci.edu/databases/kddcup99/kddcup99.html"

KDD_CUP_99_URLS = {
    "train": "http://kdd.ics.uci.edu/databases/kddcup99/kddcup.data_10_percent.gz",
    "test": "http://kdd.ics.uci.edu/databases/kddcup99/corrected.gz",
}


def load_nsl_kdd(data_dir: str | Path | None, cache_dir: str | Path | None = None) -> Dataset:
    """NSL-KDD: 125,973 training and 22,544 test rows, without the duplicates of KDD Cup 99 and shuffled.

    As the order of the rows means nothing, a row's four groups of columns become the steps of a sequence.

    Args:
      data_dir: where `KDDTrain+.txt` and `KDDTest+.txt` lie, compressed or not, or lie in its folder `nsl_kdd`.
      cache_dir: where prepared copies are kept; `default_cache_dir()` if None.

    Raises:
      FileNotFoundError: without `data_dir`, as the publisher hands the files out behind a form, and when they are not
        there (test: `tests/data/test_kdd.py::test_nsl_kdd_without_a_data_dir_names_the_publisher`).
      ValueError, OSError: see `kdd_builder.load_tables`.

    Guarantees:
      The published numbers of rows and labels (test:
        `tests/data/test_kdd.py::test_the_published_counts_are_met_exactly`).

    References: Tavallaee, Bagheri, Lu and Ghorbani, "A detailed analysis of the KDD CUP 99 data set" (CISDA 2009).
    """
    if data_dir is None:
        raise FileNotFoundError(
            f"NSL-KDD is handed out behind a form at {NSL_KDD_HOMEPAGE}; "
            "get KDDTrain+.txt and KDDTest+.txt there and name their folder with --data_dir."
        )
    names = {"train": ("KDDTrain+.txt",), "test": ("KDDTest+.txt",)}
    return _load(NSL_KDD, _find(data_dir, NSL_KDD, names, NSL_KDD_HOMEPAGE), cache_dir, "none", COLUMN_GROUPS)


def load_kddcup99(data_dir: str | Path | None = None, cache_dir: str | Path | None = None) -> Dataset:
    """KDD Cup 99: the 494,021 rows of the 10 % training file and the 311,029 of the corrected test file, as captured.

    Args:
      data_dir: where `kddcup.data_10_percent` and `corrected` lie, compressed or not, or lie in its folder `kddcup99`;
        None to download them from the publisher.
      cache_dir: where prepared copies are kept; `default_cache_dir()` if None.

    Raises:
      FileNotFoundError: when the files are not in `data_dir`.
      ValueError, ConnectionError, OSError: see `kdd_builder.load_tables`.

    Guarantees:
      The published numbers of rows and labels (test:
        `tests/data/test_kdd.py::test_the_published_counts_are_met_exactly`).
      A download is compared with its registered checksum (test:
        `tests/data/test_kdd.py::test_a_corrupted_download_is_refused`).

    References: Stolfo, Fan, Lee, Prodromidis and Chan, "Cost-based modeling for fraud and intrusion detection: results
    from the JAM project" (DISCEX 2000).
    """
    sources: Mapping[str, Path | str] = KDD_CUP_99_URLS
    if data_dir is not None:
        names = {
            "train": ("kddcup.data_10_percent", "kddcup.data_10_percent_corrected"),
            "test": ("corrected",),
        }
        sources = _find(data_dir, KDD_CUP_99, names, KDD_CUP_99_HOMEPAGE)
    return _load(KDD_CUP_99, sources, cache_dir, "capture", None)


def _find(
    data_dir: str | Path, kdd_format: KddFormat, names: Mapping[str, tuple[str, ...]], homepage: str
) -> dict[str, Path]:
    folder = Path(data_dir).expanduser()
    return {split: find_raw_file(folder, kdd_format.name, names[split], homepage) for split in names}


def _load(
    kdd_format: KddFormat,
    sources: Mapping[str, Path | str],
    cache_dir: str | Path | None,
    row_order: RowOrder,
    feature_groups: tuple[tuple[str, ...], ...] | None,
) -> Dataset:
    # Importing TensorFlow Datasets takes a second, which runs on other data do not wait for.
    from fedjax_anomaly.data.kdd_builder import load_tables

    cache = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
    tables: dict[str, Table] = load_tables(sources, kdd_format, cache)
    return Dataset(
        name=kdd_format.name,
        train=tables["train"],
        test=tables["test"],
        row_order=row_order,
        feature_groups=feature_groups,
        category_columns=CATEGORY_COLUMNS,
    )
