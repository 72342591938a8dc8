"""A user's own CSV and Parquet files."""

import gzip
import lzma
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import csv, parquet

from fedjax_anomaly.data.load import load
from fedjax_anomaly.data.own_files import load_files
from fedjax_anomaly.data.table import Dataset


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def numbered(num_rows: int, first: int = 0) -> str:
    """Rows of `cpu` and `mode`, whose values tell the row."""
    return "cpu,mode\n" + "".join(f"{first + row}.5,mode {row % 2}\n" for row in range(num_rows))


def test_a_file_is_a_client_and_its_last_rows_are_tested(tmp_path):
    write(tmp_path / "web.csv", numbered(10))
    write(tmp_path / "db.csv", "mode, cpu\n" + "".join(f" mode 7 ,{100 + row}\n" for row in range(20)))
    write(tmp_path / "README.md", "no data")
    write(tmp_path / ".hidden.csv", "")
    dataset = load("files", data_dir=tmp_path, test_fraction=0.3)
    assert (dataset.name, dataset.row_order, dataset.category_columns) == ("files", "time", ("source",))
    assert dataset.train.source.strings().tolist() == ["db"] * 14 + ["web"] * 7
    np.testing.assert_array_equal(dataset.train.numeric[:, 0], [*range(100, 114), *(0.5 + np.arange(7))])
    np.testing.assert_array_equal(dataset.test.numeric[:, 0], [*range(114, 120), 7.5, 8.5, 9.5])
    assert dataset.train.numeric_names == ("cpu",)
    assert dataset.train.categorical_names == ("mode",)
    assert dataset.test.column("mode").strings().tolist() == ["mode 7"] * 6 + ["mode 1", "mode 0", "mode 1"]
    # Without times, a client's test rows go on where its training rows end.
    np.testing.assert_array_equal(dataset.train.time, 60.0 * np.array([*range(14), *range(7)]))
    np.testing.assert_array_equal(dataset.test.time, 60.0 * np.array([*range(14, 20), *range(7, 10)]))
    assert dataset.notes == ("The files were read without times: rows count as 60 seconds apart.",)
    assert not dataset.labelled


def test_every_format_is_read_alike(tmp_path):
    plain = numbered(6).encode()
    for name, contents in {
        "a.csv": plain,
        "b.csv.gz": gzip.compress(plain, mtime=0),
        "c.csv.xz": lzma.compress(plain),
        "d.csv": b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n"),
    }.items():
        (tmp_path / name).write_bytes(contents)
    table = csv.read_csv(tmp_path / "a.csv")
    parquet.write_table(table, tmp_path / "e.parquet")
    coded = table.set_column(1, "mode", table["mode"].dictionary_encode())
    parquet.write_table(coded.set_column(0, "cpu", table["cpu"].cast("float32")), tmp_path / "f.parquet")
    parquet.write_table(table.set_column(0, "cpu", table["cpu"].cast(pyarrow.decimal128(4, 1))), tmp_path / "g.parquet")
    dataset = load_files(tmp_path)
    assert dataset.train.source.names == ("a", "b", "c", "d", "e", "f", "g")
    np.testing.assert_array_equal(dataset.train.numeric[:, 0], np.tile([0.5, 1.5, 2.5, 3.5], 7).astype(np.float32))
    assert dataset.train.column("mode").strings().tolist() == ["mode 0", "mode 1"] * 14


def test_folders_of_training_and_test_files_are_kept_apart(tmp_path):
    for client in ("m1", "m2"):
        write(tmp_path / "train" / f"{client}.csv", "cpu,hot\n1,true\n2,False\n3,true\n")
        write(tmp_path / "test" / f"{client}.csv", "kind,hot,cpu\n,true,4\nleak,false,5\n")
    dataset = load_files(tmp_path, label_column="kind")
    assert dataset.labelled
    np.testing.assert_array_equal(dataset.train.numeric, [[1, 1], [2, 0], [3, 1]] * 2)
    np.testing.assert_array_equal(dataset.test.numeric, [[4, 1], [5, 0]] * 2)
    assert dataset.test.attack.strings().tolist() == ["normal", "leak"] * 2
    assert not dataset.train.label.any()
    np.testing.assert_array_equal(dataset.test.time, [180, 240, 180, 240])


def test_training_files_may_be_labelled_and_hold_many_clients(tmp_path):
    write(tmp_path / "train" / "all.csv", "cpu,host,kind\n1,x,0\n2,y,1\n3,x,0\n")
    write(tmp_path / "test" / "later.csv", "cpu,host,kind\n4,y,0\n5,x,1\n")
    dataset = load_files(tmp_path, client_column="host", label_column="kind")
    np.testing.assert_array_equal(dataset.train.numeric[:, 0], [1, 3, 2])
    assert dataset.train.label.tolist() == [False, False, True]
    np.testing.assert_array_equal(dataset.test.numeric[:, 0], [5, 4])
    assert dataset.test.label.tolist() == [True, False]
    (tmp_path / "test" / "later.csv").write_text("cpu,host\n4,y\n5,x\n")
    refuse(r"^label_column=kind is not in \S+/later\.csv", tmp_path, client_column="host", label_column="kind")


def test_one_file_is_divided_by_its_column_of_clients(tmp_path):
    rows = [(row, row % 3) for row in range(30)]
    path = write(tmp_path / "all.csv", "cpu,host\n" + "".join(f"{cpu},{host}\n" for cpu, host in rows))
    for place in (path, tmp_path, str(path)):
        dataset = load_files(place, client_column="host", test_fraction=0.5)
        assert dataset.train.source.names == ("0", "1", "2")
        for table, part in ((dataset.train, range(15)), (dataset.test, range(15, 30))):
            expected = [cpu for host in range(3) for cpu in part if cpu % 3 == host]
            np.testing.assert_array_equal(table.numeric[:, 0], expected)
    assert load_files(write(tmp_path / "b" / "x.csv", "cpu\n1\n2\n")).train.source.names == ("x",)


def times_as(kind: str, second: float) -> str:
    """A point in time, in one of the ways in which files state it."""
    moment = datetime(2026, 3, 1, 23, 59, 30, tzinfo=UTC) + timedelta(seconds=second)
    if kind == "zone":
        return moment.astimezone().isoformat()
    if kind == "iso":
        return moment.replace(tzinfo=None).isoformat(sep=" ")
    return str(moment.timestamp()) if kind == "epoch" else str(second)


@pytest.mark.parametrize("kind", ["iso", "zone", "epoch", "plain"])
def test_rows_are_sorted_by_time_and_equal_times_keep_their_order(tmp_path, kind):
    seconds = {"a": [90, 0, 60, 60, 30], "b": [10, 400.5, 200, 100, 300]}
    for client, own in seconds.items():
        lines = [f"{row},{times_as(kind, second)}\n" for row, second in enumerate(own)]
        write(tmp_path / f"{client}.csv", "cpu,when\n" + "".join(lines))
    dataset = load_files(tmp_path, time_column="when", test_fraction=0.4)
    np.testing.assert_allclose(dataset.train.time, [0, 30, 60, 10, 100, 200], atol=1e-6)
    np.testing.assert_allclose(dataset.test.time, [60, 90, 300, 400.5], atol=1e-6)
    np.testing.assert_array_equal(dataset.train.numeric[:, 0], [1, 4, 2, 0, 3, 2])
    np.testing.assert_array_equal(dataset.test.numeric[:, 0], [3, 0, 4, 1])
    assert dataset.notes == ()


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["0", "1", "", "0"], ["normal", "anomaly", "normal", "normal"]),
        (["true", "false", "false", "true"], ["anomaly", "normal", "normal", "anomaly"]),
        (["normal", "dos", "", "Benign"], ["normal", "dos", "normal", "normal"]),
        (["", "", "", ""], ["normal"] * 4),
    ],
)
def test_labels_of_any_usual_kind_are_read(tmp_path, cells, names):
    write(tmp_path / "a.csv", "cpu,kind\n" + "".join(f"1,{cell}\n" for cell in cells))
    write(tmp_path / "b.csv", "cpu,kind\n1,normal\n1,scan\n1,normal\n1,normal\n")
    dataset = load_files(tmp_path, label_column="kind", test_fraction=0.5)
    expected = [*names[:2], "normal", "scan"], [*names[2:], "normal", "normal"]
    assert tuple(table.attack.strings().tolist() for table in (dataset.train, dataset.test)) == expected


def test_a_column_that_is_empty_at_one_client_is_as_the_others_have_it(tmp_path):
    write(tmp_path / "a.csv", "cpu,note\n1,\n2,\n")
    write(tmp_path / "b.csv", "cpu,note\n1,x\n2,y\n")
    dataset = load_files(tmp_path)
    assert dataset.train.column("note").strings().tolist() == ["", "x"]


def refuse(message: str, place: Path, **arguments: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        load_files(place, **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", r"b\.csv: column 'cpu' is empty in row 4 \(1 such rows in all\)"),
        ("NaN", r"b\.csv: column 'cpu' is empty in row 4"),
        ("inf", r"b\.csv: column 'cpu' holds inf in row 4"),
        ("1e50", r"b\.csv: column 'cpu' holds 1e\+50 in row 4"),
        ("?", r"^column 'cpu' holds numbers in \S+/a\.csv, but strings \('\?' in row 4\) in \S+/b\.csv"),
    ],
)
def test_a_cell_that_is_no_number_is_named(tmp_path, cell, message):
    write(tmp_path / "a.csv", "cpu,mem\n1,1\n2,2\n")
    write(tmp_path / "b.csv", f"cpu,mem\n1,1\n2,2\n{cell},3\n4,4\n")
    refuse(message, tmp_path)


def test_a_cell_that_is_no_number_is_named_at_a_single_client(tmp_path):
    refuse(r"'cpu' of \S+/a\.csv holds '\?' in row 3, while most", write(tmp_path / "a.csv", "cpu\n1\n?\n3\n"))
    refuse(r"a\.csv: column 'cpu' is empty in row 3", write(tmp_path / "a.csv", "cpu\n1\n\n3\n"))
    path = tmp_path / "c.parquet"
    parquet.write_table(pyarrow.table({"cpu": [1.0, 2.0, float("nan")]}), path)
    refuse(r"c\.parquet: column 'cpu' holds nan in row 3", path)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1", ""], r"a\.csv: column 'when' is empty in row 3"),
        (["2026-01-01T00:00:00", ""], r"a\.csv: time column 'when' is empty in row 3"),
        (["2026-01-01", "01/02/2026"], r"a\.csv: time column 'when' holds '01/02/2026' in row 3; give ISO"),
        (["2026-01-01T00:00:00", "2026-01-01T00:00:00Z"], r"time column 'when' .* all with or all without a zone"),
        (["1767225600000", "1767225601000"], r"a\.csv: time column 'when' reaches 1\.767e\+12, too many for seconds"),
        (["12:30", "12:31"], r"a\.csv: column 'when' holds time32\[s\] values"),
    ],
)
def test_a_cell_that_is_no_time_is_named(tmp_path, cells, message):
    path = write(tmp_path / "a.csv", "cpu,when\n" + "".join(f"1,{cell}\n" for cell in cells))
    refuse(message, path, time_column="when")


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("b.csv", b"", "b.csv is empty"),
        ("b.csv", b"cpu,mem\n", "b.csv has a header but no rows"),
        ("b.csv", b"cpu,mem\n1,2\n3,\xff\n", r"b.csv is not UTF-8 text \(row 3\)"),
        ("b.csv", "cpu,mem\n1,2\n".encode("utf-16"), r"b.csv is not UTF-8 text \(row 1\)"),
        ("b.csv", b"cpu,mem\n1,2\n3\n", r"b.csv cannot be read \(.*Row #3: Expected 2 columns, got 1"),
        ("b.csv", b"cpu;mem\n1;2\n", r"b.csv begins with 'cpu;mem', without a comma"),
        ("b.csv", b"cpu,cpu\n1,2\n", r"b.csv has 2 columns called 'cpu'"),
        ("b.csv", b"cpu\n1\n", r"b.csv lacks column 'mem' of \S+/a.csv"),
        ("b.csv", b"cpu,mem,disk\n1,2,3\n", r"b.csv has column 'disk', \S+/a.csv does not"),
        ("b.csv", b"cpu,mem\n1,2\n", r"client 'b' has 1 row, too few"),
        ("b.csv.gz", gzip.compress(b"cpu,mem\n1,2\n3,4\n", mtime=0)[:-12], "b.csv.gz cannot be decompressed"),
        ("b.parquet", b"PAR1 and no more", r"b.parquet cannot be read \(.*not a parquet file"),
        ("a.csv.gz", gzip.compress(b"cpu,mem\n1,2\n", mtime=0), r"a.csv is one of 2 files of client 'a'"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, name, contents, message):
    write(tmp_path / "a.csv", "cpu,mem\n1,2\n3,4\n")
    (tmp_path / name).write_bytes(contents)
    refuse(message, tmp_path)


def test_a_truncated_parquet_file_is_one_line(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"cpu": np.arange(1000.0)}), path)
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:100] + bytes(200) + whole[300:]):
        path.write_bytes(damaged)
        refuse(r"a\.parquet cannot be read \(", path)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("cpu,Label", "1,0", r"column 'Label' of \S+ would be taken for a measurement; give --label_column=Label"),
        ("cpu,timestamp", "1,0", r"column 'timestamp' of \S+ would be .*; give --time_column=timestamp"),
        (",cpu", "0,1", r"column '' of \S+ looks like the index of a pandas frame"),
        ("cpu,day", "1,2026-01-01", r"column 'day' of \S+ holds time stamps; give --time_column=day"),
        ("cpu,hour", "1,12:30", r"a\.csv: column 'hour' holds time32\[s\] values"),
    ],
)
def test_a_column_that_is_no_measurement_is_refused(tmp_path, header, row, message):
    refuse(message, write(tmp_path / "a.csv", f"{header}\n{row}\n{row}\n"))


def test_labels_other_than_0_and_1_are_named(tmp_path):
    path = write(tmp_path / "a.csv", "cpu,kind\n1,0\n1,3\n")
    refuse(r"a\.csv: column 'kind': 3 in row 3 is neither 0 \(normal\) nor 1", path, label_column="kind")


def test_settings_that_do_not_fit_the_files_are_named(tmp_path):
    path = write(tmp_path / "a.csv", "cpu,host\n1,x\n2,\n")
    refuse(r"^time_column=when is not in \S+/a\.csv; its columns are cpu, host", path, time_column="when")
    refuse(r"^time_column=cpu has two roles", path, time_column="cpu", label_column="cpu")
    refuse(r"^\S+/a\.csv: column 'host' is empty in row 3; name the client", path, client_column="host")
    refuse(r"has no column to detect anomalies in", path, client_column="host", time_column="cpu")
    write(tmp_path / "b.csv", "cpu,host\n1,x\n2,y\n")
    refuse(r"^client_column=host is for one file .* holds 2 files", tmp_path, client_column="host")


def test_what_is_not_there_is_named(tmp_path):
    refuse(r"^--data_dir=\S+/absent does not exist", tmp_path / "absent")
    refuse(r"^no file in \S+ ends with \.csv, \.csv\.gz", tmp_path)
    refuse(r"^--data_dir=\S+/a\.txt is not one of \.csv", write(tmp_path / "a.txt", "cpu\n1\n"))
    write(tmp_path / "train" / "a.csv", "cpu\n1\n")
    refuse(r"^\S+/test is missing; give both", tmp_path)
    write(tmp_path / "test" / "a.csv", "cpu\n1\n")
    write(tmp_path / "test" / "b.csv", "cpu\n1\n")
    refuse(r"^client 'b' is in \S+/test, but not in \S+/train", tmp_path)
    (tmp_path / "test" / "b.csv").unlink()
    write(tmp_path / "test" / "a.csv", "cpu,note\n1,x\n")
    refuse(r"^\S+/test/a\.csv has column 'note', \S+/train/a\.csv does not", tmp_path)
    with pytest.raises(FileNotFoundError, match="^dataset=files needs --data_dir"):
        load("files")


def test_real_machines_as_files_are_as_their_loader_has_them(tmp_path, real_data_dir):
    smd = load("smd", data_dir=real_data_dir)
    names = smd.train.source.names[:2]
    for part in ("train", "test"):
        for name in names:
            table = getattr(smd, part).take(getattr(smd, part).source.is_name(name))
            columns = {c: table.numeric[:, p] for p, c in enumerate(table.numeric_names)}
            (tmp_path / part).mkdir(exist_ok=True)
            csv.write_csv(
                pyarrow.table(columns | {"kind": table.attack.strings().tolist()}), tmp_path / part / f"{name}.csv"
            )
    own: Dataset = load_files(tmp_path, label_column="kind")
    for part in ("train", "test"):
        table, expected = getattr(own, part), getattr(smd, part)
        expected = expected.take(np.isin(expected.source.strings(), names))
        order = np.argsort(expected.source.strings(), kind="stable")
        np.testing.assert_array_equal(table.numeric, expected.numeric[order])
        np.testing.assert_array_equal(table.time, expected.time[order])
        np.testing.assert_array_equal(table.label, expected.label[order])
