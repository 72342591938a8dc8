"""The rounds of a run: compiled chunks, with reports, checkpoints and a way to stop between them."""

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_anomaly import distributed
from fedjax_anomaly.compiler_options import compiler_options
from fedjax_anomaly.config import Config
from fedjax_anomaly.detection.sampling import sample_windows
from fedjax_anomaly.experiment.build import Experiment
from fedjax_anomaly.experiment.checkpoints import Checkpoints
from fedjax_anomaly.experiment.profiling import one_call_traced
from fedjax_anomaly.federated.algorithm import FederatedState, run
from fedjax_anomaly.federated.host_clients import Cohorts, cohorts_ahead, run_cohorts
from fedjax_anomaly.federated.parallel import everywhere, place, place_clients
from fedjax_anomaly.federated.secure_sum import check_sums
from fedjax_anomaly.models.autoencoder import Autoencoder
from fedjax_anomaly.types import ClientData

_VALIDATION_WINDOWS = 1024


class Diverged(ArithmeticError):
    """The loss or the parameters are no longer finite."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """What is known after a chunk of rounds.

    Attributes:
      done: rounds done.
      total: rounds wanted.
      rounds_per_second: of this chunk, compilation apart.
      records: one per round of the chunk: round, losses, update norm, participants, seconds.
      state: after the chunk.
    """

    done: int
    total: int
    rounds_per_second: float
    records: list[dict[str, Any]]
    state: FederatedState


@dataclasses.dataclass(frozen=True)
class Trained:
    """The end of the rounds.

    Attributes:
      state: after the last round.
      compile_seconds: of the chunk's program.
      round_seconds: of each chunk, divided by its rounds.
      interrupted: True when asked to stop before the last round.
    """

    state: FederatedState
    compile_seconds: float
    round_seconds: list[float]
    interrupted: bool


def train(
    experiment: Experiment,
    *,
    checkpoint_dir: Path | None = None,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Trained:
    """Runs the experiment's rounds.

    Args:
      experiment: from `build`.
      checkpoint_dir: where to store the state after each chunk; None stores nothing. Of many processes the first reads
        and writes it.
      resume: continue from the newest checkpoint in `checkpoint_dir`.
      report: called after each chunk.
      stop_requested: asked after each chunk; True ends the run there, at one of many processes for all of them.

    Raises:
      Diverged: when the loss or the parameters are no longer finite; the last good checkpoint is kept.
      ArithmeticError: when a secure sum overflowed.
      FileNotFoundError: when there is no checkpoint to resume from.
      OSError: when the folder of `profile` cannot be made.

    Guarantees:
      A resumed run is bit-identical to one that never stopped, privacy noise included (test:
      `tests/experiment/test_training.py::test_a_resumed_run_is_bit_identical`).
    """
    config = experiment.config
    key_init, key_run = jax.random.split(jax.random.key(config.seed))
    state = jax.jit(lambda key: experiment.algorithm.init(key, experiment.train))(key_init)
    checkpoint_dir = checkpoint_dir if distributed.is_first() else None
    with Checkpoints(checkpoint_dir) if checkpoint_dir else contextlib.nullcontext() as checkpoints:
        if resume and checkpoints:
            state = checkpoints.restore(state)
        state = place(distributed.arrays_from_first(state), everywhere(experiment.mesh))
        done = int(state.round)
        around_call = one_call_traced(
            config.profile if distributed.is_first() else "",
            math.ceil((config.num_rounds - done) / config.rounds_per_report),
        )
        round_seconds: list[float] = []
        with _chunk_inputs(experiment, key_run, done) as inputs:
            first = next(inputs)
            chunk, compile_seconds = _compiled_chunk(experiment, key_run, state, first)
            inputs = itertools.chain([first], inputs)
            del first  # So that its memory is free after its rounds.
            distributed.meet()
            while done < config.num_rounds:
                with around_call():
                    begin = time.perf_counter()
                    state, (info, validation_loss) = jax.block_until_ready(
                        chunk(key_run, state, next(inputs), config.num_rounds)
                    )
                    seconds = time.perf_counter() - begin
                rounds = int(state.round) - done
                round_seconds.append(seconds / rounds)
                records = round_records(done, rounds, info, validation_loss, round_seconds[-1])
                check_finite(records, done, checkpoint_dir)
                check_sums(records)
                done += rounds
                if checkpoints:
                    checkpoints.save(state)
                report(Progress(done, config.num_rounds, 1.0 / round_seconds[-1], records, state))
                if distributed.any_process(stop_requested()):
                    break
    return Trained(state, compile_seconds, round_seconds, interrupted=done < config.num_rounds)


def _chunk_rounds(config: Config) -> int:
    return min(config.rounds_per_report, config.num_rounds)


def _chunk_inputs(
    experiment: Experiment, key: jax.Array, first_round: int
) -> AbstractContextManager[Iterator[ClientData | Cohorts]]:
    """What each compiled call is given: the same clients every time, or the cohorts of its own rounds."""
    config = experiment.config
    if config.client_data == "host":
        return cohorts_ahead(
            experiment.algorithm, key, experiment.train, first_round, _chunk_rounds(config), experiment.mesh
        )
    return contextlib.nullcontext(itertools.repeat(place_clients(experiment.train, experiment.mesh)))


def _compiled_chunk(
    experiment: Experiment, key: jax.Array, state: FederatedState, given: ClientData | Cohorts
) -> tuple[Callable[..., Any], float]:
    """One compiled call of `rounds_per_report` rounds, and the seconds it took to compile."""
    algorithm, num_rounds = experiment.algorithm, _chunk_rounds(experiment.config)
    validation_loss = _validation_loss(experiment)

    def chunk(key: jax.Array, state: FederatedState, given: ClientData | Cohorts, stop_round: int) -> Any:
        if isinstance(given, Cohorts):
            # Only the number of all clients is read.
            return run_cohorts(
                algorithm, key, state, given, lambda after: validation_loss(after, experiment.train), stop_round
            )
        return run(algorithm, key, state, given, num_rounds, lambda after: validation_loss(after, given), stop_round)

    begin = time.perf_counter()
    program = jax.jit(
        chunk, donate_argnums=1, out_shardings=everywhere(experiment.mesh), compiler_options=compiler_options()
    )
    compiled = program.lower(key, state, given, experiment.config.num_rounds).compile()
    return compiled, time.perf_counter() - begin


def _validation_loss(experiment: Experiment) -> Callable[[FederatedState, Any], jax.Array]:
    """Mean loss of a fixed sample of held-out normal windows, each under its own client's model."""
    windows, client = validation_sample(experiment)

    def loss(state: FederatedState, data: Any) -> jax.Array:
        return mean_loss(experiment.model, state.params, experiment.assign(state, data)[client], jnp.asarray(windows))

    return loss


def validation_sample(experiment: Experiment) -> tuple[np.ndarray, np.ndarray]:
    """Float[N, T, F] and Int[N]: held-out normal windows, evenly spaced, and their clients."""
    length = experiment.federation.window_length
    sample = sample_windows(experiment.federation.validation, length, _VALIDATION_WINDOWS)
    return sample.series.reshape(len(sample.starts), length, -1), sample.client[sample.starts]


def mean_loss(model: Autoencoder, params: Any, cluster: jax.Array, windows: jax.Array) -> jax.Array:
    """The mean loss of windows, each under the model of its cluster."""
    losses = jax.lax.map(lambda own: model.loss(own, windows), params)
    return jnp.mean(jnp.take_along_axis(losses, cluster[None], axis=0))


def round_records(
    done: int, rounds: int, info: Any, validation_loss: jax.Array, round_seconds: float
) -> list[dict[str, Any]]:
    """One record for each round of a chunk; the chunk's seconds are shared among its rounds."""
    columns = {
        "train_loss": info.train_loss,
        "validation_loss": validation_loss,
        "update_norm": info.update_norm,
        "participants": info.num_participants,
        **info.aggregation,
    }
    values = {name: np.asarray(column)[:rounds].tolist() for name, column in columns.items()}
    return [
        {"round": done + 1 + i, **{name: column[i] for name, column in values.items()}, "round_seconds": round_seconds}
        for i in range(rounds)
    ]


def check_finite(records: list[dict[str, Any]], last_good: int, checkpoint_dir: Path | None) -> None:
    """Raises Diverged, naming the round and the way out."""
    for record in records:
        if not np.isfinite([record["train_loss"], record["validation_loss"], record["update_norm"]]).all():
            kept = (
                f" The last good checkpoint, after round {last_good}, is kept." if checkpoint_dir and last_good else ""
            )
            raise Diverged(
                f"the loss is not finite in round {record['round']} (train {record['train_loss']:.3g}, validation "
                f"{record['validation_loss']:.3g}); give a smaller --learning_rate or --server_learning_rate.{kept}"
            )
