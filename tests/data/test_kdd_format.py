"""Reading the rows of raw NSL-KDD and KDD Cup 99 files."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow_datasets.datasets.kddcup99 import kddcup99_dataset_builder

from fedjax_anomaly.data.kdd_format import (
    CATEGORICAL_COLUMNS,
    COLUMN_GROUPS,
    COLUMNS,
    KDD_CUP_99,
    NSL_KDD,
    NUMERIC_COLUMNS,
    KddFormat,
    read_kdd_file,
)


def write(path: Path, *lines: str) -> Path:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def test_the_four_groups_partition_the_columns() -> None:
    assert [len(group) for group in COLUMN_GROUPS] == [9, 13, 9, 10]
    assert len(COLUMNS) == len(set(COLUMNS)) == 41
    assert [name for group in COLUMN_GROUPS for name in group] == list(COLUMNS)
    assert sorted(NUMERIC_COLUMNS + CATEGORICAL_COLUMNS) == sorted(COLUMNS)
    assert len(NUMERIC_COLUMNS) == 38


def test_the_columns_are_those_of_the_tfds_builder(tmp_path: Path) -> None:
    # TFDS reads the file by position in the order of its features; it spells one name after the task description
    # of the competition and not after its list of columns.
    features = list(kddcup99_dataset_builder.Builder(data_dir=tmp_path).info.features)
    assert [name.replace("is_hot_login", "is_host_login") for name in features] == [*COLUMNS, "label"]


@pytest.mark.parametrize(("kdd_format", "label", "rest"), [(NSL_KDD, "neptune", ",18"), (KDD_CUP_99, "neptune.", "")])
def test_rows_are_read_as_an_independent_reader_reads_them(
    kdd_format: KddFormat, label: str, rest: str, tmp_path: Path, kdd_line: Any
) -> None:
    normal = label.replace("neptune", "normal")
    lines = [kdd_line(0, label, "smtp") + rest, kdd_line(1, normal, "auth") + rest, kdd_line(2, label) + rest]
    path = write(tmp_path / "raw", *lines)
    table = read_kdd_file(path, kdd_format)
    with path.open(newline="") as file:
        records = [dict(zip(kdd_format.columns, fields, strict=True)) for fields in csv.reader(file)]
    expected = np.array([[float(record[name]) for name in NUMERIC_COLUMNS] for record in records], np.float32)
    np.testing.assert_array_equal(table.numeric, expected)
    assert table.numeric.dtype == np.float32
    assert table.numeric_names == NUMERIC_COLUMNS
    for name in CATEGORICAL_COLUMNS:
        assert table.column(name).strings().tolist() == [record[name] for record in records]
    assert table.column("service").names == ("auth", "http", "smtp")
    assert table.attack.strings().tolist() == ["neptune", "normal", "neptune"]
    assert table.label.tolist() == [True, False, True]
    assert table.time is None and table.source is None


def test_blank_lines_and_windows_line_ends_are_read_over(tmp_path: Path, kdd_line: Any) -> None:
    path = tmp_path / "raw"
    path.write_bytes(f"\ufeff{kdd_line(0, 'normal.')}\r\n\r\n{kdd_line(1, 'smurf.')}\r\n".encode())
    table = read_kdd_file(path, KDD_CUP_99)
    assert table.attack.strings().tolist() == ["normal", "smurf"]
    assert table.numeric[:, 0].tolist() == [0.0, 1.0]
    path.write_bytes(path.read_bytes() + b"2,tcp\r\n")
    with pytest.raises(ValueError, match="line 4: 2 columns, expected 42"):
        read_kdd_file(path, KDD_CUP_99)


@pytest.mark.parametrize("contents", ["", "\n\n"])
def test_an_empty_file_is_refused(contents: str, tmp_path: Path) -> None:
    (tmp_path / "raw").write_text(contents)
    with pytest.raises(ValueError, match=r"^\S+/raw is empty"):
        read_kdd_file(tmp_path / "raw", NSL_KDD)


def replace(line: str, column: str, value: str) -> str:
    fields = line.split(",")
    fields[NSL_KDD.columns.index(column)] = value
    return ",".join(fields)


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("src_bytes", "many", r"column 'src_bytes': 'many' is not a finite number"),
        ("src_bytes", "", r"column 'src_bytes': '' is not a finite number"),
        ("duration", "nan", r"column 'duration': 'nan' is not a finite number"),
        ("dst_host_count", "-inf", r"column 'dst_host_count': '-inf' is not a finite number"),
        ("count", "1e39", r"column 'count': '1e39' is not a finite number"),  # Above the largest float32, 3.4e38.
        ("count", "1,2", r"43 columns, expected 42"),
        ("service", "", r"column 'service': '' is not a name"),
        ("attack", "", r"column 'attack': '' is not the name of an attack followed by '\.'"),
        ("attack", ".", r"column 'attack': '\.' is not the name of an attack"),
        ("attack", "norm", r"column 'attack': 'norm' is not the name of an attack"),
    ],
)
def test_a_bad_line_is_named_with_its_file_line_and_column(
    column: str, value: str, fault: str, tmp_path: Path, kdd_line: Any
) -> None:
    bad = replace(kdd_line(1, "normal."), column, value)
    path = write(tmp_path / "raw", kdd_line(0, "normal."), "", bad, kdd_line(2, "normal."))
    with pytest.raises(ValueError, match=rf"^\S+/raw, line 3[,:] {fault}.*; get (it|the file) anew\.$"):
        read_kdd_file(path, KDD_CUP_99)


def test_an_open_quote_does_not_swallow_the_lines_after_it(tmp_path: Path, kdd_line: Any) -> None:
    path = write(tmp_path / "raw", *(kdd_line(row, "normal.", '"http') for row in range(3)))
    assert read_kdd_file(path, KDD_CUP_99).column("service").strings().tolist() == ['"http'] * 3


def test_a_value_that_is_no_text_is_refused(tmp_path: Path, kdd_line: Any) -> None:
    path = tmp_path / "raw"
    path.write_bytes(kdd_line(0, "normal.").encode().replace(b"http", b"\xff\xfe"))
    with pytest.raises(ValueError, match=r"^\S+/raw: .*UTF8"):
        read_kdd_file(path, KDD_CUP_99)


def test_the_column_that_is_dropped_is_checked(tmp_path: Path, kdd_line: Any) -> None:
    path = write(tmp_path / "raw", f"{kdd_line(0, 'normal')},")
    with pytest.raises(ValueError, match="line 1, column 'difficulty': '' is not a finite number"):
        read_kdd_file(path, NSL_KDD)


def test_the_files_of_the_two_data_sets_are_told_apart(tmp_path: Path, kdd_line: Any) -> None:
    path = write(tmp_path / "raw", kdd_line(0, "normal."))
    with pytest.raises(ValueError, match="line 1: 42 columns, expected 43"):
        read_kdd_file(path, NSL_KDD)
