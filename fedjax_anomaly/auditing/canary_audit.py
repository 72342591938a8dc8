"""The canary audit of a run: its own training program with canaries planted, and the epsilon that they disprove."""

import dataclasses
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_anomaly import trees
from fedjax_anomaly.auditing import canaries
from fedjax_anomaly.auditing.canaries import CanaryScores
from fedjax_anomaly.experiment.build import Experiment, build_algorithm, tunables
from fedjax_anomaly.federated import clustering
from fedjax_anomaly.federated.algorithm import Aggregator, FederatedAlgorithm, TrainClient, run
from fedjax_anomaly.federated.parallel import client_map, place_clients
from fedjax_anomaly.types import ClientData

_CLIPPED_TIMES = 10.0
"""A canary is so many times longer than the clip norm: a clip that is left out shows."""


@dataclasses.dataclass(frozen=True)
class CanaryAudit:
    """What canaries say of a run's epsilon.

    Attributes:
      unit: what a canary is, `window` or `client`.
      heard: what the attacker sees.
      scores: of all canaries.
      num_trainings: how often the program was run.
      num_rounds: of each.
      confidence: of the lower bound.
      delta: of the claim and of the bound.
      epsilon_lower_bound: at that confidence.
      epsilon_ceiling: the most that so many canaries can show.
      epsilon_claimed: of so many rounds; infinite without differential privacy.
      seconds: that it took.
    """

    unit: str
    heard: str
    scores: CanaryScores
    num_trainings: int
    num_rounds: int
    confidence: float
    delta: float
    epsilon_lower_bound: float
    epsilon_ceiling: float
    epsilon_claimed: float
    seconds: float

    @property
    def contradicts(self) -> bool:
        """Whether the claim is disproved, at the confidence."""
        return self.epsilon_lower_bound > self.epsilon_claimed


def canary_audit(
    experiment: Experiment, *, num_canaries: int = 100, num_rounds: int = 0, confidence: float = 0.95, seed: int = 0
) -> CanaryAudit:
    """Trains the run's own program with canaries planted by coin flips, and tries to tell which were in.

    The unit is that of the run's differential privacy; a run without any is tried with windows. Canaries take the
    place of at most half of a client's windows, or of half of the clients, so that the numbers that are public stay
    as they are. What does not fit into one training goes into further ones with other seeds: a canary is in one
    training only, so they count as one mechanism on all canaries.

    The attacker sees each client's update, or the sums where only these are released (client-level privacy, secure
    aggregation, cohorts), and knows the directions of all canaries.

    Args:
      experiment: of the run.
      num_canaries: m, in all trainings together; at least 8.
      num_rounds: of each training; 0 takes the run's. The claim is that of so many rounds.
      confidence: of the bound.
      seed: of coins, directions, places and trainings.

    Raises:
      ValueError: when the run cannot be tried, or a size is out of range.

    Guarantees:
      Without noise the bound is far above 0, with noise at most the claim; it is above the claim when the noise is
      left out or when the clip is (tests: `tests/auditing/test_canary_audit.py`).

    References:
      Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run". Nasr et al. 2023, "Tight Auditing
      of Differentially Private Machine Learning", section 4, on canary gradients. Andrew et al. 2024, "One-shot
      Empirical Privacy Estimation for Federated Learning", on canary clients.
    """
    begin = time.perf_counter()
    config = experiment.config
    _check(experiment, num_canaries, num_rounds)
    num_rounds = num_rounds or config.num_rounds
    unit = "client" if config.dp_unit == "client" else "window"
    key_directions, key_run = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0xCA9A))
    by_client = unit == "window" and config.secure_aggregation == "none" and not config.clients_per_round
    algorithm = _algorithm(experiment, unit, key_directions, by_client)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xCA9A]))

    @jax.jit
    def heard_in(key: jax.Array, data: ClientData) -> jax.Array:
        key_init, key_rounds = jax.random.split(key)
        state, _ = run(algorithm, key_rounds, algorithm.init(key_init, data), data, num_rounds)
        return jnp.sum(state.aggregator.total, axis=0)

    score = jax.jit(canaries.canary_scores)
    scores: list[np.ndarray] = []
    coins: list[np.ndarray] = []
    while (planted := sum(map(len, coins))) < num_canaries:
        data, owner, coin = _plant(experiment, unit, num_canaries - planted, planted, rng)
        heard = heard_in(jax.random.fold_in(key_run, len(coins)), place_clients(data, experiment.mesh))
        along = -heard if unit == "window" else heard
        numbers = jnp.arange(planted + 1, planted + len(coin) + 1)
        scores.append(np.asarray(score(key_directions, along[owner if by_client else 0 * owner], numbers)))
        coins.append(coin)
    found = CanaryScores(np.concatenate(scores), np.concatenate(coins))
    delta, claimed = _claim(experiment, num_rounds)
    settings = {"delta": delta, "confidence": confidence}
    return CanaryAudit(
        unit,
        "each client's update in every round" if by_client else "the released sums of updates in every round",
        found,
        len(coins),
        num_rounds,
        confidence,
        delta,
        canaries.epsilon_lower_bound(found, **settings),
        canaries.ceiling(len(found.score), **settings),
        claimed,
        time.perf_counter() - begin,
    )


def _check(experiment: Experiment, num_canaries: int, num_rounds: int) -> None:
    if num_canaries < 8:
        raise ValueError(f"num_canaries={num_canaries} must be at least 8, or no guess says anything.")
    if num_rounds < 0:
        raise ValueError(f"canary_rounds={num_rounds} must be at least 0; 0 takes the run's.")
    if experiment.config.clustering == "ifca":
        raise ValueError(
            "clustering=ifca chooses models by the losses of windows, which canaries would change; leave canaries out "
            "of --attacks."
        )


def _algorithm(experiment: Experiment, unit: str, key: jax.Array, by_client: bool) -> FederatedAlgorithm:
    """The run's own algorithm with canaries in the loss or around local training, and an ear at the aggregator."""
    config = experiment.config
    private = experiment.privacy is not None
    norm = config.clip_norm * (_CLIPPED_TIMES if private else 1.0)
    model = experiment.model
    if unit == "window":
        model = model._replace(loss=canaries.with_canary_windows(model.loss, key, norm))

    def around(train_client: TrainClient, aggregator: Aggregator) -> tuple[TrainClient, Aggregator]:
        if unit == "client":
            train_client = canaries.with_canary_clients(train_client, key, norm)
        return train_client, canaries.listening(aggregator, len(experiment.train.starts) if by_client else None)

    return build_algorithm(
        config,
        experiment.federation,
        model,
        clustering.fixed(experiment.assignment),
        client_map(None if config.client_batch_size == -1 else config.client_batch_size, experiment.mesh),
        tunables(config, experiment.privacy),
        mesh=experiment.mesh,
        around=around,
    )


def _plant(
    experiment: Experiment, unit: str, wanted: int, number: int, rng: np.random.Generator
) -> tuple[ClientData, np.ndarray, np.ndarray]:
    """Training data with canaries numbered from `number` + 1, the client of each, and whether the coin put it in."""
    data = jax.tree.map(np.asarray, experiment.train)
    num_clients = len(data.starts)
    if unit == "client":
        owner = rng.permutation(num_clients)[: min(wanted, max(1, num_clients // 2))]
    else:
        room = data.mask.sum(axis=1) // 2
        evenly = np.minimum(room, math.ceil(wanted / num_clients))
        owner = np.repeat(np.arange(num_clients), evenly)[:wanted]
    coin = rng.random(len(owner)) < 0.5
    marks = np.where(coin, 1, -1) * (number + 1 + np.arange(len(owner)))
    if unit == "client":
        return canaries.plant_clients(data, owner, marks), owner, coin
    places = [
        rng.choice(np.flatnonzero(data.mask[client]), np.count_nonzero(owner == client), replace=False)
        for client in range(num_clients)
    ]
    own = [marks[owner == client] for client in range(num_clients)]
    return canaries.plant_windows(data, places, own, experiment.federation.window_length), owner, coin


def _claim(experiment: Experiment, num_rounds: int) -> tuple[float, float]:
    """Delta and epsilon of so many rounds, as the ledger would state them."""
    plan, config = experiment.privacy, experiment.config
    if plan is None:
        return 1e-5, math.inf
    release = dataclasses.replace(plan.release, num_rounds=num_rounds)
    return config.dp_delta, release.epsilon(plan.noise_multiplier, config.dp_delta)


def as_json(audit: CanaryAudit, experiment: Experiment) -> dict[str, Any]:
    """The numbers for `audit.json`; what is infinite is None."""
    finite = audit.epsilon_claimed if math.isfinite(audit.epsilon_claimed) else None
    return {
        "unit": audit.unit,
        "attacker_sees": audit.heard,
        "num_canaries": len(audit.scores.score),
        "num_included": int(audit.scores.included.sum()),
        "num_trainings": audit.num_trainings,
        "num_rounds": audit.num_rounds,
        "num_parameters": trees.num_elements(jax.eval_shape(experiment.model.init, jax.random.key(0))),
        "confidence": audit.confidence,
        "delta": audit.delta,
        "epsilon_lower_bound": audit.epsilon_lower_bound,
        "epsilon_ceiling": audit.epsilon_ceiling,
        "epsilon_claimed": finite,
        "contradicts_claim": audit.contradicts,
        "mean_score_in": float(audit.scores.score[audit.scores.included].mean()),
        "mean_score_out": float(audit.scores.score[~audit.scores.included].mean()),
        "seconds": audit.seconds,
    }
