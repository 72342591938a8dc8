"""The membership audit of a finished run: losses of its training windows against those of its held-out ones."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_anomaly.auditing.membership import Membership, membership_inference
from fedjax_anomaly.experiment.build import Experiment
from fedjax_anomaly.experiment.privacy_plan import training_stride
from fedjax_anomaly.federated.algorithm import FederatedState
from fedjax_anomaly.federated.local_training import gather_windows
from fedjax_anomaly.types import PyTree

_LOSS_BATCH = 256


@dataclasses.dataclass(frozen=True)
class MembershipAudit:
    """What losses give away, of the trained model and of the one that training began with.

    Attributes:
      trained: the attack on the trained model.
      untrained: the same on the initial one, which has seen no window: what it finds is not membership.
      also_differs: what tells the two groups apart besides membership.
      seconds: that it took.
    """

    trained: Membership
    untrained: Membership
    also_differs: tuple[str, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The numbers for `audit.json`."""
        return {
            "trained": self.trained._asdict(),
            "untrained": self.untrained._asdict(),
            "also_differs": list(self.also_differs),
            "seconds": self.seconds,
        }


def membership_audit(
    experiment: Experiment, state: FederatedState, *, confidence: float = 0.95, seed: int = 0
) -> MembershipAudit:
    """Attacks the trained models of a run with its own windows.

    Args:
      experiment: of the run.
      state: after its last round.
      confidence: of the intervals.
      seed: of the bootstrap.
    """
    begin = time.perf_counter()
    key_init, _ = jax.random.split(jax.random.key(experiment.config.seed))
    initial = jax.jit(experiment.algorithm.init)(key_init, jax.tree.map(jnp.asarray, experiment.train))
    cluster = np.asarray(experiment.assign(jax.device_get(state), experiment.train))
    member_client, other_client = _owners(experiment)

    def attack(params: PyTree) -> Membership:
        members, others = _losses(experiment, jax.device_get(params), cluster)
        return membership_inference(members, member_client, others, other_client, confidence=confidence, seed=seed)

    trained, untrained = attack(state.params), attack(initial.params)
    return MembershipAudit(trained, untrained, _also_differs(experiment), time.perf_counter() - begin)


def _owners(experiment: Experiment) -> tuple[np.ndarray, np.ndarray]:
    """The client of each training window, and of each held-out one."""
    train, held_out = experiment.federation.train, experiment.federation.validation
    return np.repeat(np.arange(len(train.mask)), train.mask.sum(axis=1)), held_out.client[held_out.starts]


def _losses(experiment: Experiment, params: PyTree, cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The losses of all training windows and of all held-out ones, each under the model of its client."""
    federation, length = experiment.federation, experiment.federation.window_length
    loss = experiment.model.loss

    @jax.jit
    def of_windows(model: PyTree, series: jax.Array, starts: jax.Array) -> jax.Array:
        return jax.lax.map(
            lambda start: loss(model, gather_windows(series, start[None], length))[0], starts, batch_size=_LOSS_BATCH
        )

    models = [jax.tree.map(lambda leaf, k=k: leaf[k], params) for k in range(experiment.num_clusters)]
    train, held_out = federation.train, federation.validation
    members = [
        np.asarray(of_windows(models[cluster[client]], train.series[client], train.starts[client]))[train.mask[client]]
        for client in range(federation.num_clients)
    ]
    by_model = np.stack([np.asarray(of_windows(model, held_out.series, held_out.starts)) for model in models])
    owner = held_out.client[held_out.starts]
    return np.concatenate(members), by_model[cluster[owner], np.arange(len(owner))]


def _also_differs(experiment: Experiment) -> tuple[str, ...]:
    """What an attack on the two groups may find instead of membership, in words."""
    federation, config = experiment.federation, experiment.config
    stride = training_stride(config, federation.window_length, differenced=config.difference_columns)
    lists = ["the encoding was fitted on the training rows only"]
    if federation.dataset.row_order != "none":
        lists.append("held-out windows are of other times of the training period")
    if stride < federation.window_length:
        lists.append("training windows overlap, so that a row was trained on several times")
    return tuple(lists)
