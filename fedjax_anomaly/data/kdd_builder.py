"""NSL-KDD and KDD Cup 99 through TensorFlow Datasets (TFDS), without TensorFlow.

TFDS downloads with registered checksums (`checksums.tsv` in this folder), prepares into a temporary folder that it
renames at the end, and reads the prepared ArrayRecord files back. One TFDS example is a block of rows here: an example
for each row would take minutes to write.

TFDS has a builder of its own for KDD Cup 99. It takes the full training file of 4.9 million rows, not the 10 % that
the literature uses, writes an example for each row and reads no local file; what serves from it is the URL and the
checksum of `corrected.gz`.
"""

import contextlib
import io
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import tqdm_utils

from fedjax_anomaly.data.files import combined_digest, file_digest
from fedjax_anomaly.data.kdd_format import CATEGORICAL_COLUMNS, NUMERIC_COLUMNS, KddFormat, read_kdd_file
from fedjax_anomaly.data.table import Categorical, Table

BLOCK_ROWS = 8192
"""Rows of one TFDS example: 1.4 MB."""

_CONNECT_TIMEOUT_SECONDS = 10.0

Examples = Iterator[tuple[int, dict[str, np.ndarray]]]


class _LocalInfo(tfds.core.DatasetInfo):
    """What TFDS notes about a data set, without a look at its public bucket, which leaves a temporary folder behind."""

    def initialize_from_bucket(self) -> None:
        """Nothing: the bucket holds nothing about these files."""


class KddBlocks(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Blocks of rows, in the order of the raw files.

    The numeric columns, the codes of the categorical ones and of the attack are features; the names behind the codes
    are metadata.

    Args:
      data_dir: the folder to prepare into.
      sources: the raw file of each split, or a URL whose checksum is registered.
      kdd_format: the format of the raw files.
    """

    VERSION = tfds.core.Version("1.0.0")
    # Read here, as TFDS finds the file itself only where a package is installed that it does not depend on.
    url_infos = tfds.download.checksums.load_url_infos(Path(__file__).with_name("checksums.tsv"))

    def __init__(self, *, data_dir: Path, sources: Mapping[str, Path | str], kdd_format: KddFormat) -> None:
        self._sources = sources
        self._format = kdd_format
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        def tensor(dtype: type, *shape: int | None) -> tfds.features.Tensor:
            return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="bytes")

        features = {
            "numeric": tensor(np.float32, None, len(NUMERIC_COLUMNS)),
            "categorical": tensor(np.int32, None, len(CATEGORICAL_COLUMNS)),
            "attack": tensor(np.int32, None),
        }
        return _LocalInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Examples]:
        paths = {
            split: _download(source, dl_manager) if isinstance(source, str) else source
            for split, source in self._sources.items()
        }
        return {split: self._generate_examples(split, path) for split, path in paths.items()}

    def _generate_examples(self, split: str, path: Path) -> Examples:
        table = read_kdd_file(path, self._format)
        self.info.metadata[split] = {name: table.column(name).names for name in (*CATEGORICAL_COLUMNS, "attack")}
        categorical = np.stack([column.codes for column in table.categorical], axis=1)
        for block, begin in enumerate(range(0, len(table), BLOCK_ROWS)):
            rows = slice(begin, begin + BLOCK_ROWS)
            example = {
                "numeric": table.numeric[rows],
                "categorical": categorical[rows],
                "attack": table.attack.codes[rows],
            }
            yield block, example

    def table(self, split: str) -> Table:
        """The prepared rows of a split."""
        blocks = list(self.as_data_source(split=split))
        codes = np.concatenate([block["categorical"] for block in blocks])
        names = {name: tuple(values) for name, values in self.info.metadata[split].items()}
        return Table(
            numeric=np.concatenate([block["numeric"] for block in blocks]),
            numeric_names=NUMERIC_COLUMNS,
            categorical=tuple(Categorical(codes[:, q], names[name]) for q, name in enumerate(CATEGORICAL_COLUMNS)),
            categorical_names=CATEGORICAL_COLUMNS,
            attack=Categorical(np.concatenate([block["attack"] for block in blocks]), names["attack"]),
        )


def load_tables(sources: Mapping[str, Path | str], kdd_format: KddFormat, cache_dir: Path) -> dict[str, Table]:
    """The rows of each split, prepared once for the same contents of the raw files and read back from then on.

    Args:
      sources: the raw file of each split, or a URL whose checksum is registered.
      kdd_format: the format of the raw files.
      cache_dir: holds the prepared files, in a folder named after the contents of the raw ones.

    Raises:
      ValueError: for a raw file or a download that is not as it should be, and for damaged prepared files.
      ConnectionError: when the publisher cannot be reached.
      OSError: when `cache_dir` cannot be written.

    Guarantees:
      A preparation that fails leaves nothing that a later one takes (test:
        `tests/data/test_kdd_builder.py::test_a_failed_preparation_leaves_nothing_behind`).
      Of two preparations at once both succeed (test:
        `tests/data/test_kdd_builder.py::test_a_preparation_that_another_one_overtakes_succeeds`).
    """
    digest = combined_digest([_digest(source) for source in sources.values()])
    folder = cache_dir / f"{kdd_format.name}-{KddBlocks.VERSION}-{digest}"
    with _without_chatter():
        if not folder.exists():
            _prepare(folder, sources, kdd_format)
        try:
            builder = KddBlocks(data_dir=folder, sources=sources, kdd_format=kdd_format)
            return {split: builder.table(split) for split in sources}
        except Exception as error:  # Every kind of damage is another type of another library.
            raise ValueError(f"the prepared data in {folder} is damaged ({error}); delete that folder.") from error


def _digest(source: Path | str) -> str:
    return KddBlocks.url_infos[source].checksum if isinstance(source, str) else file_digest(source)


def _prepare(folder: Path, sources: Mapping[str, Path | str], kdd_format: KddFormat) -> None:
    """Prepares beside `folder` and renames at the end, so that `folder` is complete or absent."""
    config = tfds.download.DownloadConfig(try_download_gcs=False, force_checksums_validation=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="preparing-") as name:
            temporary = Path(name)
            builder = KddBlocks(data_dir=temporary / "prepared", sources=sources, kdd_format=kdd_format)
            builder.download_and_prepare(download_dir=temporary / "downloads", download_config=config)
            try:
                (temporary / "prepared").rename(folder)
            except OSError:
                if not folder.exists():  # Otherwise another process was faster, and its files are as good.
                    raise
    except ConnectionError:
        raise
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"cannot prepare data in cache_dir={folder.parent} ({error}); free space there, or give another cache_dir."
        ) from error


def _download(url: str, dl_manager: tfds.download.DownloadManager) -> Path:
    """Downloads a file and checks it against its registered checksum."""
    way_out = "try again later, or get the file elsewhere and name its folder with --data_dir"
    try:
        # TFDS takes minutes to give up on a server that it cannot reach.
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_CONNECT_TIMEOUT_SECONDS).close()
        return Path(dl_manager.download(url))
    except tfds.download.download_manager.NonMatchingChecksumError as error:
        raise ValueError(f"{url} sent a file that does not match its registered checksum; {way_out}.") from error
    except (OSError, tfds.download.DownloadError) as error:
        raise ConnectionError(f"cannot download {url} ({error}); {way_out}.") from error


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Without the progress bars and the printed lines of TFDS; afterwards both are as they were."""
    shown = tqdm_utils._active  # There is no public way to ask.
    tfds.display_progress_bar(False)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.display_progress_bar(shown)
