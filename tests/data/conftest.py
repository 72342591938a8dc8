"""Small raw files in the formats of the real ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

LineFactory = Callable[..., str]


@pytest.fixture(scope="session")
def kdd_line() -> LineFactory:
    """Makes the 41 columns and the label of a connection, comma-separated; the numbers tell the row and the column."""

    def line(row: int, attack: str, service: str = "http") -> str:
        fields = [f"{row}.{column:02d}" for column in range(41)]
        fields[1:4] = ["tcp", service, "SF"]
        return ",".join([*fields, attack])

    return line


@pytest.fixture
def nsl_kdd_dir(tmp_path: Path, kdd_line: LineFactory) -> Path:
    """A folder with NSL-KDD files of 4 training and 2 test rows."""
    folder = tmp_path / "raw" / "nsl_kdd"
    folder.mkdir(parents=True)
    train = [("normal", "http"), ("neptune", "private"), ("normal", "smtp"), ("back", "http")]
    test = [("normal", "smtp"), ("mscan", "ftp")]
    for name, rows in (("KDDTrain+.txt", train), ("KDDTest+.txt", test)):
        lines = [f"{kdd_line(row, *labels)},21\n" for row, labels in enumerate(rows)]
        (folder / name).write_text("".join(lines))
    return folder.parent


@pytest.fixture
def kddcup99_dir(tmp_path: Path, kdd_line: LineFactory) -> Path:
    """A folder with KDD Cup 99 files of 3 training and 2 test rows."""
    folder = tmp_path / "raw" / "kddcup99"
    folder.mkdir(parents=True)
    for name, attacks in (("kddcup.data_10_percent", ["normal.", "smurf.", "smurf."]), ("corrected", ["normal."] * 2)):
        (folder / name).write_text("".join(f"{kdd_line(row, attack)}\n" for row, attack in enumerate(attacks)))
    return folder.parent
