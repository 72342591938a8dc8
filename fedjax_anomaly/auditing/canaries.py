"""Canaries: windows or clients whose mark on the model is known, and the epsilon that finding them again disproves."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float, Int

from fedjax_anomaly.federated.algorithm import Aggregator, ClientUpdate, TrainClient, WeightedSum
from fedjax_anomaly.federated.local_training import TrainingLoss
from fedjax_anomaly.types import ClientData, PyTree

_GUESSED_SHARES = (0.5, 0.25, 0.125)
"""How many of the canaries are guessed to have been in, fixed before any score is seen."""


class CanaryScores(NamedTuple):
    """What an audit found out about its canaries.

    Attributes:
      score: high where the canary seems to have been in; about standard normal where it was not.
      included: what the coin said.
    """

    score: Float[np.ndarray, " m"]
    included: Bool[np.ndarray, " m"]


def epsilon_lower_bound(scores: CanaryScores, *, delta: float, confidence: float) -> float:
    """The largest epsilon that the scores disprove, at a confidence; 0 where they disprove none.

    The canaries of the highest scores are guessed to have been in. Who guesses right more often than epsilon lets
    anyone has disproved it. The bound is jax-privacy's for numbers of guesses fixed beforehand (half, a quarter, an
    eighth of the canaries), the best of the three at a third of the error each. Its own choice of thresholds
    (`Bonferroni`) is not used: it divides the error by the thresholds that are left after the scores have been looked
    at, not by those that were tried.

    Args:
      scores: of canaries that were included by independent fair coins.
      delta: of the claim.
      confidence: the bound is right with at least this probability over coins and noise.

    Raises:
      ValueError: when all canaries were in, or none, or when `confidence` or `delta` is not in (0, 1).

    Guarantees:
      Without information it is above 0 with at most the stated probability; the bound for perfect guesses is that of
      the closed form (tests: `tests/auditing/test_canaries.py`).

    References:
      Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run", theorem 5.2.
    """
    # Importing jax-privacy takes seconds; only canaries need it.
    from jax_privacy.auditing import CanaryScoreAuditor, Explicit

    for name, value in {"delta": delta, "confidence": confidence}.items():
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name}={value} must lie in (0, 1).")
    score, included = scores
    if included.all() or not included.any():
        raise ValueError(f"all {len(included)} coins fell alike, so that nothing can be said; give more num_canaries.")
    auditor = CanaryScoreAuditor(score[included], score[~included])
    descending = np.sort(score)[::-1]
    guesses = sorted({max(1, round(share * len(score))) for share in _GUESSED_SHARES})
    significance = (1.0 - confidence) / len(guesses)
    bounds = [
        auditor.epsilon_one_run(significance, delta, threshold_strategy=Explicit(descending[count - 1]))
        for count in guesses
    ]
    return float(max(bounds))


def ceiling(num_canaries: int, *, delta: float, confidence: float) -> float:
    """The bound for guesses that are all right: no audit of so many canaries can show a larger epsilon."""
    included = np.arange(num_canaries) >= num_canaries // 2
    return epsilon_lower_bound(CanaryScores(included.astype(float), included), delta=delta, confidence=confidence)


def directions(key: jax.Array, num_canaries: int, num_parameters: int) -> Float[jax.Array, "m P"]:
    """The unit vectors of random signs that canaries push the model along; row j is of the canary marked j + 1."""
    signs = jax.random.rademacher(key, (num_canaries, num_parameters), jnp.float32)
    return signs / jnp.sqrt(jnp.float32(num_parameters))


def with_canary_windows(loss: TrainingLoss, along: Float[jax.Array, "m P"], gradient_norm: float) -> TrainingLoss:
    """A loss for windows with a mark as their last feature, as `plant_windows` makes them.

    Mark 0 is a window of the run's own. A positive mark is the canary of that number: its loss is linear in the
    parameters and its gradient `gradient_norm` times the canary's direction. A negative mark is a place whose canary
    was left out: no loss and no gradient, which is what an empty window is to the accountant.

    Args:
      loss: of windows without marks.
      along: see `directions`.
      gradient_norm: of a canary, before any clipping.
    """

    def marked(params: PyTree, windows: jax.Array, loss_key: jax.Array) -> jax.Array:
        mark = windows[:, 0, -1].astype(jnp.int32)
        planted = gradient_norm * along[mark - 1] @ ravel_pytree(params)[0]
        own = loss(params, windows[..., :-1], loss_key)
        return jnp.where(mark > 0, planted, jnp.where(mark < 0, 0.0, own))

    return marked


def with_canary_clients(
    train_client: TrainClient, along: Float[jax.Array, "m P"], update_norm: float, *, replaced: bool
) -> TrainClient:
    """Local training for clients with a mark as their rows' last feature, as `plant_clients` makes them.

    A canary's update is `update_norm` times its direction, whatever it holds.

    Args:
      train_client: of clients without marks.
      along: see `directions`.
      update_norm: of a canary, before any clipping.
      replaced: what is in the place of a canary that was left out: a client that sends the opposite, for guarantees
        that let a client hold something else; otherwise nobody, and it takes no part.
    """
    instead = -1.0 if replaced else 0.0

    def train(train_key: jax.Array, start: PyTree, data: ClientData) -> ClientUpdate:
        mark = data.series[0, -1].astype(jnp.int32)
        update = train_client(train_key, start, data._replace(series=data.series[:, :-1]))
        _, unravel = ravel_pytree(start)
        planted = unravel(jnp.where(mark < 0, instead, 1.0) * update_norm * along[jnp.abs(mark) - 1])
        kept = update.weight if replaced else jnp.where(mark < 0, 0.0, update.weight)
        delta = jax.tree.map(lambda own, canary: jnp.where(mark == 0, own, canary), update.delta, planted)
        return ClientUpdate(delta, kept, update.loss)

    return train


def plant_windows(
    data: ClientData, places: Sequence[Int[np.ndarray, " p"]], marks: Sequence[Int[np.ndarray, " p"]], length: int
) -> ClientData:
    """Puts canary windows in the place of some of each client's windows; the numbers of windows stay.

    Args:
      data: of all clients.
      places: of each client, which of its windows.
      marks: of each client, one mark per place.
      length: T. A canary window has rows of its own, so that no other window overlaps it.
    """
    most = max(len(own) for own in places)
    series = np.pad(np.asarray(data.series), ((0, 0), (0, most * length), (0, 1)))
    starts = np.array(data.starts)
    for client, (own, mark) in enumerate(zip(places, marks, strict=True)):
        begin = data.series.shape[1] + length * np.arange(len(own))
        starts[client, own] = begin
        series[client, begin[:, None] + np.arange(length), -1] = mark[:, None]
    return ClientData(series, starts, data.mask)


def plant_clients(data: ClientData, clients: Int[np.ndarray, " p"], marks: Int[np.ndarray, " p"]) -> ClientData:
    """Turns some clients into canaries; the number of clients stays."""
    series = np.pad(np.asarray(data.series), ((0, 0), (0, 0), (0, 1)))
    series[clients, :, -1] = marks[:, None]
    return data._replace(series=series)


class Heard(NamedTuple):
    """The state of a listening aggregator.

    Attributes:
      inner: the state of the aggregator that is listened to.
      total: what was heard, summed over rounds: each place's updates [S, P], or the released sums [1, P].
    """

    inner: PyTree
    total: Float[jax.Array, "S P"]


def listening(inner: Aggregator, num_places: int | None) -> Aggregator:
    """An aggregator that adds up what the server sees, and changes nothing.

    Args:
      inner: the run's own.
      num_places: S, to hear the clients' updates one by one; None to hear the sums only, as they are released.
    """

    def init(params: PyTree) -> Heard:
        size = ravel_pytree(params)[0].size
        return Heard(inner.init(params), jnp.zeros((1 if num_places is None else num_places, size)))

    def aggregate(key: jax.Array, state: Heard, updates: PyTree, weights: jax.Array) -> tuple[Heard, WeightedSum]:
        inner_state, summed = inner.aggregate(key, state.inner, updates, weights)
        if num_places is None:
            heard = ravel_pytree(summed.total)[0][None]
        else:
            vectors = jax.vmap(lambda update: ravel_pytree(update)[0])(updates)
            heard = jnp.where((weights > 0.0)[:, None], vectors, 0.0)
        return Heard(inner_state, state.total + heard), summed

    return Aggregator(init, aggregate, lambda state: inner.report(state.inner))


def canary_scores(heard: Float[jax.Array, "m P"], along: Float[jax.Array, "m P"]) -> Float[jax.Array, " m"]:
    """How far what was heard points along each canary's direction, in standard deviations of a random one.

    Args:
      heard: what was heard where the canary may have been.
      along: see `directions`; descent for windows is the caller's to turn around.
    """
    size = jnp.maximum(jnp.linalg.norm(heard, axis=1), 1e-30)
    return jnp.sum(heard * along, axis=1) * jnp.sqrt(jnp.float32(heard.shape[1])) / size
