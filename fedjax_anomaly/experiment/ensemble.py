"""Many seeds and settings in one program: the members of an ensemble are one more vmap axis of the compiled run."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedjax_anomaly.compiler_options import compiler_options
from fedjax_anomaly.config import Config
from fedjax_anomaly.data.table import Dataset
from fedjax_anomaly.experiment.build import Experiment, Tunables, build, build_algorithm, load_dataset, tunables
from fedjax_anomaly.experiment.checkpoints import Checkpoints
from fedjax_anomaly.experiment.profiling import one_call_traced
from fedjax_anomaly.experiment.training import Trained, check_finite, mean_loss, round_records, validation_sample
from fedjax_anomaly.federated import clustering
from fedjax_anomaly.federated.algorithm import FederatedAlgorithm, FederatedState, run
from fedjax_anomaly.federated.parallel import client_map
from fedjax_anomaly.federated.secure_sum import check_sums
from fedjax_anomaly.types import ClientData

MEMBERS_AXIS = "members"
_SMALL_HIDDEN_SIZE = 16


def build_members(config: Config, dataset: Dataset | None = None) -> list[Experiment]:
    """One experiment for each seed and swept value; all encode rows alike, so that their arrays can be stacked.

    A seed has its own partition, held-out rows, models and shuffles. Categories that are common enough for one member
    have a bucket of their own in all.

    Args:
      config: with `num_seeds` or `sweep`.
      dataset: rows of the caller's own; None loads `config.dataset`, and simulates telemetry anew for each seed.
    """
    configs = config.members()
    if dataset is None and config.dataset != "telemetry":
        dataset = load_dataset(config)
    experiments = [build(member, dataset) for member in configs]
    if len({e.federation.encoder.vocabularies for e in experiments}) == 1:
        return experiments
    columns = zip(*(e.federation.encoder.vocabularies for e in experiments), strict=True)
    shared = tuple(tuple(sorted(set().union(*names))) for names in columns)
    return [build(member, dataset, vocabularies=shared) for member in configs]


@dataclasses.dataclass(frozen=True)
class EnsembleProgress:
    """What is known after a chunk of rounds.

    Attributes:
      done: rounds done.
      rounds_per_second: of this chunk, of all members side by side.
      records: for each member, one record per round of the chunk.
      states: of the members, on the host.
    """

    done: int
    rounds_per_second: float
    records: list[list[dict[str, Any]]]
    states: list[FederatedState]


def train_ensemble(
    experiments: Sequence[Experiment],
    *,
    checkpoint_dir: Path | None = None,
    resume: bool = False,
    report: Callable[[EnsembleProgress], None] = lambda progress: None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> list[Trained]:
    """Runs the members' rounds in one compiled program.

    The members are divided over the devices. On each device they are a vmap axis of the round, all at once or
    `member_batch_size` at a time.

    Args:
      experiments: from `build_members`.
      checkpoint_dir: where to store the states after each chunk; None stores nothing.
      resume: continue from the newest checkpoint in `checkpoint_dir`.
      report: called after each chunk.
      stop_requested: asked after each chunk; True ends the run there.

    Returns:
      The end of each member's rounds, in the order given; the seconds are those of all members together.

    Raises:
      Diverged: when the loss of a member is no longer finite.
      OSError: when the folder of `profile` cannot be made.

    Guarantees:
      A member ends as if it were run by itself, up to rounding, where its clients are padded alike (test:
      `tests/experiment/test_ensemble.py::test_a_member_ends_as_if_it_were_run_by_itself`).
    """
    config = experiments[0].config
    chunk_rounds = _largest_divisor(config.num_rounds, config.rounds_per_report)
    inputs, mesh = _place(_inputs(experiments))
    num_clusters = max(e.num_clusters for e in experiments)
    program = _Program(experiments[0], num_clusters, chunk_rounds, mesh)
    with Checkpoints(checkpoint_dir) if checkpoint_dir else contextlib.nullcontext() as checkpoints:
        states = jax.jit(program.over_members(program.begin))(inputs)
        if resume and checkpoints:
            states = jax.device_put(checkpoints.restore(states), NamedSharding(mesh, PartitionSpec(MEMBERS_AXIS)))
        begin = time.perf_counter()
        rounds = jax.jit(program.over_members(program.rounds), compiler_options=compiler_options())
        chunk = rounds.lower(inputs, states).compile()
        compile_seconds = time.perf_counter() - begin
        round_seconds: list[float] = []
        done = int(np.max(states.round))
        around_call = one_call_traced(config.profile, (config.num_rounds - done) // chunk_rounds)
        while done < config.num_rounds:
            with around_call():
                begin = time.perf_counter()
                states, (info, validation_loss) = jax.block_until_ready(chunk(inputs, states))
                round_seconds.append((time.perf_counter() - begin) / chunk_rounds)
            records = [
                round_records(
                    done,
                    chunk_rounds,
                    jax.tree.map(lambda leaf, m=m: leaf[m], info),
                    validation_loss[m],
                    round_seconds[-1],
                )
                for m in range(len(experiments))
            ]
            for member in records:
                check_finite(member, done, checkpoint_dir)
                check_sums(member)
            done += chunk_rounds
            if checkpoints:
                checkpoints.save(states)
            report(EnsembleProgress(done, 1.0 / round_seconds[-1], records, _split(states, len(experiments))))
            if stop_requested():
                break
    return [
        Trained(state, compile_seconds, round_seconds, interrupted=done < config.num_rounds)
        for state in _split(states, len(experiments))
    ]


def member_batch_size(config: Config) -> int:
    """Members trained at once on each device; 0 is all.

    On CPU all at once pays for small models only: members' clients differ in size, and side by side each waits for the
    largest, while the products of a larger model are no quicker in a batch.
    """
    if config.member_batch_size != -1:
        return config.member_batch_size
    return 1 if jax.default_backend() == "cpu" and config.hidden_size > _SMALL_HIDDEN_SIZE else 0


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """What differs between members; every leaf leads with their number. Registered as a pytree below."""

    seed: Any
    tuned: Tunables
    assignment: Any
    data: ClientData
    validation_windows: Any
    validation_client: Any


jax.tree_util.register_dataclass(
    _Inputs,
    ["seed", "tuned", "assignment", "data", "validation_windows", "validation_client"],
    [],
)


@dataclasses.dataclass(frozen=True)
class _Program:
    """The compiled functions of one member, and how they are laid over all of them."""

    first: Experiment
    num_clusters: int
    chunk_rounds: int
    mesh: Mesh

    def over_members(self, function: Callable[..., Any]) -> Callable[..., Any]:
        members = PartitionSpec(MEMBERS_AXIS)
        at_once = client_map(member_batch_size(self.first.config))
        return jax.shard_map(
            lambda *arguments: at_once(function, arguments),
            mesh=self.mesh,
            in_specs=members,
            out_specs=members,
            check_vma=False,
        )

    def begin(self, member: _Inputs) -> FederatedState:
        key_init, _ = jax.random.split(jax.random.key(member.seed))
        return self._algorithm(member).init(key_init, member.data)

    def rounds(self, member: _Inputs, state: FederatedState) -> Any:
        _, key_run = jax.random.split(jax.random.key(member.seed))
        algorithm = self._algorithm(member)
        # On all data as one client's there is one model; else a member's clients stay on the member's device.
        assign = self.first.assign if self.first.config.method == "centralized" else algorithm.assign

        def validation_loss(after: FederatedState) -> jax.Array:
            cluster = assign(after, member.data)[member.validation_client]
            return mean_loss(self.first.model, after.params, cluster, member.validation_windows)

        return run(algorithm, key_run, state, member.data, self.chunk_rounds, validation_loss)

    def _algorithm(self, member: _Inputs) -> FederatedAlgorithm:
        first, config = self.first, self.first.config
        map_clients = client_map(None if config.client_batch_size == -1 else config.client_batch_size)
        if config.clustering == "ifca":
            length = first.federation.window_length
            clusters = clustering.ifca(
                first.model.loss, self.num_clusters, window_length=length, map_clients=map_clients
            )
        else:
            clusters = clustering.fixed(member.assignment, self.num_clusters)
        return build_algorithm(
            config,
            first.model,
            clusters,
            map_clients,
            member.tuned,
            window_length=first.federation.window_length,
            max_windows=member.data.mask.shape[1],
            seed=member.seed,
        )


def _inputs(experiments: Sequence[Experiment]) -> _Inputs:
    samples = [validation_sample(e) for e in experiments]
    shortest = min(len(client) for _, client in samples)
    tuned = np.array([tunables(e.config, e.privacy) for e in experiments], np.float32)
    return _Inputs(
        seed=np.array([e.config.seed for e in experiments], np.uint32),
        tuned=Tunables(*tuned.T),
        assignment=np.stack([e.assignment for e in experiments]),
        data=_stack_clients([e.train for e in experiments]),
        validation_windows=np.stack([windows[:shortest] for windows, _ in samples]),
        validation_client=np.stack([client[:shortest] for _, client in samples]),
    )


def _stack_clients(data: Sequence[ClientData]) -> ClientData:
    """Pads rows and windows to those of the largest member."""
    num_rows = max(one.series.shape[1] for one in data)
    num_windows = max(one.starts.shape[1] for one in data)

    def pad(leaf: np.ndarray, size: int) -> np.ndarray:
        width = [(0, 0)] * leaf.ndim
        width[1] = (0, size - leaf.shape[1])
        return np.pad(leaf, width)

    return ClientData(
        np.stack([pad(np.asarray(one.series), num_rows) for one in data]),
        np.stack([pad(np.asarray(one.starts), num_windows) for one in data]),
        np.stack([pad(np.asarray(one.mask), num_windows) for one in data]),
    )


def _place(inputs: _Inputs) -> tuple[_Inputs, Mesh]:
    """Divides the members over the devices; the last member fills the places that are left."""
    count = len(inputs.seed)
    devices = jax.devices()[: min(count, jax.device_count())]
    mesh = Mesh(np.asarray(devices), (MEMBERS_AXIS,))
    chosen = np.minimum(np.arange(-(-count // len(devices)) * len(devices)), count - 1)
    filled = jax.tree.map(lambda leaf: leaf[chosen], inputs)
    return jax.device_put(filled, NamedSharding(mesh, PartitionSpec(MEMBERS_AXIS))), mesh


def _split(states: FederatedState, count: int) -> list[FederatedState]:
    host = jax.device_get(states)
    return [jax.tree.map(lambda leaf, m=m: leaf[m], host) for m in range(count)]


def _largest_divisor(number: int, bound: int) -> int:
    return max(d for d in range(1, min(number, bound) + 1) if number % d == 0)
