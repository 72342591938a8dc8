"""From a configuration to the parts of a run."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from fedjax_anomaly import trees
from fedjax_anomaly.baselines.centralized import pooled
from fedjax_anomaly.baselines.classical import SAW_ATTACK_LABELS
from fedjax_anomaly.config import CLIENTS_WITHOUT_SOURCES, Config
from fedjax_anomaly.data.clients import Federation, federate
from fedjax_anomaly.data.differences import with_differences
from fedjax_anomaly.data.load import load
from fedjax_anomaly.data.partition import partition
from fedjax_anomaly.data.shift import shift
from fedjax_anomaly.data.table import Dataset
from fedjax_anomaly.experiment import preprocessing, secure
from fedjax_anomaly.experiment.central_privacy import private_aggregator
from fedjax_anomaly.experiment.noise_trust import aggregator_of_clients
from fedjax_anomaly.experiment.privacy_plan import PrivacyPlan, plan_privacy, training_stride
from fedjax_anomaly.federated import aggregation, clustering, optimizers
from fedjax_anomaly.federated.algorithm import (
    Aggregator,
    Clustering,
    FederatedAlgorithm,
    FederatedState,
    SampleCohort,
    TrainClient,
    cyclic_cohort,
    fixed_size_cohort,
    poisson_cohort,
)
from fedjax_anomaly.federated.clustered_fedavg import clustered_fedavg
from fedjax_anomaly.federated.local_noise import locally_private
from fedjax_anomaly.federated.local_training import local_training
from fedjax_anomaly.federated.parallel import ClientMap, client_map, clients_mesh
from fedjax_anomaly.federated.private_local_training import private_local_training
from fedjax_anomaly.models.autoencoder import Autoencoder
from fedjax_anomaly.models.choice import model_named
from fedjax_anomaly.models.lstm_autoencoder import features_of_columns
from fedjax_anomaly.privacy import mechanisms
from fedjax_anomaly.types import ClientData

AroundParts = Callable[[TrainClient, Aggregator], tuple[TrainClient, Aggregator]]
"""(local training, aggregator) -> the same two, with something around them."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that a run needs, before its first round.

    Attributes:
      config: the settings, with the number of clients as it turned out.
      federation: the clients' data.
      model: the autoencoder.
      algorithm: a federated round.
      mesh: the devices that the clients are divided over.
      summaries: Float[C, D], the clients' data summaries.
      assignment: Int32[clients of `train`], who shares a model from the start; zeros where IFCA decides every round.
      train: what is trained on; the clients' data, or all of it as one client's.
      assign: state -> Int[C], the model of each client.
      num_clusters: K, as given or as picked.
      privacy: None without differential privacy.
      upload_bytes: what one client sends in a round.
      download_bytes: what one client receives in a round.
    """

    config: Config
    federation: Federation
    model: Autoencoder
    algorithm: FederatedAlgorithm
    mesh: Mesh
    summaries: np.ndarray
    assignment: np.ndarray
    train: ClientData
    assign: Callable[[FederatedState, ClientData], jax.Array]
    num_clusters: int
    privacy: PrivacyPlan | None
    upload_bytes: int
    download_bytes: int


def build(
    config: Config, dataset: Dataset | None = None, *, vocabularies: tuple[tuple[str, ...], ...] | None = None
) -> Experiment:
    """Builds the parts of a run.

    Args:
      config: the settings.
      dataset: rows of the caller's own; None loads `config.dataset`.
      vocabularies: see `data.fit_encoder`.

    Raises:
      FileNotFoundError: when raw files are missing.
      ValueError: for data or settings that do not fit together.
    """
    dataset = load_dataset(config) if dataset is None else dataset
    _check_labels(config, dataset)
    config = dataclasses.replace(config, num_clients=config.num_clients or _num_sources(dataset))
    noise = preprocessing.plan_preprocessing(config, given_categories=vocabularies is not None)
    federation = _federation(config, dataset, vocabularies, noise)
    preprocessing.check_held_out(config, noise, federation)
    model = _model(config, federation)
    summaries = preprocessing.summaries(config, noise, federation)
    centralized = config.method == "centralized"
    assignment = _assignment(config, federation.num_clients, summaries)
    secure.check_clusters(config, assignment)
    mesh = clients_mesh()
    map_clients = client_map(None if config.client_batch_size == -1 else config.client_batch_size, mesh)
    clusters = _clustering(config, federation, model, assignment, map_clients)
    params = jax.eval_shape(model.init, jax.random.key(0))
    num_clusters = clusters.num_clusters
    train = pooled(federation.train) if centralized else federation.train
    num_windows = tuple(np.sum(train.mask, axis=1).tolist())
    privacy = plan_privacy(config, num_windows, trees.num_elements(params), num_clusters, assignment, noise)
    algorithm = build_algorithm(
        config,
        model,
        clusters,
        map_clients,
        tunables(config, privacy),
        window_length=federation.window_length,
        max_windows=federation.train.mask.shape[1],
        mesh=mesh,
    )
    model_bytes = trees.num_bytes(params) if config.method == "federated" else 0
    models_down = num_clusters if config.clustering == "ifca" else 1
    return Experiment(
        config,
        federation,
        model,
        algorithm,
        mesh,
        summaries,
        assignment,
        train,
        (lambda state, data: jnp.zeros(federation.num_clients, jnp.int32)) if centralized else algorithm.assign,
        num_clusters,
        privacy,
        upload_bytes=model_bytes,
        download_bytes=models_down * model_bytes,
    )


class Tunables(NamedTuple):
    """The settings of the algorithm that may be traced, one value or one for each member of a compiled run."""

    learning_rate: float | jax.Array
    proximal_mu: float | jax.Array
    noise_multiplier: float | jax.Array


def tunables(config: Config, privacy: PrivacyPlan | None) -> Tunables:
    """What a config says of them."""
    noise = 0.0 if privacy is None else privacy.noise_multiplier * privacy.noise_share
    return Tunables(config.learning_rate, config.proximal_mu, noise)


def build_algorithm(
    config: Config,
    model: Autoencoder,
    clusters: Clustering,
    map_clients: ClientMap,
    tuned: Tunables,
    *,
    window_length: int,
    max_windows: int,
    mesh: Mesh | None = None,
    seed: int | jax.Array | None = None,
    around: AroundParts = lambda train_client, aggregator: (train_client, aggregator),
) -> FederatedAlgorithm:
    """A federated round.

    Args:
      config: the settings.
      model: what is trained.
      clusters: who shares a model.
      map_clients: the map over clients.
      tuned: in place of the config's own, see `tunables`.
      window_length: T.
      max_windows: the most training windows that a client may have.
      mesh: that of `map_clients`, None for one device.
      seed: of the order in which clients take turns, it may be traced; None takes the config's.
      around: what is put around local training, before a client's noise on its own update, and around the aggregator;
        audits plant canaries and listen there.
    """
    train_client, aggregator = around(
        _local_training(config, window_length, model, tuned),
        _aggregator(
            config,
            tuned.noise_multiplier,
            clusters.num_clusters,
            max_windows,
            mesh,
        ),
    )
    if config.dp_unit == "client" and config.trust == "local":
        train_client = locally_private(train_client, mechanisms.gaussian(config.clip_norm, tuned.noise_multiplier))
    return clustered_fedavg(
        model.init,
        train_client,
        clusters,
        aggregator,
        optimizers.server_optimizer(
            config.server_optimizer,
            config.server_learning_rate,
            config.server_momentum,
            adaptivity=config.server_adaptivity,
            decay_rounds=config.num_rounds if config.server_schedule == "cosine" else 0,
        ),
        sample_cohort=_cohort(config, config.seed if seed is None else seed),
        map_clients=map_clients,
    )


def load_dataset(config: Config) -> Dataset:
    """The rows that a config names."""
    return load(
        config.dataset,
        data_dir=config.data_dir or None,
        cache_dir=config.cache_dir or None,
        seed=config.seed,
        num_services=config.telemetry_services,
        load_profile=config.telemetry_load,
        client_column=config.client_column,
        time_column=config.time_column,
        label_column=config.label_column,
        test_fraction=config.test_fraction,
    )


def _num_sources(dataset: Dataset) -> int:
    source = dataset.train.source
    return CLIENTS_WITHOUT_SOURCES if source is None else len(np.unique(source.codes))


def _check_labels(config: Config, dataset: Dataset) -> None:
    if config.method in SAW_ATTACK_LABELS and not dataset.labelled:
        raise ValueError(
            f"method={config.method} learns from attack labels, but {dataset.name!r} has none; give --label_column, or "
            "another --method."
        )


def _federation(
    config: Config,
    dataset: Dataset,
    vocabularies: tuple[tuple[str, ...], ...] | None,
    noise: preprocessing.Preprocessing | None,
) -> Federation:
    if config.difference_columns:
        dataset = with_differences(dataset)
    if config.score_smoothing > 1 and dataset.row_order == "none":
        raise ValueError(
            f"score_smoothing={config.score_smoothing} would average rows of {dataset.name!r}, whose row order means "
            "nothing; leave --score_smoothing out."
        )
    window_length = config.window_length or (1 if dataset.row_order == "none" else 16)
    train_client, test_client = partition(
        dataset,
        config.partition,
        config.num_clients,
        seed=config.seed,
        alpha=config.dirichlet_alpha,
        shards_per_client=config.shards_per_client,
        column=config.partition_column or None,
        min_normal_rows=2 * config.min_client_windows,
    )
    dataset = shift(
        dataset, config.partition, train_client, test_client, seed=config.seed, strength=config.shift_strength
    )
    return federate(
        dataset,
        train_client,
        test_client,
        window_length=window_length,
        window_stride=training_stride(config, window_length, differenced=config.difference_columns),
        scoring_stride=config.scoring_stride or max(1, window_length // 2),
        validation_fraction=config.validation_fraction,
        min_windows=config.min_client_windows,
        encoding_scope=config.encoding_scope,
        clip=config.encoding_clip,
        deviation_floor=config.deviation_floor,
        min_category_count=config.min_category_count,
        vocabularies=vocabularies,
        encoding_noise=preprocessing.encoding_noise(config, noise, window_length),
        seed=config.seed,
    )


def _model(config: Config, federation: Federation) -> Autoencoder:
    settings: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("hidden_size", "latent_size", "num_layers", "input_masking", "matmul_dtype")
    }
    return model_named(
        config.model,
        federation.encoder.layout,
        window_length=federation.window_length,
        latent_per=config.latent_per,
        feature_groups=feature_groups(federation),
        **settings,
    )


def feature_groups(federation: Federation) -> tuple[tuple[int, ...], ...] | None:
    """The encoded features of each of the data set's groups of columns, where it has any."""
    groups, encoder = federation.dataset.feature_groups, federation.encoder
    return None if groups is None else features_of_columns(encoder.layout, encoder.column_names, groups)


def _assignment(config: Config, num_clients: int, summaries: np.ndarray) -> np.ndarray:
    """Int32, the cluster of each client that is trained on."""
    if config.method == "centralized":
        return np.zeros(1, np.int32)
    if config.method == "local_only":
        return np.arange(num_clients, dtype=np.int32)
    if config.clustering == "ifca":
        return np.zeros(num_clients, np.int32)
    wanted = None if config.num_clusters == "auto" else int(config.num_clusters)
    return clustering.similarity_assignment(summaries, wanted, seed=config.seed)


def _clustering(
    config: Config, federation: Federation, model: Autoencoder, assignment: np.ndarray, map_clients: ClientMap
) -> Clustering:
    if config.clustering == "ifca":
        length = federation.window_length
        return clustering.ifca(model.loss, int(config.num_clusters), window_length=length, map_clients=map_clients)
    return clustering.fixed(assignment)


def _cohort(config: Config, seed: int | jax.Array) -> SampleCohort | None:
    if config.cohort_size == config.num_clients:
        return None
    if config.client_sampling == "cyclic":
        *_, key_order = jax.random.split(jax.random.key(seed), 3)  # The first two are those of the training.
        return cyclic_cohort(jax.random.permutation(key_order, config.num_clients), config.cohort_size)
    sampler = {"fixed_size": fixed_size_cohort, "poisson": poisson_cohort}[config.client_sampling]
    return sampler(config.num_clients, config.cohort_size)


def _local_training(config: Config, window_length: int, model: Autoencoder, tuned: Tunables) -> TrainClient:
    optimizer = optimizers.client_optimizer(config.client_optimizer, tuned.learning_rate)
    settings: dict[str, Any] = {
        "window_length": window_length,
        "batch_size": config.batch_size,
        "local_epochs": config.local_epochs,
        "proximal_mu": tuned.proximal_mu,
    }
    if config.dp_unit == "example":
        mechanism = mechanisms.gaussian(config.clip_norm, tuned.noise_multiplier)
        settings |= {
            "sampling_rate": config.dp_sampling_rate,
            "local_steps": config.local_steps,
            "copies": config.masks_per_window,
        }
        return private_local_training(model.loss, optimizer, mechanism, **settings)
    return local_training(model.loss, optimizer, **settings)


def _aggregator(
    config: Config,
    noise_multiplier: float | jax.Array,
    num_clusters: int,
    max_windows: int,
    mesh: Mesh | None,
) -> Aggregator:
    divisor = config.cohort_size / num_clusters
    if config.dp_unit == "client" and config.trust != "central":
        return aggregator_of_clients(config, noise_multiplier, divisor, mesh)
    in_the_clear = config.secure_aggregation == "none"
    inner = aggregation.weighted_sum() if in_the_clear else secure.secure_aggregator(config, max_windows, mesh)
    if config.dp_unit != "client":
        return inner
    return private_aggregator(config, inner, noise_multiplier, num_clusters)
