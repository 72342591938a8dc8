"""Who holds which rows: the simulated division of one data set over the nodes of a federation.

Every scheme is a matrix of shares, one row per category and one column per client; the rows of a category are cut by
its shares. Where rows have an order, a client gets a contiguous piece of each category, so that its rows are still a
sequence; where they have none, the rows are dealt out at random. Training and test rows are cut by the same shares, so
a client is tested on the kind of traffic that it sees.

`feature_shift` and `concept_shift` deal rows out like `iid`; what differs between clients is in `data/shift.py`.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from fedjax_anomaly.data.table import Categorical, Dataset

Scheme = Literal["iid", "dirichlet", "quantity", "natural", "shards", "feature_shift", "concept_shift"]

_MAX_DRAWS = 100


def partition(
    dataset: Dataset,
    scheme: Scheme,
    num_clients: int,
    *,
    seed: int,
    alpha: float = 0.5,
    shards_per_client: int = 2,
    column: str | None = None,
    min_normal_rows: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Assigns every training and test row to a client.

    Args:
      dataset: the rows; its `category_columns` give the default column.
      scheme: `iid` gives every client the same share of every category; `dirichlet` draws each category's shares from
        a symmetric Dirichlet distribution (Hsu et al. 2019); `quantity` draws one vector of shares for all categories,
        so that clients differ in size only; `natural` gives each category to one client whole, largest first to the
        client that has least; `shards` sorts the normal training rows by category, cuts them into equal shards and
        deals these out at random (McMahan et al. 2017), where a category without such rows is shared out evenly;
        `feature_shift` and `concept_shift` are `iid` here.
      num_clients: C.
      seed: the same seed gives the same assignment.
      alpha: concentration for `dirichlet` and `quantity`; smaller is more skewed.
      shards_per_client: shards of each client for `shards`; fewer is more skewed.
      column: the categorical column whose values are the categories; None takes the data set's first.
      min_normal_rows: drawn shares are redrawn until every client has as many normal training rows.

    Returns:
      Int[L_train] and Int[L_test], the client of each row.

    Raises:
      ValueError: for an unknown scheme or column, a bound that does not hold, or when no draw gives every client
        enough rows.

    References:
      Hsu, Qi and Brown 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
      Classification", section 3.
      McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", section 3.
    """
    _check(scheme, num_clients, alpha, shards_per_client)
    name = column or dataset.category_columns[0]
    train_column, test_column = dataset.train.column(name), dataset.test.column(name)
    categories = sorted(set(train_column.names) | set(test_column.names))
    normal = ~dataset.train.label
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x9A27]))
    counts = _counts(train_column, categories, normal)
    if scheme == "natural" and np.count_nonzero(counts) < num_clients:
        raise ValueError(
            f"partition=natural needs at least num_clients={num_clients} values of {name!r} among the normal training "
            f"rows, but there are {np.count_nonzero(counts)}; give fewer clients or another --partition."
        )
    draws = _MAX_DRAWS if scheme in ("dirichlet", "quantity") else 1
    for _ in range(draws):
        shares = _shares(scheme, counts, num_clients, alpha, shards_per_client, rng)
        shuffle = rng if dataset.row_order == "none" else None
        train_client = _cut(train_column, categories, shares, shuffle)
        rows = np.bincount(train_client[normal], minlength=num_clients)
        if rows.min() >= min_normal_rows:
            return train_client, _cut(test_column, categories, shares, shuffle)
    who, way_out = "a client", "give fewer clients, a larger --dirichlet_alpha, or more data"
    tries = f", in {draws} draws" if draws > 1 else ""
    if scheme == "natural":
        held = [value for value, share in zip(categories, shares[:, rows.argmin()], strict=True) if share]
        who, way_out = f"the client of {name} {', '.join(held)}", "leave it out, or give it more rows"
    raise ValueError(
        f"partition={scheme} over num_clients={num_clients} leaves {who} with {rows.min()} normal training rows, fewer "
        f"than the {min_normal_rows} it needs{tries}; {way_out}."
    )


def _check(scheme: str, num_clients: int, alpha: float, shards_per_client: int) -> None:
    if scheme not in get_args(Scheme):
        raise ValueError(f"partition={scheme!r} is unknown; the schemes are {', '.join(get_args(Scheme))}.")
    if num_clients < 1:
        raise ValueError(f"num_clients={num_clients} must be at least 1.")
    if not alpha > 0:
        raise ValueError(f"dirichlet_alpha={alpha} must be positive.")
    if shards_per_client < 1:
        raise ValueError(f"shards_per_client={shards_per_client} must be at least 1.")


def _counts(column: Categorical, categories: Sequence[str], chosen: np.ndarray) -> np.ndarray:
    """How many of the chosen rows each category has."""
    frequency = dict(zip(column.names, np.bincount(column.codes[chosen], minlength=len(column.names)), strict=True))
    return np.array([frequency.get(name, 0) for name in categories])


def _shares(
    scheme: Scheme, counts: np.ndarray, num_clients: int, alpha: float, shards_per_client: int, rng: np.random.Generator
) -> np.ndarray:
    """Float[categories, C], each row a distribution over the clients."""
    num_categories = len(counts)
    if scheme in ("iid", "feature_shift", "concept_shift"):
        return np.full((num_categories, num_clients), 1.0 / num_clients)
    if scheme == "shards":
        return _shard_shares(counts, num_clients, shards_per_client, rng)
    if scheme == "dirichlet":
        return rng.dirichlet(np.full(num_clients, alpha), size=num_categories)
    if scheme == "quantity":
        return np.tile(rng.dirichlet(np.full(num_clients, alpha)), (num_categories, 1))
    shares = np.zeros((num_categories, num_clients))
    load = np.zeros(num_clients)
    for category in np.argsort(-counts, kind="stable"):
        client = int(np.argmin(load))
        shares[category, client] = 1.0
        load[client] += counts[category]
    return shares


def _shard_shares(counts: np.ndarray, num_clients: int, shards_per_client: int, rng: np.random.Generator) -> np.ndarray:
    """Float[categories, C]: how much of each category lies in each client's shards of the sorted rows."""
    num_shards = num_clients * shards_per_client
    owner = rng.permutation(num_shards) // shards_per_client
    edges = np.arange(num_shards + 1) * counts.sum() / num_shards
    ends = np.cumsum(counts)[:, None]
    overlap = np.minimum(ends, edges[1:]) - np.maximum(ends - counts[:, None], edges[:-1])
    rows = np.zeros((num_clients, len(counts)))
    np.add.at(rows, owner, np.maximum(overlap, 0.0).T)
    rows[:, counts == 0] = 1.0
    return (rows / rows.sum(axis=0)).T


def _cut(
    column: Categorical, categories: Sequence[str], shares: np.ndarray, shuffle: np.random.Generator | None
) -> np.ndarray:
    """Cuts each category's rows at its cumulative shares; in their order, or shuffled."""
    client = np.empty(len(column), np.int64)
    last = shares.shape[1] - 1
    for name, share in zip(categories, shares, strict=True):
        rows = np.flatnonzero(column.is_name(name))
        if shuffle is not None:
            rows = shuffle.permutation(rows)
        position = (np.arange(len(rows)) + 0.5) / max(len(rows), 1)
        client[rows] = np.minimum(np.searchsorted(np.cumsum(share), position), last)
    return client
