"""Federated algorithms as pairs of pure functions, and a run as a scan over rounds."""

from fedjax_anomaly.federated.adaptive_clipping import adaptively_private
from fedjax_anomaly.federated.aggregation import divided_by, private, private_over_rounds, weighted_sum
from fedjax_anomaly.federated.algorithm import (
    Aggregator,
    ClientUpdate,
    Clustering,
    Cohort,
    FederatedAlgorithm,
    FederatedState,
    RoundInfo,
    WeightedSum,
    cyclic_cohort,
    fixed_size_cohort,
    full_participation,
    poisson_cohort,
    run,
)
from fedjax_anomaly.federated.clustered_fedavg import clustered_fedavg
from fedjax_anomaly.federated.clustering import data_summaries, fixed, ifca, similarity_assignment, single
from fedjax_anomaly.federated.distributed_noise import distributed_noise
from fedjax_anomaly.federated.host_clients import Cohorts, cohorts_ahead, run_cohorts
from fedjax_anomaly.federated.local_noise import locally_private
from fedjax_anomaly.federated.local_training import local_training
from fedjax_anomaly.federated.parallel import client_map, clients_mesh, everywhere, place, place_clients
from fedjax_anomaly.federated.private_local_training import private_local_training
from fedjax_anomaly.federated.private_summaries import private_data_summaries
from fedjax_anomaly.federated.secure_sum import check_sums, secure_sum

__all__ = [
    "Aggregator",
    "ClientUpdate",
    "Clustering",
    "Cohort",
    "Cohorts",
    "FederatedAlgorithm",
    "FederatedState",
    "RoundInfo",
    "WeightedSum",
    "adaptively_private",
    "check_sums",
    "client_map",
    "clients_mesh",
    "clustered_fedavg",
    "cohorts_ahead",
    "cyclic_cohort",
    "data_summaries",
    "distributed_noise",
    "divided_by",
    "everywhere",
    "fixed",
    "fixed_size_cohort",
    "full_participation",
    "ifca",
    "local_training",
    "locally_private",
    "place",
    "place_clients",
    "poisson_cohort",
    "private",
    "private_data_summaries",
    "private_local_training",
    "private_over_rounds",
    "run",
    "run_cohorts",
    "secure_sum",
    "similarity_assignment",
    "single",
    "weighted_sum",
]
