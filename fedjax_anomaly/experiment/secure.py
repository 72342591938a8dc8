"""Secure aggregation in a run: its aggregator, what it refuses, and what it costs."""

import secrets
from typing import Any

import numpy as np
from jax.sharding import Mesh

from fedjax_anomaly.config import Config
from fedjax_anomaly.experiment.example_shares import secure_gradient_sum
from fedjax_anomaly.federated.algorithm import Aggregator
from fedjax_anomaly.federated.secure_sum import secure_sum
from fedjax_anomaly.privacy.secure_aggregation import MaskGraph, client_seconds, client_traffic, mask_graph
from fedjax_anomaly.privacy.secure_aggregation.graph import complete_threshold


def secure_aggregator(config: Config, max_windows: int, mesh: Mesh | None) -> Aggregator:
    """The aggregator that a config names.

    Under client-level differential privacy all clients weigh 1 and an update's elements are at most its clip norm;
    rounding toward zero never lengthens an update, so that the sensitivity holds as it is.

    Args:
      config: with `secure_aggregation`.
      max_windows: the most training windows that a client has; the bound that is made public is the next power of two.
      mesh: see `federated.secure_sum`.
    """
    assert config.secure_aggregation != "none"
    if config.dp_unit == "client":
        # A clip norm that moves is the unit of what is summed.
        bounds = {"max_weight": 1.0, "clip": 1.0 if config.clip_quantile else config.clip_norm}
        return secure_sum(config.secure_aggregation, **bounds, rounding="toward_zero", mesh=mesh)
    if config.trust == "distributed":
        return secure_gradient_sum(config, max_windows, mesh)
    max_weight = float(2.0 ** np.ceil(np.log2(max_windows)))
    return secure_sum(config.secure_aggregation, max_weight=max_weight, clip=config.secagg_clip, mesh=mesh)


def check_clusters(config: Config, assignment: np.ndarray) -> None:
    """Refuses sums of a single client, which no mask can hide.

    Args:
      config: the settings, with the number of clients as it turned out.
      assignment: who shares a model from the start.

    Raises:
      ValueError: naming the cluster, or the size of the cohort, and the way out.
    """
    if config.secure_aggregation == "none":
        return
    smallest = config.cohort_size
    if config.client_sampling == "cyclic":
        smallest = config.num_clients % smallest or smallest  # That of the last turn.
    if smallest < 2:
        raise ValueError(
            f"secure_aggregation={config.secure_aggregation} sums the updates of at least 2 clients in a round, but "
            f"there is {smallest}; give more --num_clients or --clients_per_round."
        )
    sizes = np.bincount(assignment)
    if (sizes == 1).any():
        cluster = int(np.argmin(sizes != 1))
        raise ValueError(
            f"secure_aggregation={config.secure_aggregation} cannot hide the update of client "
            f"{int(np.argmax(assignment == cluster))}, which has a cluster of its own (sizes {sizes.tolist()}); give "
            "a smaller --num_clusters."
        )


def secure_communication(
    config: Config, num_parameters: int, model_bytes_down: int, history: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """What secure aggregation did and cost over a run; None without it.

    Bytes are those of the protocol's serialized messages (`privacy.secure_aggregation.client_traffic`), for the clients
    and pairs of clients that each round had. The seconds are those of one client's work, measured on this machine with
    the protocol's own cryptography and not the simulation's.

    Args:
      config: the settings.
      num_parameters: of one model; a vector has one value more, the weight, and one where the clip norm moves.
      model_bytes_down: of the models that a client receives in a round.
      history: one record per round.
    """
    if config.secure_aggregation == "none":
        return None
    num_values = num_parameters + (2 if config.clip_quantile else 1)
    alone, linked = (client_traffic(neighbours, num_values) for neighbours in (0, 1))
    clients = sum(record["participants"] for record in history)
    links = 2 * sum(record["mask_pairs"] for record in history)
    up, down = (
        clients * sum(of_one.values()) + links * (sum(of_pair.values()) - sum(of_one.values()))
        for of_one, of_pair in zip(alone, linked, strict=True)
    )
    mean = 1.0 / max(clients, 1)
    graph = _typical_graph(config, round(links * mean))
    messages = client_traffic(graph.num_neighbours, num_values)
    return {
        "protocol": config.secure_aggregation,
        "mean_neighbours": links * mean,
        "threshold": graph.threshold,
        "up_bytes": up,
        "down_bytes": down + clients * model_bytes_down,
        "up_bytes_per_client_round": round(up * mean),
        "down_bytes_per_client_round": round(down * mean) + model_bytes_down,
        "message_bytes_up": messages.up,
        "message_bytes_down": messages.down,
        "client_seconds_per_round": sum(client_seconds(graph, num_values, secrets.token_bytes)),
        "clipped_values": sum(record["clipped_values"] for record in history),
        "bare_sums": sum(record["bare_sums"] for record in history),
    }


def _typical_graph(config: Config, num_neighbours: int) -> MaskGraph:
    """That of a sum in which a client has so many neighbours: as planned, or all others where these are fewer."""
    assert config.secure_aggregation != "none"
    poisson = config.client_sampling == "poisson" and config.cohort_size < config.num_clients
    planned = mask_graph(config.secure_aggregation, config.num_clients if poisson else config.cohort_size)
    if num_neighbours >= planned.num_neighbours:
        return planned
    others = max(num_neighbours, 1)
    return MaskGraph(others + 1, others, complete_threshold(others))


def server_sees(config: Config) -> str:
    """What the server of a run sees of the clients' training in the clear, in words."""
    if config.method == "local_only":
        return "nothing: each client trains alone"
    if config.method != "federated":
        return "all training rows"
    if config.secure_aggregation == "none":
        local = config.trust == "local" and config.dp_unit == "client"
        return "each client's noisy update" if local else "each client's update, and its number of windows"
    summed = "clipped updates" if config.dp_unit == "client" else "updates and of the numbers of windows"
    what = "noisy sum" if config.trust == "distributed" else "sum"
    return (
        f"the {what} of the {summed} of the clients that share a model, and who took part; no single client's update "
        "(simulated in one process: see docs/privacy.md)"
    )
