"""From a data set and an assignment of rows to what the clients train on, calibrate with and are tested on."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int

from fedjax_anomaly.data.encoding import Encoder, EncodingScope, EncodingSums, encoding_sums, fit_encoder
from fedjax_anomaly.data.private_encoding import EncodingNoise, fit_private_encoders
from fedjax_anomaly.data.table import Dataset, Table
from fedjax_anomaly.data.windows import held_out_rows, pad_short_runs, run_numbers, window_starts
from fedjax_anomaly.types import ClientData, RowSet


@dataclasses.dataclass(frozen=True)
class Federation:
    """A data set divided over clients, encoded and windowed.

    Attributes:
      dataset: the rows as read.
      train_client: Int[L_train], the client of each training row.
      test_client: Int[L_test], the client of each test row.
      encoders: the encoding of each client, fitted on normal training rows; all have one layout, and are one and the
        same where the encoding's scope is global.
      train: normal windows to train on.
      validation: held-out normal training rows, for thresholds; `row` indexes `dataset.train`.
      test: all test rows; `row` indexes `dataset.test`.
      validation_runs: Int[L], a number that changes where a row of `validation` does not continue the one before it.
      test_runs: Int[L], the same for `test`.
      window_length: T, rows per window.
      encoding_upload_bytes: what the clients send, in all, for the encoding to be fitted.
    """

    dataset: Dataset
    train_client: np.ndarray
    test_client: np.ndarray
    encoders: tuple[Encoder, ...]
    train: ClientData
    validation: RowSet
    test: RowSet
    validation_runs: np.ndarray
    test_runs: np.ndarray
    window_length: int
    encoding_upload_bytes: int

    @property
    def num_clients(self) -> int:
        """C."""
        return len(self.train.starts)

    @property
    def encoder(self) -> Encoder:
        """The first client's encoding, for what all share: the layout, the names of the columns and categories."""
        return self.encoders[0]

    @property
    def client_names(self) -> list[str]:
        """The source of each client where it holds one source only, else its number."""
        return _client_names(self.dataset, self.train_client, self.num_clients)


def _client_names(dataset: Dataset, train_client: Int[np.ndarray, " L"], num_clients: int) -> list[str]:
    source = dataset.train.source
    if source is None:
        return [str(client) for client in range(num_clients)]
    own = [np.unique(source.codes[train_client == client]) for client in range(num_clients)]
    return [source.names[codes[0]] if len(codes) == 1 else str(client) for client, codes in enumerate(own)]


@dataclasses.dataclass(frozen=True)
class _ClientRows:
    """One client's normal training rows: indices into the training table, run numbers, and which are held out."""

    rows: np.ndarray
    runs: np.ndarray
    held_out: np.ndarray


def federate(
    dataset: Dataset,
    train_client: np.ndarray,
    test_client: np.ndarray,
    *,
    window_length: int,
    window_stride: int,
    scoring_stride: int,
    validation_fraction: float,
    min_windows: int = 1,
    encoding_scope: EncodingScope = "global",
    clip: float = 5.0,
    deviation_floor: float = 0.05,
    min_category_count: int = 10,
    vocabularies: tuple[tuple[str, ...], ...] | None = None,
    encoding_noise: EncodingNoise | None = None,
    seed: int,
) -> Federation:
    """Splits off held-out rows, fits the encoding, encodes and windows each client's rows.

    Args:
      dataset: the rows.
      train_client: Int[L_train], the client of each training row.
      test_client: Int[L_test], the client of each test row.
      window_length: T; must be 1 where `dataset.row_order` is "none".
      window_stride: rows between neighbouring training windows.
      scoring_stride: rows between neighbouring scored windows; with 1 a row lies in up to T windows.
      validation_fraction: share of a client's normal training rows held out, in (0, 0.5].
      min_windows: least number of training windows of a client.
      encoding_scope: `client` standardises each client's numeric columns by its own rows; categories are always shared.
      clip: see `fit_encoder`.
      deviation_floor: see `fit_encoder`.
      min_category_count: see `fit_encoder`.
      vocabularies: see `fit_encoder`.
      encoding_noise: fits the encoding by `fit_private_encoders`, on the rows of training windows, and cuts held-out
        rows into windows without overlap; None adds no noise.
      seed: for the choice of held-out rows where they have no order.

    Raises:
      ValueError: for rows without order and windows of more than one row, and for a client with too few windows.

    Guarantees:
      No window mixes clients, splits, sources, or rows of a table without order; no anomalous row is trained on;
      the encoding does not depend on test, held-out or anomalous rows (tests: `tests/data/test_clients.py`).
    """
    if dataset.row_order == "none" and window_length != 1:
        raise ValueError(
            f"window_length={window_length} would mix rows of {dataset.name!r}, whose row order means nothing; "
            "leave --window_length at 0: there a window is one row and its feature groups are the time steps."
        )
    if not 0.0 < validation_fraction <= 0.5:
        raise ValueError(f"validation_fraction={validation_fraction} must lie in (0, 0.5].")
    num_clients = int(max(train_client.max(), test_client.max(initial=0))) + 1
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x5B17]))
    clients = [
        _normal_rows(dataset, np.flatnonzero(train_client == c), window_length, validation_fraction, rng)
        for c in range(num_clients)
    ]
    settings: dict[str, Any] = {
        "column_names": dataset.train.numeric_names + dataset.train.categorical_names,
        "clip": clip,
        "deviation_floor": deviation_floor,
        "min_category_count": min_category_count,
        "vocabularies": vocabularies,
    }
    if encoding_noise is None:
        encoders, upload_bytes = _fit(dataset.train, clients, encoding_scope, partial(fit_encoder, **settings))
    else:
        in_windows = [dataset.train.take(_rows_in_windows(c, window_length, window_stride)) for c in clients]
        encoders, upload_bytes = fit_private_encoders(
            in_windows, noise=encoding_noise, scope=encoding_scope, **settings
        )
    names = _client_names(dataset, train_client, num_clients)
    train = _training_windows(dataset.train, names, encoders, clients, window_length, window_stride, min_windows)
    validation, validation_runs = _rows_to_score(
        dataset.train,
        encoders,
        [_held_out(c, window_length, whole_windows=encoding_noise is not None) for c in clients],
        window_length,
        scoring_stride if encoding_noise is None else window_length,
        pad=False,
    )
    if len(validation.row) == 0:
        raise ValueError(
            f"no client has a held-out normal run of window_length={window_length} rows to set a threshold with; "
            "give a larger --validation_fraction, a shorter --window_length, or more data."
        )
    test_rows = [np.flatnonzero(test_client == c) for c in range(num_clients)]
    test, test_runs = _rows_to_score(
        dataset.test,
        encoders,
        [(rows, client_runs(dataset, dataset.test, rows)) for rows in test_rows],
        window_length,
        scoring_stride,
        pad=True,
    )
    return Federation(
        dataset,
        train_client,
        test_client,
        encoders,
        train,
        validation,
        test,
        validation_runs,
        test_runs,
        window_length,
        upload_bytes,
    )


def client_runs(dataset: Dataset, table: Table, rows: np.ndarray) -> np.ndarray:
    """Run numbers of one client's rows.

    In time order a run ends where a row is missing or the time makes a leap; in any order where the source changes.
    """
    if dataset.row_order == "none":
        return np.arange(len(rows))
    breaks = np.zeros(len(rows), bool)
    if dataset.row_order == "time":
        breaks[1:] = np.diff(rows) != 1
    source = np.zeros(len(rows), int) if table.source is None else table.source.codes[rows]
    breaks[1:] |= np.diff(source) != 0
    if dataset.row_order == "time" and table.time is not None:
        breaks[1:] |= _leaps(table.time[rows], source)
    return run_numbers(breaks)


def _leaps(time: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Bool[L - 1]: where more than 1.5 of the source's median steps lie between a row and the next one."""
    step = np.diff(time)
    leaps = np.zeros(len(step), bool)
    for code in np.unique(source):
        own = (source[:-1] == code) & (source[1:] == code)
        if own.any():
            leaps |= own & (step > 1.5 * np.median(step[own]))
    return leaps


def _normal_rows(
    dataset: Dataset, rows: np.ndarray, length: int, validation_fraction: float, rng: np.random.Generator
) -> _ClientRows:
    """Leaves out anomalous rows, holds some out, and breaks the runs at both."""
    label = dataset.train.label[rows]
    anomalies_before = np.cumsum(label)[~label]
    rows, runs = rows[~label], client_runs(dataset, dataset.train, rows)[~label]
    held_out = held_out_rows(len(rows), validation_fraction, length, ordered=dataset.row_order != "none", rng=rng)
    breaks = np.zeros(len(rows), bool)
    breaks[1:] = (np.diff(runs) != 0) | (np.diff(anomalies_before) != 0) | (np.diff(held_out.astype(int)) != 0)
    return _ClientRows(rows, run_numbers(breaks), held_out)


def _fit(
    table: Table, clients: list[_ClientRows], scope: EncodingScope, fit: Callable[[list[EncodingSums]], Encoder]
) -> tuple[tuple[Encoder, ...], int]:
    """The encoding of each client, and the bytes that the clients send for it."""
    sums = [encoding_sums(table.take(c.rows[~c.held_out])) for c in clients]
    shared = fit(sums)
    if scope == "global":
        return (shared,) * len(clients), sum(s.num_bytes for s in sums)
    own = [fit([s]) if s.count else shared for s in sums]
    encoders = tuple(dataclasses.replace(shared, mean=e.mean, deviation=e.deviation) for e in own)
    return encoders, sum(s.category_bytes for s in sums)


def _rows_in_windows(client: _ClientRows, length: int, stride: int) -> np.ndarray:
    """The rows of one client's training windows, each once."""
    rows, runs = client.rows[~client.held_out], client.runs[~client.held_out]
    return rows[np.unique(window_starts(runs, length, stride)[:, None] + np.arange(length))]


def _held_out(client: _ClientRows, length: int, *, whole_windows: bool) -> tuple[np.ndarray, np.ndarray]:
    """The held-out rows of one client and their run numbers; all, or only what fills windows without overlap."""
    rows, runs = client.rows[client.held_out], client.runs[client.held_out]
    if whole_windows:
        kept = (window_starts(runs, length, length)[:, None] + np.arange(length)).ravel()
        rows, runs = rows[kept], runs[kept]
    return rows, runs


def _training_windows(
    table: Table,
    names: list[str],
    encoders: tuple[Encoder, ...],
    clients: list[_ClientRows],
    length: int,
    stride: int,
    min_windows: int,
) -> ClientData:
    """Pads the clients' rows and windows to the largest client."""
    rows = [c.rows[~c.held_out] for c in clients]
    starts = [window_starts(c.runs[~c.held_out], length, stride) for c in clients]
    for name, own in zip(names, starts, strict=True):
        if len(own) < min_windows:
            raise ValueError(
                f"client {name} has {len(own)} normal training windows of {length} rows, fewer than the "
                f"{min_windows} it needs; give it more rows, a shorter --window_length, fewer --num_clients or a "
                "larger --dirichlet_alpha, or leave it out."
            )
    num_clients = len(clients)
    num_rows = max(len(own) for own in rows)
    num_windows = max(len(own) for own in starts)
    series = np.zeros((num_clients, num_rows, encoders[0].layout.num_features), np.float32)
    padded_starts = np.zeros((num_clients, num_windows), np.int32)
    mask = np.zeros((num_clients, num_windows), bool)
    for client in range(num_clients):
        series[client, : len(rows[client])] = encoders[client].transform(table.take(rows[client]))
        padded_starts[client, : len(starts[client])] = starts[client]
        mask[client, : len(starts[client])] = True
    return ClientData(series, padded_starts, mask)


def _rows_to_score(
    table: Table,
    encoders: tuple[Encoder, ...],
    clients: list[tuple[np.ndarray, np.ndarray]],
    length: int,
    stride: int,
    *,
    pad: bool,
) -> tuple[RowSet, np.ndarray]:
    """Joins the clients' rows; with `pad` short runs are padded to a window, else they are left out. And their runs."""
    series_rows, starts, owners, kept, breaks = [], [], [], [], []
    offset = 0
    for client, (rows, runs) in enumerate(clients):
        if pad:
            order = pad_short_runs(runs, length)
        else:
            _, run_index, size = np.unique(runs, return_inverse=True, return_counts=True)
            order = np.flatnonzero(size[run_index] >= length) if len(runs) else np.zeros(0, np.int64)
        repeated = np.zeros(len(order), bool)
        repeated[1:] = np.diff(order) == 0
        starts.append(offset + window_starts(runs[order], length, stride, cover=True))
        series_rows.append(encoders[client].transform(table.take(rows[order])))
        kept.append(np.where(repeated, -1, rows[order]))
        owners.append(np.full(len(order), client))
        breaks.append(np.diff(runs[order], prepend=-1) != 0)
        offset += len(order)
    joined = RowSet(
        np.concatenate(series_rows),
        np.concatenate(starts).astype(np.int32),
        np.concatenate(owners).astype(np.int32),
        np.concatenate(kept),
    )
    return joined, run_numbers(np.concatenate(breaks))
