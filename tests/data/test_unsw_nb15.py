"""UNSW-NB15, in small files of its format and as it is."""

import gzip
import lzma
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fedjax_anomaly.data import unsw_nb15
from fedjax_anomaly.data.files import read_raw_file
from fedjax_anomaly.data.load import load
from fedjax_anomaly.data.table import Dataset
from fedjax_anomaly.data.unsw_nb15 import COLUMN_GROUPS, load_unsw_nb15

HEADER = (
    "id,dur,proto,service,state,spkts,dpkts,sbytes,dbytes,rate,sttl,dttl,sload,dload,sloss,dloss,sinpkt,dinpkt,sjit,"
    "djit,swin,stcpb,dtcpb,dwin,tcprtt,synack,ackdat,smean,dmean,trans_depth,response_body_len,ct_srv_src,ct_state_ttl,"
    "ct_dst_ltm,ct_src_dport_ltm,ct_dst_sport_ltm,ct_dst_src_ltm,is_ftp_login,ct_ftp_cmd,ct_flw_http_mthd,ct_src_ltm,"
    "ct_srv_dst,is_sm_ips_ports,attack_cat,label"
)
TRAIN_NAME, TEST_NAME = "UNSW_NB15_training-set.csv", "UNSW_NB15_testing-set.csv"


def line(row: int, attack: str = "Normal", *, content: int | None = None) -> str:
    """A row whose `dur` is `content`, or its own number."""
    fields = [str(row), str(row if content is None else content), "tcp", "-", "FIN", *["7"] * 38]
    return ",".join([*fields, attack, str(int(attack.strip() != "Normal"))])


def write(path: Path, lines: list[str]) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([HEADER, *lines, ""]).encode())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for halves of 20 training and 10 test rows."""
    monkeypatch.setattr(unsw_nb15, "TRAIN_ROWS", 20)
    monkeypatch.setattr(unsw_nb15, "TEST_ROWS", 10)
    (tmp_path / "unsw_nb15").mkdir()
    return tmp_path


@pytest.mark.parametrize("swapped", [False, True])
def test_the_halves_are_told_apart_by_their_rows(small, swapped):
    train, test = (TEST_NAME, TRAIN_NAME) if swapped else (TRAIN_NAME, TEST_NAME)
    write(small / "unsw_nb15" / train, [line(row) for row in range(18)] + [line(18, " Fuzzers"), line(19, "Worms")])
    write(small / test, [line(row, content=3) for row in range(10)])
    dataset = load_unsw_nb15(small)
    assert dataset.notes == ()
    assert (len(dataset.train), len(dataset.test)) == (20, 10)  # The equal rows of the test half stay.
    assert dataset.train.attack.strings().tolist() == ["normal"] * 18 + ["Fuzzers", "Worms"]
    duration = dataset.train.numeric[:, dataset.train.numeric_names.index("dur")]
    np.testing.assert_array_equal(duration, np.arange(20))


def test_the_groups_are_all_columns_once_without_id_and_label(small):
    write(small / TEST_NAME, [line(row) for row in range(10)])
    dataset = load_unsw_nb15(small)
    assert dataset.feature_groups == COLUMN_GROUPS
    grouped = [name for group in COLUMN_GROUPS for name in group]
    assert sorted(grouped) == sorted(set(HEADER.split(",")) - {"id", "label", "attack_cat"})
    assert set(grouped) == {*dataset.train.numeric_names, *dataset.train.categorical_names}
    assert dataset.row_order == "none"
    for name in dataset.category_columns:
        assert len(dataset.train.column(name)) == len(dataset.train)


def test_one_half_is_split_without_duplicates(small):
    lines = [line(row, content=row % 5) for row in range(8)]  # 3 of these are there already,
    lines += [
        line(8, "DoS", content=0),
        line(9, "DoS", content=0),
    ]  # as is one of these; another attack is no duplicate.
    write(small / TRAIN_NAME, lines)
    dataset = load_unsw_nb15(small, seed=4)
    rows = [
        (float(table.numeric[row, table.numeric_names.index("dur")]), table.attack.strings()[row])
        for table in (dataset.train, dataset.test)
        for row in range(len(table))
    ]
    assert sorted(rows) == [(0.0, "DoS")] + [(float(content), "normal") for content in range(5)]
    assert len(dataset.train) == round(0.7 * 6)
    (note,) = dataset.notes
    for part in ("10-row half", "4 duplicate rows", "other 6 split by row, 70% to train and 30% to test (seed 4)"):
        assert part in note


def test_the_seed_decides_the_split(small):
    write(small / TEST_NAME, [line(row) for row in range(10)])
    splits = {seed: load_unsw_nb15(small, seed).train.numeric[:, 0].tolist() for seed in range(4)}
    assert load_unsw_nb15(small, 0).train.numeric[:, 0].tolist() == splits[0]
    assert len({tuple(split) for split in splits.values()}) > 1


def test_a_file_of_another_size_is_refused(small):
    write(small / TEST_NAME, [line(row) for row in range(9)])
    with pytest.raises(ValueError, match=r"testing-set\.csv holds 9 rows, but the official halves have 20 and 10"):
        load_unsw_nb15(small)


def test_the_same_half_twice_is_refused(small):
    for name in (TRAIN_NAME, TEST_NAME):
        write(small / name, [line(row) for row in range(10)])
    with pytest.raises(ValueError, match=r"both files in \S+ hold 10 rows, so they are the same half"):
        load_unsw_nb15(small)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEADER}\n{line(1).replace(',7', '', 1)}\n", "Row #2: Expected 45 columns, got 44"),
        (f"{HEADER}\n{line(1).replace(',7', ',nan', 1)}\n", "column 'spkts' holds nan in row 2"),
        (f"{HEADER.replace('sload', 'load')}\n{line(1)}\n", "Column 'sload' in include_columns does not exist"),
        (f"{HEADER}\n{line(1)}\n{line(2, 'Worms')[:-1]}0\n", r"row 3: label is 0, .* attack_cat \(Worms\)"),
    ],
)
def test_a_damaged_file_is_named(small, text, message):
    (small / TEST_NAME).write_text(text)
    with pytest.raises(ValueError, match=rf"testing-set\.csv[:,].*{message}"):
        load_unsw_nb15(small)


def test_a_truncated_archive_is_one_line(small):
    for suffix, compress in ((".xz", lzma.compress), (".gz", gzip.compress)):
        (small / f"{TEST_NAME}{suffix}").write_bytes(compress((HEADER * 50).encode())[:-20])
        with pytest.raises(ValueError, match=rf"\S+testing-set\.csv\{suffix} cannot be decompressed") as error:
            load_unsw_nb15(small)
        assert "\n" not in str(error.value)
        (small / f"{TEST_NAME}{suffix}").unlink()


def test_missing_files_are_named_with_the_publisher(small):
    with pytest.raises(FileNotFoundError, match=r"^no UNSW_NB15_training-set\.csv or UNSW_NB15_testing.*https://"):
        load_unsw_nb15(small)


@pytest.fixture(scope="module")
def real(real_data_dir: Path) -> Dataset:
    return load("unsw_nb15", data_dir=real_data_dir)


def test_the_published_counts_are_met(real_data_dir):
    table = unsw_nb15._read(real_data_dir / "unsw_nb15" / f"{TEST_NAME}.xz")
    # Moustafa and Slay (2016), table 2: the smaller half of the partition.
    assert Counter(table.attack.strings().tolist()) == {
        "normal": 37_000,
        "Generic": 18_871,
        "Exploits": 11_132,
        "Fuzzers": 6_062,
        "DoS": 4_089,
        "Reconnaissance": 3_496,
        "Analysis": 677,
        "Backdoor": 583,
        "Shellcode": 378,
        "Worms": 44,
    }


def test_the_real_half_is_split_into_distinct_rows(real, real_data_dir):
    raw = read_raw_file(real_data_dir / "unsw_nb15" / f"{TEST_NAME}.xz")
    distinct = {text.partition(b",")[2] for text in raw.splitlines()[1:]}
    assert len(real.train) + len(real.test) == len(distinct) == 82_332 - 26_387
    assert "26,387 duplicate rows" in real.notes[0]
    assert {"normal", "Worms"} <= set(real.train.attack.strings()) & set(real.test.attack.strings())
