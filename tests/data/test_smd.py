"""SMD, in small files of its format and as it is."""

import lzma
from pathlib import Path

import numpy as np
import pytest

from fedjax_anomaly.data.files import read_raw_file
from fedjax_anomaly.data.load import load
from fedjax_anomaly.data.smd import METRICS, load_smd
from fedjax_anomaly.data.table import Dataset

NUM_TRAIN, NUM_TEST = 5, 6


def write_rows(path: Path, first: float, num_rows: int) -> None:
    """Rows of `first` plus the row's number, in every column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join([f"{first + row:.6f}"] * 38) + "\n" for row in range(num_rows)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`ServerMachineDataset` with two machines, the second with a compressed test file."""
    folder = tmp_path / "smd" / "ServerMachineDataset"
    for number, machine in enumerate(("machine-1-10", "machine-1-2")):
        write_rows(folder / "train" / f"{machine}.txt", 100.0 * number, NUM_TRAIN)
        write_rows(folder / "test" / f"{machine}.txt", 100.0 * number + 50, NUM_TEST)
        labels = folder / "test_label" / f"{machine}.txt"
        labels.parent.mkdir(exist_ok=True)
        labels.write_text("0\n0\n1\n1\n0\n0\n")
    plain = folder / "test" / "machine-1-2.txt"
    (folder / "test" / "machine-1-2.txt.xz").write_bytes(lzma.compress(plain.read_bytes()))
    plain.unlink()
    (folder / "train" / "README.md").write_text("not a machine")
    return folder


def test_a_machine_is_a_source_in_time_order(folder):
    dataset = load_smd(folder)
    assert dataset.name == "smd"
    assert dataset.row_order == "time"
    assert dataset.category_columns == ("source",)
    for table, first, size in ((dataset.train, 0, NUM_TRAIN), (dataset.test, 50, NUM_TEST)):
        assert table.source.names == ("machine-1-2", "machine-1-10")
        assert table.source.strings().tolist() == ["machine-1-2"] * size + ["machine-1-10"] * size
        values = np.concatenate([100.0 + first + np.arange(size), first + np.arange(size)])
        np.testing.assert_array_equal(table.numeric, np.repeat(values[:, None], 38, axis=1).astype(np.float32))
    np.testing.assert_array_equal(dataset.train.time, np.tile(60.0 * np.arange(5), 2))
    np.testing.assert_array_equal(dataset.test.time, np.tile(60.0 * np.arange(5, 11), 2))
    assert not dataset.train.label.any()
    assert dataset.test.attack.strings().tolist() == (["normal"] * 2 + ["anomaly"] * 2 + ["normal"] * 2) * 2
    assert dataset.notes == ("2 of the 28 machines of SMD were found.",)


def test_the_folder_is_found_from_above(folder):
    sizes = {len(load_smd(place).train) for place in (folder, folder.parent, folder.parent.parent, str(folder))}
    assert sizes == {2 * NUM_TRAIN}


def test_labels_of_another_length_are_refused(folder):
    (folder / "test_label" / "machine-1-2.txt").write_text("0\n1\n")
    with pytest.raises(
        ValueError, match=r"test_label/machine-1-2\.txt holds 2 labels, but machine-1-2 has 6 test rows"
    ):
        load_smd(folder)


def test_labels_other_than_0_and_1_are_refused(folder):
    (folder / "test_label" / "machine-1-2.txt").write_text("0\n2\n0\n0\n0\n0\n")
    with pytest.raises(ValueError, match=r"test_label/machine-1-2\.txt holds a label other than 0 and 1"):
        load_smd(folder)


@pytest.mark.parametrize("part", ["test", "test_label"])
def test_a_missing_file_of_a_machine_is_named(folder, part):
    (folder / part / "machine-1-10.txt").unlink()
    with pytest.raises(FileNotFoundError, match=rf"^no machine-1-10\.txt .* in \S+/{part} .*OmniAnomaly"):
        load_smd(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n", "Expected 38 columns, got 2"),
        (",".join(["1"] * 37 + ["nan"]) + "\n", "column 'udp_snd_buf_errs' holds nan in row 1"),
        ("", "Empty CSV file"),
    ],
)
def test_a_damaged_file_is_named(folder, text, message):
    (folder / "train" / "machine-1-2.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"train/machine-1-2\.txt: .*{message}"):
        load_smd(folder)


def test_a_truncated_archive_is_one_line(folder):
    path = folder / "test" / "machine-1-2.txt.xz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"^\S+/machine-1-2\.txt\.xz cannot be decompressed") as error:
        load_smd(folder)
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_named_with_the_publisher(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no folder `train` of SMD in .*ServerMachineDataset.*OmniAnomaly"):
        load_smd(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(FileNotFoundError, match=r"^no machine-\*\.txt in \S+/train"):
        load_smd(tmp_path)


@pytest.fixture(scope="module")
def real(real_data_dir: Path) -> Dataset:
    return load("smd", data_dir=real_data_dir)


def test_the_real_machines_are_read_whole(real, real_data_dir):
    # 12 machines; the publishers' issue 22 names the 38 columns.
    assert len(METRICS) == len(set(METRICS)) == 38
    folder = real_data_dir / "smd" / "ServerMachineDataset"
    for table, part in ((real.train, "train"), (real.test, "test")):
        assert len(table.source.names) == 12
        lines = read_raw_file(folder / part / "machine-1-6.txt.xz").splitlines()
        own = table.take(table.source.is_name("machine-1-6"))
        assert len(own) == len(lines)
        np.testing.assert_array_equal(own.numeric[-1], np.array(lines[-1].decode().split(","), np.float32))
        assert table.numeric.min() >= 0.0
    label = read_raw_file(folder / "test_label" / "machine-1-6.txt.xz").split()
    own = real.test.take(real.test.source.is_name("machine-1-6"))
    np.testing.assert_array_equal(own.label, np.array(label) == b"1")
