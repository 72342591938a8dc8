"""The parts of a page that say what a result was reached with: method, data, clients, privacy, configuration."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedjax_anomaly.reporting import page
from fedjax_anomaly.reporting.page import ReportFigure, byte_count, count, number

_METHODS = {
    "federated": "{model}, trained in a federation of {clients} clients",
    "centralized": "{model}, trained on all clients' rows in one place",
    "local_only": "{model} of its own for each of {clients} clients, trained on this client's rows alone",
    "no_model": "no model: the distance to the mean of normal rows",
    "pca": "PCA reconstruction, fitted on all clients' rows in one place",
    "kmeans": "k-means distance, fitted on all clients' rows in one place",
    "isolation_forest": "Isolation Forest, fitted on all clients' rows in one place",
    "one_class_svm": "one-class SVM, fitted on all clients' rows in one place",
    "linear_svm": "linear SVM, fitted on all clients' labelled rows in one place",
    "rbf_svm": "RBF-approximated SVM, fitted on all clients' labelled rows in one place",
}
_MODELS = {"lstm_autoencoder": "LSTM autoencoder", "dense_autoencoder": "plain autoencoder, without recurrence"}

_ROW_ORDERS = {
    "time": "consecutive samples in time",
    "capture": "in the order of capture, without time stamps",
    "none": "without meaning; no window mixes rows",
}


def method_in_words(method: Mapping[str, Any], num_clients: int) -> str:
    """What the detector is and where it was trained; a method unknown here is called by its name."""
    name, model = str(method["name"]), str(method.get("model"))
    if name not in _METHODS:
        return name
    return _METHODS[name].format(model=_MODELS.get(model, model), clients=num_clients)


def data_and_clients(result: Mapping[str, Any], figures: Sequence[ReportFigure]) -> str:
    """The data set, how its clients differ, and which of them share a model.

    Args:
      result: of one run.
      figures: of the run; those of clients are shown.
    """
    clusters = result.get("clusters")
    return page.section(
        "Data and clients",
        page.columns(dataset(result["dataset"]), heterogeneity(result.get("heterogeneity"))),
        "" if clusters is None else _clusters(clusters, result["dataset"].get("client_names")),
        page.pictures(figures, "clients"),
    )


def dataset(content: Mapping[str, Any]) -> str:
    """Facts of the data set; `content` is that part of a result."""
    order = content.get("row_order")
    return page.facts(
        {
            "Name": number(content.get("name")),
            "Clients": count(content.get("num_clients")),
            "Encoded features": count(content.get("num_features")),
            "Rows per window": count(content.get("window_length")),
            "Training windows, normal rows only": count(content.get("train_windows")),
            "Test windows": count(content.get("test_windows")),
            "Test rows": count(content.get("test_rows")),
            "Anomalous share of the test rows": number(content.get("anomaly_fraction"), "{:.2%}"),
            "Order of the rows": _ROW_ORDERS.get(str(order), number(order)),
        }
    )


def heterogeneity(measured: Mapping[str, Any] | None) -> str:
    """How different the clients are; `measured` is that part of a result, None where nothing was measured."""
    if measured is None or measured["mean_pairwise_distance"] is None:
        return ""
    names = {
        "Mean distance between two clients": number(measured["mean_pairwise_distance"], "{:.3f}"),
        "The same by chance alone (iid_reference)": number(measured["iid_reference"], "{:.3f}"),
        "Largest distance between two clients": number(measured["max_pairwise_distance"], "{:.3f}"),
        "Inequality of the clients' sizes (Gini)": number(measured["size_gini"], "{:.3f}"),
    }
    return page.facts(names) + page.note(f"Distance: {measured['measure']}")


def _clusters(clusters: Mapping[str, Any], client_names: Sequence[str] | None) -> str:
    sizes, assignment = clusters["sizes"], clusters["assignment"]
    if len(sizes) == 1:
        return page.paragraph("All clients share one model.")
    if all(size == 1 for size in sizes):
        return page.paragraph("Each client has a model of its own.")
    names = client_names or [str(client) for client in range(len(assignment))]
    members = [
        ", ".join(name for name, k in zip(names, assignment, strict=True) if k == cluster)
        for cluster in range(len(sizes))
    ]
    pairs = zip(members, sizes, strict=True)
    rows = [[str(cluster), who or page.DASH, count(size)] for cluster, (who, size) in enumerate(pairs)]
    parts = [page.heading("Clusters: clients that share a model")]
    parts.append(page.table(["cluster", "clients", "number of clients"], rows, words=2))
    agreement = clusters.get("adjusted_rand_index")
    if agreement is not None:
        parts.append(page.paragraph(f"Adjusted Rand index against the true groups: {agreement:.3f} (1 is the same)."))
    return "\n".join(parts)


def privacy_section(privacy: Mapping[str, Any] | None) -> str:
    """The privacy statement in words; `privacy` is that part of a result."""
    if privacy is None:
        return page.section("Privacy", page.paragraph("No differential privacy."))
    return page.section("Privacy", privacy_statement(privacy))


def privacy_statement(privacy: Mapping[str, Any]) -> str:
    """What is guaranteed, to whom, against whom, and what is left out."""
    unit = privacy.get("unit_in_words") or f"one {privacy['unit']}"
    epsilon, delta = privacy.get("epsilon"), number(privacy.get("delta"), "{:g}")
    guarantee = (
        f"Differential privacy with ε = {epsilon:.3g} at δ = {delta}. "
        if epsilon is not None
        else f"No finite ε at δ = {delta}: the noise is too small for a guarantee. "
    )
    names = {
        "Noise multiplier": number(privacy.get("noise_multiplier"), "{:.4g}"),
        "Clip norm": number(privacy.get("clip_norm"), "{:.4g}"),
        "Noise on a round's mean, in clip norms": number(privacy.get("noise_to_clip_ratio"), "{:.3g}"),
        "ε by Rényi divergences, for comparison": number(privacy.get("epsilon_rdp"), "{:.3g}"),
        "Sampling": number(privacy.get("sampling")),
        "Accountant": number(privacy.get("accountant")),
        "Trust": number(privacy.get("trust")),
    }
    parts = [page.paragraph(f"{guarantee}The unit of protection is {unit}."), page.facts(names)]
    if privacy.get("mechanisms"):
        parts += [page.paragraph("What was done:"), page.bullets([m["in_words"] for m in privacy["mechanisms"]])]
    if privacy.get("preprocessing"):
        parts.append(page.paragraph(privacy["preprocessing"]))
    parts.append(_privacy_of_clients(privacy.get("per_client")))
    if privacy.get("not_covered"):
        parts += [page.paragraph("The guarantee does not cover:"), page.bullets(privacy["not_covered"])]
    if privacy.get("assumes"):
        parts += [page.paragraph("The guarantee assumes:"), page.bullets(privacy["assumes"])]
    return "\n".join(part for part in parts if part)


def _privacy_of_clients(clients: Sequence[Mapping[str, Any]] | None) -> str:
    """Each client's own guarantee, which differs with its size."""
    if not clients:
        return ""
    rows = [
        [
            str(client),
            count(of["windows"]),
            number(of["sampling_rate"], "{:.3g}"),
            count(of["steps"]),
            number(of["epsilon"], "{:.3g}"),
        ]
        for client, of in enumerate(clients)
    ]
    header = ["client", "windows", "share drawn in a step", "steps", "ε"]
    return page.collapsed("Each client's own guarantee", page.table(header, rows, words=1))


def secure_aggregation(communication: Mapping[str, Any]) -> dict[str, str]:
    """Facts of what the server sees in the clear, and of what hiding the rest takes of a client in a round."""
    facts = {"The server sees": number(communication.get("server_sees"))}
    secure = communication.get("secure_aggregation")
    if secure is None:
        return facts
    name = {"secagg": "SecAgg", "secaggplus": "SecAgg+"}[secure["protocol"]]
    up = ", ".join(f"{step} {byte_count(size)}" for step, size in secure["message_bytes_up"].items())
    return facts | {
        "Secure aggregation": f"{name}, {secure['mean_neighbours']:.1f} neighbours for each client on average; a seed "
        f"is rebuilt from {secure['threshold']} shares",
        "Sent by one client, per round": f"{byte_count(secure['up_bytes_per_client_round'])} ({up})",
        "Sent to one client, per round": byte_count(secure["down_bytes_per_client_round"]),
        "Work of one client for the protocol, per round": f"{1e3 * secure['client_seconds_per_round']:,.1f} ms",
    }


def configuration(config: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """The settings of a run and what it ran on, which open on a click."""
    return page.section(
        "Configuration and environment",
        page.collapsed("Configuration", page.json_block(config)),
        page.collapsed("Environment", page.json_block(environment)),
    )
