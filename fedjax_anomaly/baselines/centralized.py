"""Centralized training: the clients' windows as those of one client, for the very same round function."""

import numpy as np

from fedjax_anomaly.types import ClientData


def pooled(data: ClientData) -> ClientData:
    """All clients' rows and windows as one client's; no window joins rows of two clients.

    Args:
      data: of C clients.

    Returns:
      Data of one client, without padding of windows.
    """
    series, starts, mask = (np.asarray(leaf) for leaf in data)
    num_clients, num_rows = series.shape[:2]
    shifted = starts + num_rows * np.arange(num_clients, dtype=starts.dtype)[:, None]
    own = shifted[mask]
    return ClientData(series.reshape(1, num_clients * num_rows, -1), own[None], np.ones((1, len(own)), bool))
