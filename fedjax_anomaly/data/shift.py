"""Clients that hold the same kind of rows but measure them on another scale, or mean something else by them.

A shift returns a data set whose values or labels differ from client to client, so that nothing after it needs to know.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Int

from fedjax_anomaly.data.differences import CHANGE_OF
from fedjax_anomaly.data.partition import Scheme
from fedjax_anomaly.data.table import NORMAL, Categorical, Dataset, Table

MAX_STRENGTH = 10.0
"""Gains stay within what float32 can hold."""

MIN_TOLERATED_ROWS = 10
"""Training rows of an attack that a client must hold to learn that they are normal."""


def shift(
    dataset: Dataset,
    scheme: Scheme,
    train_client: Int[np.ndarray, " L_train"],
    test_client: Int[np.ndarray, " L_test"],
    *,
    seed: int,
    strength: float = 1.0,
) -> Dataset:
    """Changes the rows of each client as the scheme says, in training and test alike; a note tells what was done.

    Args:
      dataset: the rows.
      scheme: `feature_shift` multiplies each numeric column of each client by a gain; a column of differences has the
        gain of the column that it is the change of. `concept_shift` has each client tolerate one kind of attack: its
        rows are normal there and stay anomalous elsewhere. The kind is drawn from those with at least
        `MIN_TOLERATED_ROWS` training rows at the client, the least tolerated so far first; a client that has none
        tolerates nothing. Any other scheme changes nothing.
      train_client: from `partition`.
      test_client: from `partition`.
      seed: the same seed gives the same gains and kinds.
      strength: standard deviation of the logarithm of the gains, whose median is 1; 0 changes nothing.

    Returns:
      The data set with other values or other labels.

    Raises:
      ValueError: for a strength out of range, and for `concept_shift` where no two clients can be told apart by the
        attacks among their training rows.

    Guarantees:
      Rows of a kind are relabelled at a client all or none (test:
      `tests/data/test_shift.py::test_each_client_tolerates_one_kind_wholly_and_no_other`).

    References:
      Li et al. 2021, "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization".
      Kairouz et al. 2021, "Advances and Open Problems in Federated Learning", section 3.1.
    """
    num_clients = int(max(train_client.max(), test_client.max(initial=0))) + 1
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x5F17]))
    if scheme == "feature_shift":
        return _with_gains(dataset, train_client, test_client, num_clients, strength, rng)
    if scheme == "concept_shift":
        kinds = _tolerated_kinds(dataset, train_client, num_clients, rng)
        return _with_tolerance(dataset, train_client, test_client, kinds)
    return dataset


def _with_gains(
    dataset: Dataset,
    train_client: np.ndarray,
    test_client: np.ndarray,
    num_clients: int,
    strength: float,
    rng: np.random.Generator,
) -> Dataset:
    if not 0.0 <= strength <= MAX_STRENGTH:
        raise ValueError(f"shift_strength={strength} must lie in [0, {MAX_STRENGTH:g}].")
    quantities = [name.removeprefix(CHANGE_OF) for name in dataset.train.numeric_names]
    distinct, quantity = np.unique(quantities, return_inverse=True)
    gains = np.exp(strength * rng.standard_normal((num_clients, len(distinct))))[:, quantity].astype(np.float32)

    def measured(table: Table, client: np.ndarray) -> Table:
        return dataclasses.replace(table, numeric=table.numeric * gains[client])

    note = (
        "Simulated feature shift: every client's rows were multiplied, in each numeric column, by a gain of the "
        f"client's own, log-normal with a deviation of {strength:g} in the logarithm."
    )
    return dataclasses.replace(
        dataset,
        train=measured(dataset.train, train_client),
        test=measured(dataset.test, test_client),
        notes=(*dataset.notes, note),
    )


def _tolerated_kinds(
    dataset: Dataset, train_client: np.ndarray, num_clients: int, rng: np.random.Generator
) -> list[str | None]:
    """The kind of attack that each client tolerates."""
    attack = dataset.train.attack
    rows = np.zeros((num_clients, len(attack.names)), np.int64)
    np.add.at(rows, (train_client, attack.codes), 1)
    candidate = (rows >= MIN_TOLERATED_ROWS) & (np.array(attack.names) != NORMAL)
    times_drawn = np.zeros(len(attack.names), np.int64)
    kinds: list[str | None] = [None] * num_clients
    for client in rng.permutation(num_clients):
        own = np.flatnonzero(candidate[client])
        if len(own):
            drawn = rng.choice(own[times_drawn[own] == times_drawn[own].min()])
            times_drawn[drawn] += 1
            kinds[client] = attack.names[drawn]
    if len(set(kinds)) < 2:
        common = [name for name, is_candidate in zip(attack.names, candidate.any(axis=0), strict=True) if is_candidate]
        raise ValueError(
            f"partition=concept_shift needs clients that tolerate different attacks, but {dataset.name!r} over "
            f"{num_clients} client(s) has {', '.join(common) or 'none'} with at least {MIN_TOLERATED_ROWS} training "
            "rows at a client; give another number of clients, data with attacks among the training rows, or another "
            "--partition."
        )
    return kinds


def _with_tolerance(
    dataset: Dataset, train_client: np.ndarray, test_client: np.ndarray, kinds: list[str | None]
) -> Dataset:
    train_rows = _rows_of_kinds(dataset.train.attack, train_client, kinds)
    test_rows = _rows_of_kinds(dataset.test.attack, test_client, kinds)
    who = {kind: [str(c) for c, own in enumerate(kinds) if own == kind] for kind in dict.fromkeys(kinds)}
    told = [f"{kind or 'nothing'} at client {', '.join(clients)}" for kind, clients in who.items()]
    note = (
        "Simulated concept shift: each client tolerates one kind of attack, of which it has enough training rows; they "
        f"are called normal there and anomalous elsewhere ({np.count_nonzero(train_rows)} training and "
        f"{np.count_nonzero(test_rows)} test rows): {'; '.join(told)}."
    )
    return dataclasses.replace(
        dataset,
        train=dataclasses.replace(dataset.train, attack=_called_normal(dataset.train.attack, train_rows)),
        test=dataclasses.replace(dataset.test, attack=_called_normal(dataset.test.attack, test_rows)),
        notes=(*dataset.notes, note),
    )


def _rows_of_kinds(attack: Categorical, client: np.ndarray, kinds: list[str | None]) -> Bool[np.ndarray, " L"]:
    """The rows whose attack their client tolerates."""
    number = {name: code for code, name in enumerate(attack.names)}
    code_of_client = np.array([-1 if kind is None else number.get(kind, -1) for kind in kinds])
    return attack.codes == code_of_client[client]


def _called_normal(attack: Categorical, rows: np.ndarray) -> Categorical:
    names = attack.names if NORMAL in attack.names else (*attack.names, NORMAL)
    return Categorical(np.where(rows, np.int32(names.index(NORMAL)), attack.codes), names)
