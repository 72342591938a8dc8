"""SMD, the Server Machine Dataset: five weeks of 38 metrics of each of 28 servers of a large internet company."""

from pathlib import Path

import numpy as np

from fedjax_anomaly.data.files import SUFFIXES, find_raw_file, read_raw_file
from fedjax_anomaly.data.raw_csv import named_folder, read_csv
from fedjax_anomaly.data.table import NORMAL, Categorical, Dataset, Table

HOMEPAGE = "https://github.com/NetManAIOps/OmniAnomaly"

METRICS = (
    "cpu_r",
    "load_1",
    "load_5",
    "load_15",
    "mem_shmem",
    "mem_u",
    "mem_u_e",
    "total_mem",
    "disk_q",
    "disk_r",
    "disk_rb",
    "disk_svc",
    "disk_u",
    "disk_w",
    "disk_wa",
    "disk_wb",
    "si",
    "so",
    "eth1_fi",
    "eth1_fo",
    "eth1_pi",
    "eth1_po",
    "tcp_tw",
    "tcp_use",
    "active_opens",
    "curr_estab",
    "in_errs",
    "in_segs",
    "listen_overflows",
    "out_rsts",
    "out_segs",
    "passive_opens",
    "retransegs",
    "tcp_timeouts",
    "udp_in_dg",
    "udp_out_dg",
    "udp_rcv_buf_errs",
    "udp_snd_buf_errs",
)
"""The columns in the order of the files, as issue 22 of the publishers' repository names them."""

ATTACK_NAMES = (NORMAL, "anomaly")
SAMPLING_SECONDS = 60.0
NUM_MACHINES = 28


def load_smd(data_dir: str | Path | None) -> Dataset:
    """SMD: a machine's first half trains, without labels and taken for normal; its second half is tested.

    The publishers scaled each metric of a machine to [0, 1].

    Args:
      data_dir: the folder `ServerMachineDataset`, the one that holds it, or the one that holds it in `smd`; its files
        compressed or not. Every machine in `train` is used.

    Returns:
      Tables sorted by machine and then time; a machine's test time goes on where its training time ends.

    Raises:
      FileNotFoundError: without `data_dir`, and when the folders or a machine's files are not there.
      ValueError: for a file with other than 38 columns, a value that is no finite number, or labels that are not one 0
        or 1 for each test row (test: `tests/data/test_smd.py::test_labels_of_another_length_are_refused`).

    Guarantees:
      The published numbers of rows (test: `tests/data/test_smd.py::test_the_real_machines_are_read_whole`).

    References: Su, Zhao, Niu, Liu, Sun and Pei, "Robust anomaly detection for multivariate time series through
    stochastic recurrent neural network" (KDD 2019).
    """
    folder = _find_folder(named_folder(data_dir, "SMD", HOMEPAGE))
    machines = _machines(folder)
    train = [_read(folder, "train", machine, METRICS) for machine in machines]
    test = [_read(folder, "test", machine, METRICS) for machine in machines]
    labels = [_read_labels(folder, machine, len(rows)) for machine, rows in zip(machines, test, strict=True)]
    notes: tuple[str, ...] = ()
    if len(machines) < NUM_MACHINES:
        notes = (f"{len(machines)} of the {NUM_MACHINES} machines of SMD were found.",)
    return Dataset(
        name="smd",
        train=_table(machines, train, [np.zeros(len(rows), np.int32) for rows in train], [0] * len(train)),
        test=_table(machines, test, labels, [len(rows) for rows in train]),
        row_order="time",
        category_columns=("source",),
        notes=notes,
    )


def _find_folder(data_dir: Path) -> Path:
    candidates = (data_dir / "smd" / "ServerMachineDataset", data_dir / "ServerMachineDataset", data_dir)
    for folder in candidates:
        if (folder / "train").is_dir():
            return folder
    raise FileNotFoundError(
        f"no folder `train` of SMD in {' or '.join(str(folder) for folder in candidates)}; "
        f"get ServerMachineDataset from {HOMEPAGE}, or correct --data_dir."
    )


def _machines(folder: Path) -> tuple[str, ...]:
    """The names of the machines, in the order of their numbers."""
    names = {path.name.removesuffix(suffix) for path in (folder / "train").iterdir() for suffix in SUFFIXES}
    machines = {name.removesuffix(".txt") for name in names if name.startswith("machine-") and name.endswith(".txt")}
    if not machines:
        raise FileNotFoundError(f"no machine-*.txt in {folder / 'train'}; get ServerMachineDataset from {HOMEPAGE}.")
    return tuple(sorted(machines, key=lambda name: [part.zfill(9) for part in name.split("-")]))


def _read(folder: Path, part: str, machine: str, columns: tuple[str, ...]) -> np.ndarray:
    """Float32[L, P], one of the files of a machine."""
    path = find_raw_file(folder, part, (f"{machine}.txt",), HOMEPAGE)
    return read_csv(str(path), read_raw_file(path), columns, header=False)[0]


def _read_labels(folder: Path, machine: str, num_rows: int) -> np.ndarray:
    """Int32[L], indices into `ATTACK_NAMES`."""
    label = _read(folder, "test_label", machine, ("label",))[:, 0]
    name = folder / "test_label" / f"{machine}.txt"
    if len(label) != num_rows:
        raise ValueError(
            f"{name} holds {len(label)} labels, but {machine} has {num_rows} test rows; get both files anew."
        )
    if not np.isin(label, (0, 1)).all():
        raise ValueError(f"{name} holds a label other than 0 and 1; get the file anew.")
    return label.astype(np.int32)


def _table(machines: tuple[str, ...], rows: list[np.ndarray], labels: list[np.ndarray], first: list[int]) -> Table:
    """Joins the machines; `first` is the number of each machine's first sample."""
    sizes = [len(own) for own in rows]
    sample = np.concatenate([start + np.arange(size) for start, size in zip(first, sizes, strict=True)])
    return Table(
        numeric=np.concatenate(rows),
        numeric_names=METRICS,
        categorical=(),
        categorical_names=(),
        attack=Categorical(np.concatenate(labels), ATTACK_NAMES),
        time=SAMPLING_SECONDS * sample,
        source=Categorical(np.repeat(np.arange(len(machines), dtype=np.int32), sizes), machines),
    )
