"""Reading comma-separated text."""

from pathlib import Path

import numpy as np
import pytest

from fedjax_anomaly.data.raw_csv import named_folder, read_csv


def test_columns_are_read_by_name_and_strings_are_stripped():
    text = b"\xef\xbb\xbfid,kind,load\n1, cpu,0.5\n2,disk,2e3\n3,cpu ,-1\n"
    numbers, (kind,) = read_csv("raw", text, ("load",), ("kind",))
    np.testing.assert_array_equal(numbers, np.float32([[0.5], [2000], [-1]]))
    assert kind.names == ("cpu", "disk")
    assert kind.strings().tolist() == ["cpu", "disk", "cpu"]


def test_without_a_header_the_first_line_is_a_row():
    numbers, _ = read_csv("raw", b"1,2\n3,4\n", ("a", "b"), header=False)
    np.testing.assert_array_equal(numbers, np.float32([[1, 2], [3, 4]]))


def test_missing_values_are_nan_only_where_they_may_be():
    text = b"a,b\n1,\nNaN,4\n"
    numbers, _ = read_csv("raw", text, ("a", "b"), may_miss=True)
    np.testing.assert_array_equal(numbers, np.float32([[1, np.nan], [np.nan, 4]]))
    with pytest.raises(ValueError, match=r"^raw: .*invalid value ''"):
        read_csv("raw", text, ("a", "b"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "^raw: Empty CSV file; get the file anew"),
        (b"a,b\n", "^raw holds no rows"),
        (b"a,b\n1,2\n3\n", "^raw: .*Row #3: Expected 2 columns, got 1: 3; get"),
        (b"a,b\n1,2\n3,x\n", "^raw: .*Row #3: .*invalid value 'x'; get"),
        (b"a,c\n1,2\n", "^raw: Column 'b' in include_columns does not exist"),
        (b"a,b\n1,2\n3,nan\n", "^raw: column 'b' holds nan in row 3, which is no finite number"),
        (b"a,b\n1,2\n3,1e99\n", "^raw: column 'b' holds inf in row 3, which is no finite number"),
        (b"a,b\n1,2\n3,\x00\xff\n", "^raw: .*Row #3"),
    ],
)
def test_a_bad_file_is_named_with_its_row_or_column(text, message):
    with pytest.raises(ValueError, match=message) as error:
        read_csv("raw", text, ("a", "b"))
    assert "\n" not in str(error.value)


def test_a_data_set_without_a_folder_names_its_publisher(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"^SMD is not downloaded; get it from https://home .*--data_dir"):
        named_folder(None, "SMD", "https://home")
    with pytest.raises(FileNotFoundError, match=r"^--data_dir=\S+/absent is not a folder; put SMD from https://home"):
        named_folder(tmp_path / "absent", "SMD", "https://home")
    assert named_folder(str(tmp_path), "SMD", "https://home") == tmp_path
