"""A user's own CSV or Parquet files as a data set: a file per client, or one file with a column of clients."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedjax_anomaly.data.client_tables import SECONDS_PER_ROW, attack_column, evenly_spaced, join_clients, split_table
from fedjax_anomaly.data.own_files_format import FILE_SUFFIXES, Kind, OwnFile, client_name, read_file
from fedjax_anomaly.data.table import NORMAL, Categorical, Dataset, Table

_TELLING_NAMES = {
    "label_column": ("label", "is_anomaly", "anomaly"),
    "time_column": ("timestamp", "datetime"),
}
"""Names of columns that are hardly ever measurements, and the setting that they belong to."""

_INDEX_NAMES = ("", "Unnamed: 0", "__index_level_0__")
"""What the index of a pandas frame is called in files."""


@dataclasses.dataclass(frozen=True)
class _Roles:
    """What each column is for; an empty string where there is no such column."""

    client: str
    time: str
    label: str
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()


def load_files(
    data_dir: str | Path | None,
    *,
    client_column: str = "",
    time_column: str = "",
    label_column: str = "",
    test_fraction: float = 0.3,
) -> Dataset:
    """The user's own files: columns of numbers are numeric, columns of strings categorical.

    Args:
      data_dir: a folder with one file per client, `.csv` (compressed or not) or `.parquet`, named after the client; or
        a folder with folders `train` and `test` of such files; or one file.
      client_column: names the client of each row of the one file; empty takes each file for a client.
      time_column: ISO time stamps or seconds, by which a client's rows are sorted; empty takes the rows in the order of
        the file as evenly spaced.
      label_column: 0 and 1, true and false, or names of attacks, see `attack_column`; an empty cell is normal, and the
        files in `train` may go without. Empty: nothing is known of the test rows.
      test_fraction: share of each client's rows, its last ones, that are tested on where there is no folder `test`.

    Returns:
      Tables sorted by client and then time, in seconds since the first row of all; rows of one time keep their order.

    Raises:
      FileNotFoundError: when there are no files.
      ValueError: for a file that cannot be read, columns that differ between files, and cells that cannot be used
        (tests: `tests/data/test_own_files.py`).
    """
    train_paths, test_paths = _find(data_dir, client_column)
    train, test = [read_file(path) for path in train_paths], [read_file(path) for path in test_paths]
    roles = _roles(train, test, _Roles(client_column, time_column, label_column))
    origin = min(file.ticks(time_column)[0].min() for file in train + test) if time_column else 0
    clients = _clients(train, roles, origin)
    if test:
        tested = _clients(test, roles, origin)
        _check_same_clients(train[0], clients, test[0], tested)
        parts = {name: (rows, tested[name]) for name, rows in clients.items()}
    else:
        parts = {name: split_table(rows, test_fraction, f"client {name!r}") for name, rows in clients.items()}
    notes: tuple[str, ...] = ()
    if not time_column:
        parts = {name: (evenly_spaced(own), evenly_spaced(rest, len(own))) for name, (own, rest) in parts.items()}
        notes = (f"The files were read without times: rows count as {SECONDS_PER_ROW:g} seconds apart.",)
    return Dataset(
        name="files",
        train=join_clients([own for own, _ in parts.values()], list(parts)),
        test=join_clients([rest for _, rest in parts.values()], list(parts)),
        row_order="time",
        category_columns=("source",),
        notes=notes,
        labelled=bool(label_column),
    )


def _find(data_dir: str | Path | None, client_column: str) -> tuple[list[Path], list[Path]]:
    """The files to train on, and those to test on, if any."""
    if data_dir is None:
        raise FileNotFoundError("dataset=files needs --data_dir, a folder with one CSV or Parquet file per client.")
    place = Path(data_dir).expanduser()
    if not place.exists():
        raise FileNotFoundError(f"--data_dir={place} does not exist; give a folder with one file per client.")
    if place.is_file():
        if not place.name.endswith(FILE_SUFFIXES):
            raise ValueError(f"--data_dir={place} is not one of {', '.join(FILE_SUFFIXES)}; convert it.")
        return [place], []
    if (place / "train").is_dir() or (place / "test").is_dir():
        return _files(place / "train", client_column), _files(place / "test", client_column)
    return _files(place, client_column), []


def _files(folder: Path, client_column: str) -> list[Path]:
    """The files in a folder, by name; hidden ones and those with other suffixes are left out."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing; give both folders, train and test, or neither.")
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name.endswith(FILE_SUFFIXES))
    paths = [path for path in paths if not path.name.startswith(".")]
    if not paths:
        raise FileNotFoundError(f"no file in {folder} ends with {', '.join(FILE_SUFFIXES)}; put one per client there.")
    if client_column and len(paths) > 1:
        raise ValueError(
            f"client_column={client_column} is for one file with all clients, but {folder} holds {len(paths)} files; "
            "leave it out, or join the files."
        )
    names = [client_name(path) for path in paths]
    for path, name in zip(paths, names, strict=True):
        if names.count(name) > 1:
            raise ValueError(f"{path} is one of {names.count(name)} files of client {name!r}; leave one there.")
    return paths


def _roles(train: list[OwnFile], test: list[OwnFile], named: _Roles) -> _Roles:
    """Checks that the files agree on their columns, and tells numeric from categorical ones."""
    for files in (train, test):
        for file in files[1:]:
            _check_same_columns(files[0], set(files[0].columns), file, set(file.columns))
    if test:
        _check_same_columns(
            train[0], set(train[0].columns) - {named.label}, test[0], set(test[0].columns) - {named.label}
        )
    given = {"client_column": named.client, "time_column": named.time, "label_column": named.label}
    for setting, name in given.items():
        file = test[0] if test and setting == "label_column" else train[0]
        if name and name not in file.columns:
            raise ValueError(f"{setting}={name} is not in {file.path}; its columns are {', '.join(file.columns)}.")
        if name and list(given.values()).count(name) > 1:
            raise ValueError(f"{setting}={name} has two roles; name a column of its own for each.")
    features = [name for name in train[0].columns if not name or name not in given.values()]
    if not features:
        raise ValueError(f"{train[0].path} has no column to detect anomalies in; add measurements.")
    kinds = {name: _kind(train + test, name) for name in [*features, *([named.time] if named.time else [])]}
    for name in features:
        _check_feature(train + test, name, kinds[name], given)
    return dataclasses.replace(
        named,
        numeric=tuple(name for name in features if kinds[name] != "strings"),
        categorical=tuple(name for name in features if kinds[name] == "strings"),
    )


def _check_same_columns(first: OwnFile, expected: set[str], file: OwnFile, found: set[str]) -> None:
    for name in sorted(expected - found):
        raise ValueError(f"{file.path} lacks column {name!r} of {first.path}; give all files the same columns.")
    for name in sorted(found - expected):
        raise ValueError(f"{file.path} has column {name!r}, {first.path} does not; give all files the same columns.")


def _kind(files: Sequence[OwnFile], name: str) -> Kind:
    """What a column holds, in all files that have cells in it."""
    found = {file.kind(name): file for file in reversed(files)}
    found.pop("empty", None)
    if len(found) > 1:
        (kind, file), (other_kind, other_file) = sorted(found.items())[:2]
        detail = f" ({other_file.first_non_number(name)})" if other_kind == "strings" else ""
        raise ValueError(
            f"column {name!r} holds {kind} in {file.path}, but {other_kind}{detail} in {other_file.path}; give it one "
            "kind in all files."
        )
    return next(iter(found), "empty")


def _check_feature(files: Sequence[OwnFile], name: str, kind: Kind, given: dict[str, str]) -> None:
    """Refuses what is no measurement by its name or its kind."""
    path = files[0].path
    for setting, telling in _TELLING_NAMES.items():
        if name.lower() in telling and not given[setting]:
            raise ValueError(
                f"column {name!r} of {path} would be taken for a measurement; give --{setting}={name}, or rename it "
                "if it is one."
            )
    if name in _INDEX_NAMES:
        raise ValueError(
            f"column {name!r} of {path} looks like the index of a pandas frame; write the file with index=False, or "
            "name the column."
        )
    if kind == "time stamps":
        raise ValueError(f"column {name!r} of {path} holds time stamps; give --time_column={name}, or remove it.")
    if kind != "strings":
        return
    for file in files:
        if file.share_of_numbers(name) > 0.5:
            raise ValueError(
                f"column {name!r} of {file.path} holds {file.first_non_number(name)}, while most of its cells are "
                "numbers; correct such cells, or remove the column."
            )


def _clients(files: list[OwnFile], roles: _Roles, origin: float) -> dict[str, Table]:
    """The rows of each client, in order of time where there is one."""
    clients = {}
    for file in files:
        table = _table(file, roles, origin)
        for name, rows in _rows_of_clients(file, roles.client):
            if table.time is not None:
                rows = rows[np.argsort(table.time[rows], kind="stable")]
            clients[name] = table.take(rows)
    return clients


def _rows_of_clients(file: OwnFile, client_column: str) -> list[tuple[str, np.ndarray]]:
    if not client_column:
        return [(client_name(file.path), np.arange(len(file)))]
    clients = file.strings(client_column)
    unnamed = np.flatnonzero(clients.is_name(""))
    if len(unnamed):
        raise ValueError(
            f"{file.path}: column {client_column!r} is empty in row {unnamed[0] + file.first_row}; name the client."
        )
    return [(name, np.flatnonzero(clients.codes == code)) for code, name in enumerate(clients.names)]


def _table(file: OwnFile, roles: _Roles, origin: float) -> Table:
    time = None
    if roles.time:
        ticks, seconds_per_tick = file.ticks(roles.time)
        time = (ticks - origin) * seconds_per_tick
    numeric = np.empty((len(file), len(roles.numeric)), np.float32)
    for position, name in enumerate(roles.numeric):
        numeric[:, position] = file.numbers(name)
    attack = Categorical(np.zeros(len(file), np.int32), (NORMAL,))
    if roles.label in file.columns:
        where = f"{file.path}: column {roles.label!r}"
        attack = attack_column(file.labels(roles.label), where, first_row=file.first_row)
    return Table(
        numeric=numeric,
        numeric_names=roles.numeric,
        categorical=tuple(file.strings(name) for name in roles.categorical),
        categorical_names=roles.categorical,
        attack=attack,
        time=time,
    )


def _check_same_clients(train: OwnFile, own: dict[str, Table], test: OwnFile, tested: dict[str, Table]) -> None:
    for name in sorted(own.keys() ^ tested.keys()):
        there, absent = (train, test) if name in own else (test, train)
        places = f"{there.path.parent}, but not in {absent.path.parent}"
        raise ValueError(f"client {name!r} is in {places}; give every client rows in both.")
