"""The workloads of the speed benchmarks, and how one is written down so that every contestant does the same work."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from contest.weights import to_torch_names
from rivals.protocol import write_arrays

from fedjax_anomaly import federated, models, privacy
from fedjax_anomaly.federated.local_training import shuffle_real_windows_first
from fedjax_anomaly.models.products import MatmulDtype
from fedjax_anomaly.types import ClientData, FeatureLayout

KEY = 0
"""Of the run: it decides the initial weights, the cohorts and the order of the windows."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """One epoch of plain SGD on every client of a cohort, then their mean.

    Attributes:
      name: in tables and ratios.
      num_clients: C.
      cohort_size: S, clients of a round; C takes all.
      num_windows: N, of each client.
      window_length: T.
      num_features: F.
      hidden_size: H, of the encoder and of the decoder.
      latent_size: Z.
      batch_size: B, a divisor of N.
      learning_rate: of the clients.
      clip_norm: client-level privacy clips every update to this L2 norm and adds noise to their sum; None does not.
        That of W1_dp is less than half of the norm of an update.
      noise_multiplier: standard deviation of the noise over `clip_norm`. It is tiny, so that all the noise is drawn
        and the parameters still compare.
      rounds_per_repetition: rounds of one timing.
      matmul_dtype: of the operands of our matrix products.
    """

    name: str
    num_clients: int
    cohort_size: int
    num_windows: int
    window_length: int
    num_features: int
    hidden_size: int
    latent_size: int
    batch_size: int
    learning_rate: float = 0.01
    clip_norm: float | None = None
    noise_multiplier: float = 0.0
    rounds_per_repetition: int = 5
    matmul_dtype: MatmulDtype = "float32"

    @property
    def gflop_per_round(self) -> float:
        """By the usual count: a multiplication and an addition are two operations, a training step is three passes."""
        encoder = 4 * self.hidden_size * (self.num_features + self.hidden_size)
        decoder = 4 * self.hidden_size * (self.latent_size + self.hidden_size)
        linear = self.hidden_size * (self.latent_size + self.num_features)
        steps = self.cohort_size * self.num_windows * self.window_length
        return 3 * 2 * (encoder + decoder + linear) * steps / 1e9


W1 = Workload("W1", 20, 20, 512, 16, 41, 64, 8, 64)
WORKLOADS = {
    "W1": W1,
    "W1_dp": dataclasses.replace(W1, name="W1_dp", clip_norm=1e-3, noise_multiplier=1e-4),
    "W2": Workload("W2", 200, 40, 128, 16, 41, 64, 8, 64),
    "W3": Workload("W3", 20, 20, 256, 8, 22, 16, 4, 32, rounds_per_repetition=40),
}


def client_data(workload: Workload) -> ClientData:
    """Random windows; what they hold does not matter for speed."""
    rng = np.random.default_rng(0)
    rows = workload.num_windows + workload.window_length - 1
    series = rng.standard_normal((workload.num_clients, rows, workload.num_features), np.float32)
    starts = np.tile(np.arange(workload.num_windows, dtype=np.int32), (workload.num_clients, 1))
    return ClientData(series, starts, np.ones((workload.num_clients, workload.num_windows), bool))


def model_and_training(workload: Workload) -> tuple[models.Autoencoder, federated.algorithm.TrainClient]:
    """The model and the training of one client."""
    model = models.lstm_autoencoder(
        FeatureLayout(workload.num_features),
        hidden_size=workload.hidden_size,
        latent_size=workload.latent_size,
        matmul_dtype=workload.matmul_dtype,
    )
    train_client = federated.local_training(
        model.loss,
        optax.sgd(workload.learning_rate),
        window_length=workload.window_length,
        batch_size=workload.batch_size,
    )
    return model, train_client


def algorithm(
    workload: Workload,
    map_clients: federated.parallel.ClientMap | None,
    aggregator: federated.Aggregator | None = None,
    clustering: federated.algorithm.Clustering | None = None,
) -> federated.FederatedAlgorithm:
    """The workload in this library.

    Args:
      workload: what to train.
      map_clients: the map over clients; None chooses by the platform.
      aggregator: None takes that of the workload: a plain sum, or a private one.
      clustering: None is one model for all.
    """
    model, train_client = model_and_training(workload)
    clustering = clustering or federated.single(workload.num_clients)
    return federated.clustered_fedavg(
        model.init,
        train_client,
        clustering,
        aggregator or _aggregator(workload, clustering.num_clusters),
        optax.sgd(1.0),
        sample_cohort=_sample_cohort(workload),
        map_clients=map_clients,
    )


def _aggregator(workload: Workload, num_clusters: int) -> federated.Aggregator:
    if workload.clip_norm is None:
        return federated.weighted_sum()
    mechanism = privacy.mechanisms.gaussian(workload.clip_norm, workload.noise_multiplier)
    return federated.private(federated.weighted_sum(), mechanism, workload.cohort_size / num_clusters)


def _sample_cohort(workload: Workload) -> federated.algorithm.SampleCohort | None:
    if workload.cohort_size == workload.num_clients:
        return None
    return federated.fixed_size_cohort(workload.num_clients, workload.cohort_size)


def write_task(folder: Path, workload: Workload, num_rounds: int) -> None:
    """Writes data, initial weights, cohorts and batches for `rivals.protocol.Task`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(dataclasses.asdict(workload)))
    data = client_data(workload)
    np.save(folder / "series.npy", data.series)
    state = algorithm(workload, None).init(jax.random.key(KEY), data)
    initial = to_torch_names(jax.tree.map(lambda leaf: leaf[0], state.params))
    write_arrays(folder / "initial.npz", initial)
    cohorts, batches = cohorts_and_batches(workload, num_rounds)
    np.save(folder / "cohorts.npy", cohorts)
    np.save(folder / "batches.npy", batches)


def cohorts_and_batches(workload: Workload, num_rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """What `federated.run` draws from the key: who takes part in each round, and in which order windows are visited.

    Returns:
      Int[R, S], and Int[R, S, N / B, B].
    """
    sample = _sample_cohort(workload) or federated.full_participation(workload.num_clients)
    mask = jnp.ones(workload.num_windows, bool)

    def draw(round: jax.Array) -> tuple[jax.Array, jax.Array]:
        key_cohort, key_train, _ = jax.random.split(jax.random.fold_in(jax.random.key(KEY), round), 3)
        cohort = sample(key_cohort, round).client

        def order(client: jax.Array) -> jax.Array:
            first_epoch = jax.random.fold_in(jax.random.fold_in(key_train, client), 0)
            return shuffle_real_windows_first(first_epoch, mask, workload.batch_size)

        return cohort, jax.vmap(order)(cohort)

    cohorts, orders = jax.device_get(jax.jit(jax.vmap(draw))(jnp.arange(num_rounds)))
    return cohorts, orders.reshape(num_rounds, workload.cohort_size, -1, workload.batch_size).astype(np.int32)
