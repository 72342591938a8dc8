"""The canary audit of a run: its own training program with canaries planted, and the epsilon that they disprove."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_anomaly import trees
from fedjax_anomaly.auditing import canaries
from fedjax_anomaly.auditing.canaries import CanaryScores
from fedjax_anomaly.config import Config
from fedjax_anomaly.experiment.build import Experiment, build_algorithm, tunables
from fedjax_anomaly.federated import clustering
from fedjax_anomaly.federated.algorithm import Aggregator, FederatedAlgorithm, TrainClient, run
from fedjax_anomaly.federated.parallel import client_map, place_clients
from fedjax_anomaly.privacy.distributed_accounting import least_noise_multiplier
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

    The attacker sees each client's update, or the sums where only these are released (client-level privacy by the
    server, secure aggregation, cohorts), and knows everything but the coins and the noise: the directions of all
    canaries, and what the rest of the data leaves behind, by a training without canaries and noise. Where clients add
    the noise, canaries are planted under it; where a guarantee lets a client hold something else, a canary client that
    is left out is replaced by its opposite.

    Args:
      experiment: of the run.
      num_canaries: m, in all trainings together; at least 8.
      num_rounds: of each training; 0 takes the run's. The claim is that of so many rounds.
      confidence: of the bound.
      seed: of coins, directions, places and trainings.

    Raises:
      ValueError: when the run cannot be tried, or a size is out of range.

    Guarantees:
      Without noise the bound is far above 0, with noise at most the claim, whoever adds it; it is above the claim when
      the noise is left out or when the clip is, and scores are too far apart for noise of half the deviation (tests:
      `tests/auditing/test_canary_audit.py`).

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
    by_client = _sees_each_client(config)
    heard_in = _program(experiment, unit, num_rounds, by_client)
    noise = tunables(config, experiment.privacy).noise_multiplier
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xCA9A]))
    root = jax.random.fold_in(jax.random.key(seed), 0xCA9A)
    per_training = min(num_canaries, _room(experiment, unit))
    scores: list[np.ndarray] = []
    coins: list[np.ndarray] = []
    while sum(map(len, coins)) < num_canaries:
        key_directions, key_run, key_other = jax.random.split(jax.random.fold_in(root, len(coins)), 3)
        along = canaries.directions(key_directions, per_training, _num_parameters(experiment))
        owner, places = _places(experiment, unit, per_training, rng)
        coin = rng.random(per_training) < 0.5
        marks = 1 + np.arange(per_training)

        def heard(key: jax.Array, marks: np.ndarray, noise: Any, owner=owner, places=places, along=along) -> jax.Array:  # noqa: ANN001
            data = _planted(experiment, unit, owner, places, marks)
            return heard_in(key, along, place_clients(data, experiment.mesh), jnp.float32(noise))

        # What the rest of the data leaves behind is known to an attacker who knows it; so is who else was drawn, but
        # for cohorts of a fixed size, where that says who of the canaries was.
        same = not (config.clients_per_round and config.client_sampling == "fixed_size")
        rest = heard(jax.random.clone(key_run) if same else key_other, -marks, _least_noise(config))
        left = heard(key_run, np.where(coin, marks, -marks), noise) - rest
        left = left[owner if by_client else np.zeros_like(owner)]
        scores.append(np.asarray(canaries.canary_scores(left, -along if unit == "window" else along)))
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


def _sees_each_client(config: Config) -> bool:
    """Whether the attacker hears updates one by one: where they are released so, under noise of the clients' own."""
    in_the_clear = config.secure_aggregation == "none" and not config.clients_per_round
    return in_the_clear and (config.dp_unit != "client" or config.trust == "local")


def _least_noise(config: Config) -> float:
    """The noise multiplier of a training that shall have none; integer noise is the unit of its grid and never zero."""
    integers = config.dp_unit == "client" and config.trust == "distributed"
    return least_noise_multiplier(config.cohort_size) if integers else 0.0


def _program(
    experiment: Experiment, unit: str, num_rounds: int, by_client: bool
) -> Callable[[jax.Array, jax.Array, ClientData, jax.Array], jax.Array]:
    """(key, directions, planted data, noise multiplier) -> what is heard, of all rounds together; compiled once."""

    @jax.jit
    def heard_in(key: jax.Array, along: jax.Array, data: ClientData, noise: jax.Array) -> jax.Array:
        key_init, key_rounds = jax.random.split(key)
        algorithm = _algorithm(experiment, unit, along, noise, by_client)
        state, _ = run(algorithm, key_rounds, algorithm.init(key_init, data), data, num_rounds)
        return jnp.sum(state.aggregator.total, axis=0)

    return heard_in


def _algorithm(
    experiment: Experiment, unit: str, along: jax.Array, noise: jax.Array, by_client: bool
) -> FederatedAlgorithm:
    """The run's own algorithm with canaries in the loss or around local training, and an ear at the aggregator."""
    config = experiment.config
    norm = config.clip_norm * (1.0 if experiment.privacy is None else _CLIPPED_TIMES)
    model = experiment.model
    if unit == "window":
        model = model._replace(loss=canaries.with_canary_windows(model.loss, along, norm))

    def around(train_client: TrainClient, aggregator: Aggregator) -> tuple[TrainClient, Aggregator]:
        if unit == "client":
            train_client = canaries.with_canary_clients(train_client, along, norm, replaced=config.trust != "central")
        return train_client, canaries.listening(aggregator, len(experiment.train.starts) if by_client else None)

    return build_algorithm(
        config,
        model,
        clustering.fixed(experiment.assignment),
        client_map(None if config.client_batch_size == -1 else config.client_batch_size, experiment.mesh),
        tunables(config, experiment.privacy)._replace(noise_multiplier=noise),
        window_length=experiment.federation.window_length,
        max_windows=experiment.federation.train.mask.shape[1],
        mesh=experiment.mesh,
        around=around,
    )


def _room(experiment: Experiment, unit: str) -> int:
    """How many canaries fit into one training."""
    if unit == "client":
        return max(1, len(experiment.train.starts) // 2)
    return int(np.sum(experiment.train.mask.sum(axis=1) // 2))


def _places(
    experiment: Experiment, unit: str, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The client of each canary, in order, and, of each client, the windows whose place canaries take."""
    mask = np.asarray(experiment.train.mask)
    if unit == "client":
        return np.sort(rng.permutation(len(mask))[:count]), []
    room = mask.sum(axis=1) // 2
    # A number for each canary that fits, so that the lowest numbers spread evenly over the clients.
    turns = np.concatenate([np.arange(n) for n in room])
    owner = np.sort(np.repeat(np.arange(len(mask)), room)[np.argsort(turns, kind="stable")[:count]])
    own = np.bincount(owner, minlength=len(mask))
    return owner, [rng.choice(np.flatnonzero(m), n, replace=False) for m, n in zip(mask, own, strict=True)]


def _planted(
    experiment: Experiment, unit: str, owner: np.ndarray, places: list[np.ndarray], marks: np.ndarray
) -> ClientData:
    data = jax.tree.map(np.asarray, experiment.train)
    if unit == "client":
        return canaries.plant_clients(data, owner, marks)
    own = np.split(marks, np.cumsum([len(taken) for taken in places])[:-1])
    return canaries.plant_windows(data, places, own, experiment.federation.window_length)


def _num_parameters(experiment: Experiment) -> int:
    return trees.num_elements(jax.eval_shape(experiment.model.init, jax.random.key(0)))


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
        "num_parameters": _num_parameters(experiment),
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
