"""All clients' training windows in one array, as a centralized detector sees them."""

import numpy as np
from jaxtyping import Bool, Float

from fedjax_anomaly.data.clients import Federation, client_runs
from fedjax_anomaly.data.windows import run_numbers, window_starts


class NoAttacksError(ValueError):
    """The training rows hold no attack, so that nothing supervised can be trained on them."""


def training_windows(federation: Federation, max_windows: int) -> Float[np.ndarray, "N T F"]:
    """The normal windows that the federated model is trained on, or as many evenly spaced ones as are allowed.

    Args:
      federation: the clients' data.
      max_windows: bound on N; clients keep their share.
    """
    series, starts, mask = (np.asarray(leaf) for leaf in federation.train)
    client, window = np.nonzero(mask)
    chosen = _evenly_spaced(len(client), max_windows)
    client, first = client[chosen], starts[client[chosen], window[chosen]]
    return series[client[:, None], first[:, None] + np.arange(federation.window_length)]


def labelled_windows(
    federation: Federation, max_windows: int
) -> tuple[Float[np.ndarray, "N T F"], Bool[np.ndarray, " N"]]:
    """Windows of normal and anomalous training rows; a window is anomalous if any of its rows is.

    Windows lie within one run of one client's rows, overlap by half, and hold no row that thresholds are set with.

    Args:
      federation: the clients' data.
      max_windows: bound on N; each class has at most half of them, evenly spaced.

    Returns:
      (windows, label), True where anomalous.

    Raises:
      NoAttacksError: when the training rows have no attack.
      ValueError: when no window, or every window, is anomalous.
    """
    table = federation.dataset.train
    if not table.label.any():
        raise NoAttacksError(
            f"the training rows of {federation.dataset.name!r} have no attack, so that nothing supervised can be "
            "trained on them; choose a method that sees no labels."
        )
    own = [_client_windows(federation, client) for client in range(federation.num_clients)]
    rows = np.concatenate(own)
    client = np.repeat(np.arange(len(own)), [len(windows) for windows in own])
    label = table.label[rows].any(axis=1)
    if label.all() or not label.any():
        raise ValueError(
            f"{np.count_nonzero(label)} of {len(label)} training windows of window_length={federation.window_length} "
            "are anomalous, and supervised training needs both kinds; give a shorter --window_length or more data."
        )
    classes = [np.flatnonzero(label), np.flatnonzero(~label)]
    chosen = np.sort(np.concatenate([part[_evenly_spaced(len(part), max_windows // 2)] for part in classes]))
    rows, client, label = rows[chosen], client[chosen], label[chosen]
    encoded = [
        encoder.transform(table.take(rows[client == c].reshape(-1))) for c, encoder in enumerate(federation.encoders)
    ]
    return np.concatenate(encoded).reshape(*rows.shape, -1), label


def _client_windows(federation: Federation, client: int) -> np.ndarray:
    """Int[n, T], rows of the training table."""
    rows = np.flatnonzero(federation.train_client == client)
    runs = client_runs(federation.dataset, federation.dataset.train, rows)
    held_out = np.isin(rows, federation.validation.row)
    left_out_before = np.cumsum(held_out)[~held_out]
    rows, runs = rows[~held_out], runs[~held_out]
    breaks = np.zeros(len(rows), bool)
    breaks[1:] = (np.diff(runs) != 0) | (np.diff(left_out_before) != 0)
    length = federation.window_length
    starts = window_starts(run_numbers(breaks), length, max(1, length // 2))
    return rows[starts[:, None] + np.arange(length)]


def _evenly_spaced(num_items: int, max_items: int) -> np.ndarray:
    """Indices of at most `max_items` of the items."""
    count = min(num_items, max_items)
    return np.arange(count) * num_items // max(count, 1)
