"""UNSW-NB15: connections of a test bed under nine kinds of attack, in the partition of its publishers."""

import contextlib
from pathlib import Path

import numpy as np

from fedjax_anomaly.data.files import find_raw_file, read_raw_file
from fedjax_anomaly.data.raw_csv import named_folder, read_csv
from fedjax_anomaly.data.table import NORMAL, Categorical, Dataset, Table

HOMEPAGE = "https://research.unsw.edu.au/projects/unsw-nb15-dataset"
FILE_NAMES = ("UNSW_NB15_training-set.csv", "UNSW_NB15_testing-set.csv")

TRAIN_ROWS = 175_341
TEST_ROWS = 82_332
"""Rows of the official halves. Many public copies swap the files' names, so the rows tell which is which."""

TRAIN_SHARE = 0.7
"""Share of the rows to train on where only one half is there."""

BASIC_COLUMNS = (
    "proto",
    "state",
    "service",
    "dur",
    "spkts",
    "dpkts",
    "sbytes",
    "dbytes",
    "rate",
    "sttl",
    "dttl",
    "sload",
    "dload",
    "sloss",
    "dloss",
)
"""The protocol, the one flow feature of the partition, and the basic features; `rate` is in the partition only."""

CONTENT_COLUMNS = ("swin", "stcpb", "dtcpb", "dwin", "smean", "dmean", "trans_depth", "response_body_len")
TIME_COLUMNS = ("sinpkt", "dinpkt", "sjit", "djit", "tcprtt", "synack", "ackdat")

GENERAL_COLUMNS = ("ct_state_ttl", "is_ftp_login", "ct_ftp_cmd", "ct_flw_http_mthd", "is_sm_ips_ports")
"""Additional generated features of general purpose."""

CONNECTION_COLUMNS = (
    "ct_srv_src",
    "ct_srv_dst",
    "ct_dst_ltm",
    "ct_src_ltm",
    "ct_src_dport_ltm",
    "ct_dst_sport_ltm",
    "ct_dst_src_ltm",
)
"""Additional generated features: counts among the last hundred connections."""

COLUMN_GROUPS = (BASIC_COLUMNS, CONTENT_COLUMNS, TIME_COLUMNS, GENERAL_COLUMNS, CONNECTION_COLUMNS)
CATEGORICAL_COLUMNS = ("proto", "state", "service")
NUMERIC_COLUMNS = tuple(name for group in COLUMN_GROUPS for name in group if name not in CATEGORICAL_COLUMNS)


def load_unsw_nb15(data_dir: str | Path | None, seed: int = 0) -> Dataset:
    """UNSW-NB15: 175,341 training and 82,332 test rows, sorted by label.

    As the order of the rows means nothing, a row's five groups of columns become the steps of a sequence. Where only
    one half is there, its duplicates are dropped, lest a row be trained on and tested, and the rest is split by row.

    Args:
      data_dir: where one or both of `FILE_NAMES` lie, compressed or not, or lie in its folder `unsw_nb15`.
      seed: of the split where only one half is there.

    Returns:
      The rows as they stand in the files; `notes` tells when they are not the publishers' split.

    Raises:
      FileNotFoundError: without `data_dir`, and when neither file is there.
      ValueError: for a file that is not one of the halves, or is damaged (test:
        `tests/data/test_unsw_nb15.py::test_a_file_of_another_size_is_refused`).

    Guarantees:
      The published numbers of rows and labels (test:
        `tests/data/test_unsw_nb15.py::test_the_published_counts_are_met`).
      Of one half, no row is in both tables (test:
        `tests/data/test_unsw_nb15.py::test_one_half_is_split_without_duplicates`).

    References: Moustafa and Slay, "UNSW-NB15: a comprehensive data set for network intrusion detection systems"
    (MilCIS 2015), tables II to VI for the groups of columns.
    """
    halves = _read_halves(named_folder(data_dir, "UNSW-NB15", HOMEPAGE))
    notes: tuple[str, ...] = ()
    if len(halves) == 2:
        train, test = halves[TRAIN_ROWS], halves[TEST_ROWS]
    else:
        (half,) = halves.values()
        train, test, notes = _split(half, seed)
    return Dataset(
        name="unsw_nb15",
        train=train,
        test=test,
        row_order="none",
        feature_groups=COLUMN_GROUPS,
        category_columns=("service", "proto", "state", "attack"),
        notes=notes,
    )


def _read_halves(folder: Path) -> dict[int, Table]:
    """One table or both, by its number of rows."""
    find_raw_file(folder, "unsw_nb15", FILE_NAMES, HOMEPAGE)  # Raises when there is none.
    halves: dict[int, Table] = {}
    for name in FILE_NAMES:
        with contextlib.suppress(FileNotFoundError):
            path = find_raw_file(folder, "unsw_nb15", (name,), HOMEPAGE)
            table = _read(path)
            if len(table) not in (TRAIN_ROWS, TEST_ROWS):
                raise ValueError(
                    f"{path} holds {len(table)} rows, but the official halves have {TRAIN_ROWS} and {TEST_ROWS}; "
                    f"get it from {HOMEPAGE}."
                )
            if len(table) in halves:
                raise ValueError(
                    f"both files in {path.parent} hold {len(table)} rows, so they are the same half; "
                    f"remove one, or get the other half from {HOMEPAGE}."
                )
            halves[len(table)] = table
    return halves


def _read(path: Path) -> Table:
    numbers, (*categorical, attack) = read_csv(
        str(path), read_raw_file(path), (*NUMERIC_COLUMNS, "label"), (*CATEGORICAL_COLUMNS, "attack_cat")
    )
    attack = Categorical(attack.codes, tuple(NORMAL if name == "Normal" else name for name in attack.names))
    table = Table(
        numeric=np.ascontiguousarray(numbers[:, :-1]),
        numeric_names=NUMERIC_COLUMNS,
        categorical=tuple(categorical),
        categorical_names=CATEGORICAL_COLUMNS,
        attack=attack,
    )
    differing = np.flatnonzero(table.label != (numbers[:, -1] != 0))
    if len(differing):
        raise ValueError(
            f"{path}, row {differing[0] + 2}: label is {numbers[differing[0], -1]:g}, which contradicts its attack_cat "
            f"({attack.strings()[differing[0]]}); get the file anew."
        )
    return table


def _split(half: Table, seed: int) -> tuple[Table, Table, tuple[str, ...]]:
    """Drops rows that are there already, and deals the others out at random."""
    kept = _first_of_equal_rows(half)
    order = np.random.default_rng(seed).permutation(kept)
    size = round(TRAIN_SHARE * len(kept))
    note = (
        f"Only the {len(half):,}-row half of UNSW-NB15 was found: {len(half) - len(kept):,} duplicate rows were "
        f"dropped and the other {len(kept):,} split by row, {TRAIN_SHARE:.0%} to train and {1 - TRAIN_SHARE:.0%} to "
        f"test (seed {seed}); this is not the publishers' split."
    )
    return half.take(np.sort(order[:size])), half.take(np.sort(order[size:])), (note,)


def _first_of_equal_rows(table: Table) -> np.ndarray:
    """Int[L'], increasing: the first of all rows that are equal in every column and the attack."""
    codes = [column.codes.astype(np.float32) for column in (*table.categorical, table.attack)]
    rows = np.ascontiguousarray(np.column_stack([table.numeric, *codes]) + np.float32(0))  # -0 becomes 0.
    as_bytes = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).reshape(-1)
    return np.sort(np.unique(as_bytes, return_index=True)[1])
