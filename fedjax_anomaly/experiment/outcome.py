"""From trained parameters to what a run reports: thresholds, metrics, cost, clusters and privacy."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import numpy as np

from fedjax_anomaly import trees
from fedjax_anomaly.baselines.classical import SAW_ATTACK_LABELS, ClassicalMethod, fit, row_scores
from fedjax_anomaly.config import Config
from fedjax_anomaly.data.clients import Federation
from fedjax_anomaly.data.heterogeneity import MEASURE, heterogeneity
from fedjax_anomaly.detection.anomaly_score import Score, mean_score, pvalue_score
from fedjax_anomaly.detection.evaluate import ScoredRows, alarm_rates, evaluate
from fedjax_anomaly.detection.latency import event_latency_ms
from fedjax_anomaly.detection.sampling import sample_windows
from fedjax_anomaly.detection.scoring import row_errors
from fedjax_anomaly.detection.smoothing import causal_mean
from fedjax_anomaly.detection.threshold import THREE_SIGMA, borrows_threshold, client_thresholds
from fedjax_anomaly.detection.time_order import time_order_metrics
from fedjax_anomaly.experiment import privacy_ledger
from fedjax_anomaly.experiment.build import Experiment
from fedjax_anomaly.experiment.preprocessing import private_quantile, threshold_rng
from fedjax_anomaly.experiment.secure import secure_communication, server_sees
from fedjax_anomaly.experiment.training import Trained
from fedjax_anomaly.federated.algorithm import FederatedState
from fedjax_anomaly.types import RowSet

_FOLLOWED_WINDOWS = 4096


@dataclasses.dataclass(frozen=True)
class Detector:
    """What scores rows, with its thresholds.

    Attributes:
      cluster: Int[C], the model of each client.
      params: the K models, on the host; None for a classical detector.
      score_rows: rows -> Float[L], before smoothing.
      event_latency_ms: () -> percentiles of the time that one event takes.
      thresholds: Float[C].
      borrows: Bool[C], the clients whose threshold is that of a wider scope than was asked for.
      validation_scores: Float[N], of the held-out normal rows that set the thresholds.
    """

    cluster: np.ndarray
    params: Any
    score_rows: Callable[[RowSet], np.ndarray]
    event_latency_ms: Callable[[], dict[str, float]]
    thresholds: np.ndarray
    borrows: np.ndarray
    validation_scores: np.ndarray


def calibrate(experiment: Experiment, state: FederatedState) -> Detector:
    """Scores the held-out normal rows with the trained models and sets the thresholds.

    With `score=pvalue` every other held-out row is the reference for p-values and the rest set the thresholds.
    """
    config, federation = experiment.config, experiment.federation
    params = jax.device_get(state.params)
    cluster = np.asarray(experiment.assign(jax.device_get(state), experiment.train))

    def errors(rows: RowSet) -> np.ndarray:
        return row_errors(experiment.model.column_errors, params, cluster, rows, federation.window_length)

    def latency() -> dict[str, float]:
        one = jax.device_put(jax.tree.map(lambda leaf: leaf[0], params), jax.devices()[0])
        scorer = jax.jit(lambda model, rows: experiment.model.column_errors(model, rows[None])[0, -1].mean())
        return event_latency_ms(lambda window: scorer(one, window), federation.test.series[: federation.window_length])

    validation_errors = errors(federation.validation)
    score: Score = mean_score
    if config.score == "pvalue":
        score = pvalue_score(validation_errors[::2])
    calibrated = _thresholds(experiment, cluster, score(validation_errors))
    return Detector(cluster, params, lambda rows: score(errors(rows)), latency, *calibrated)


def classical_detector(experiment: Experiment) -> Detector:
    """Fits the classical baseline that the config names, and sets its thresholds by the same rule."""
    config, federation = experiment.config, experiment.federation
    length = federation.window_length
    window_scores = fit(cast(ClassicalMethod, config.method), federation, seed=config.seed)
    cluster = np.zeros(federation.num_clients, np.int32)
    calibrated = _thresholds(experiment, cluster, row_scores(window_scores, federation.validation, length))

    def latency() -> dict[str, float]:
        return event_latency_ms(lambda window: window_scores(window[None])[0, -1], federation.test.series[:length])

    return Detector(cluster, None, lambda rows: row_scores(window_scores, rows, length), latency, *calibrated)


def _thresholds(
    experiment: Experiment, cluster: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Float[C] from the scores of the held-out normal rows, Bool[C] of those borrowed, the scores that set them."""
    config, rows = experiment.config, experiment.federation.validation
    scores, client = (
        causal_mean(scores, series_numbers(experiment.federation, rows), config.score_smoothing),
        rows.client,
    )
    if config.score == "pvalue":
        scores, client = scores[1::2], client[1::2]
    if experiment.privacy is not None and experiment.privacy.preprocessing is not None:
        search = private_quantile(config, experiment.privacy.preprocessing, experiment.federation.window_length)
        num_scores = np.bincount(client, minlength=len(cluster))
        thresholds = search.thresholds(scores, client, cluster, threshold_rng(config))
        return thresholds, search.borrows(num_scores, cluster), scores
    level = threshold_level(config)
    thresholds = client_thresholds(config.threshold, level, config.threshold_scope, scores, client, cluster)
    borrows = borrows_threshold(config.threshold, level, config.threshold_scope, client, cluster)
    return thresholds, borrows, scores


def threshold_level(config: Config) -> float:
    """The level of the rule that sets thresholds, see `client_thresholds`."""
    return {
        "quantile": config.threshold_quantile,
        "conformal": config.target_fpr,
        "mean_3sigma": THREE_SIGMA,
    }[config.threshold]


def score_test_rows(experiment: Experiment, detector: Detector, rows: RowSet | None = None) -> ScoredRows:
    """Scores test rows; None takes all of them."""
    federation = experiment.federation
    rows = federation.test if rows is None else rows
    score = smoothed_scores(experiment, detector, rows)
    real = rows.row >= 0
    attack = federation.dataset.test.attack.take(rows.row[real])
    label = federation.dataset.test.label[rows.row[real]]
    return ScoredRows(score[real], rows.client[real], attack, label)


def smoothed_scores(experiment: Experiment, detector: Detector, rows: RowSet) -> np.ndarray:
    """Float[L], padding included."""
    series = series_numbers(experiment.federation, rows)
    return causal_mean(detector.score_rows(rows), series, experiment.config.score_smoothing)


def series_numbers(federation: Federation, rows: RowSet) -> np.ndarray:
    """Int[L], a number that changes with the client, and in time order where rows are missing between two."""
    breaks = np.zeros(len(rows.row), bool)
    breaks[1:] = np.diff(rows.client) != 0
    if federation.dataset.row_order == "time":
        padding = (rows.row[1:] < 0) | (rows.row[:-1] < 0)
        breaks[1:] |= (np.diff(rows.row) != 1) & ~padding
    return np.cumsum(breaks)


def follow(experiment: Experiment, state: FederatedState) -> dict[str, float | None]:
    """Accuracy, AUROC and F1 on a fixed sample of the test windows, to draw over rounds; no choice is made by them.

    Nothing where the test rows carry no labels.
    """
    federation = experiment.federation
    if not federation.dataset.labelled:
        return {}
    detector = calibrate(experiment, state)
    sample = sample_windows(federation.test, federation.window_length, _FOLLOWED_WINDOWS)
    test, _ = evaluate(score_test_rows(experiment, detector, sample), detector.thresholds, detector.cluster)
    return {f"test_{name}": test[name] for name in ("accuracy", "auroc", "f1")}


def convergence_round(validation_loss: list[float]) -> int | None:
    """The first round after which the loss stays within 1 % of its total decrease from its final value.

    Returns:
      A round, counted from 1, or None when the loss did not decrease.
    """
    if len(validation_loss) < 2 or not validation_loss[-1] < validation_loss[0]:
        return None
    bound = validation_loss[-1] + 0.01 * (validation_loss[0] - validation_loss[-1])
    above = np.flatnonzero(np.asarray(validation_loss) > bound)
    return int(above[-1]) + 2


def result(
    experiment: Experiment,
    trained: Trained | None,
    detector: Detector,
    test_rows: ScoredRows,
    *,
    history: list[dict[str, Any]],
    total_seconds: float,
) -> dict[str, Any]:
    """The content of `result.json`; `test` and `oracle` are None where the test rows carry no labels.

    Args:
      experiment: what was run.
      trained: the end of the rounds; None for a classical method.
      detector: from `calibrate`.
      test_rows: from `score_test_rows`.
      history: one record per round since round 1.
      total_seconds: of the whole run.
    """
    federation, method = experiment.federation, experiment.config.method
    borrowed = np.flatnonzero(detector.borrows).tolist()
    rule = {"threshold_rule": threshold_rule(experiment)}
    test, oracle = _metrics(federation, test_rows, detector) if federation.dataset.labelled else (None, None)
    return {
        "method": {"name": method, "model": experiment.config.model, "saw_attack_labels": method in SAW_ATTACK_LABELS},
        "dataset": _dataset(federation, test_rows),
        "heterogeneity": _heterogeneity(federation),
        "alarms": rule | alarm_rates(test_rows, detector.thresholds) | {"clients_with_borrowed_threshold": borrowed},
        "test": test and test | rule,
        "oracle": oracle,
        "timing": _timing(trained, history, total_seconds),
        "latency_ms": detector.event_latency_ms(),
        "communication": _communication(experiment, history),
        "privacy": privacy_ledger.statement(experiment, len(history)),
        "clusters": _clusters(experiment, detector),
    }


def _metrics(
    federation: Federation, test_rows: ScoredRows, detector: Detector
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is measured by the labels of the test rows: `test` and `oracle`."""
    test, oracle = evaluate(test_rows, detector.thresholds, detector.cluster)
    if federation.dataset.row_order == "time" and federation.dataset.test.time is not None:
        test["time_order"] = _time_order(federation, test_rows, detector)
    return test, oracle


def _time_order(federation: Federation, test_rows: ScoredRows, detector: Detector) -> dict[str, Any]:
    """Metrics of events and intervals; one series is what one source did at one client."""
    table = federation.dataset.test
    assert table.time is not None
    rows = federation.test.row[federation.test.row >= 0]
    source = np.zeros(len(rows), int) if table.source is None else table.source.codes[rows]
    series = np.cumsum(np.diff(test_rows.client, prepend=0) != 0) + np.cumsum(np.diff(source, prepend=source[0]) != 0)
    step = np.diff(table.time[rows])[np.diff(series) == 0]
    return time_order_metrics(
        test_rows.label, test_rows.alarms(detector.thresholds), test_rows.score, series, float(np.median(step))
    )


def threshold_rule(experiment: Experiment) -> str:
    """The threshold rule in words."""
    config = experiment.config
    whose = {"global": "all clients", "cluster": "the client's cluster", "client": "the client"}[config.threshold_scope]
    if config.threshold == "quantile":
        by = "" if config.dp_preprocessing == "none" else ", by noisy counts"
        return f"{config.threshold_quantile:g} quantile of held-out normal training rows of {whose}{by}"
    if config.threshold == "mean_3sigma":
        return f"mean plus {THREE_SIGMA:g} standard deviations of held-out normal training rows of {whose}"
    return f"conformal, false-positive rate {config.target_fpr:g}, on held-out normal training rows of {whose}"


def _dataset(federation: Federation, test_rows: ScoredRows) -> dict[str, Any]:
    dataset = federation.dataset
    return {
        "name": dataset.name,
        "num_clients": federation.num_clients,
        "num_features": federation.encoder.layout.num_features,
        "train_windows": int(federation.train.mask.sum()),
        "test_windows": len(federation.test.starts),
        "test_rows": len(test_rows.label),
        "client_names": federation.client_names,
        "anomaly_fraction": float(test_rows.label.mean()) if dataset.labelled else None,
        "row_order": dataset.row_order,
        "window_length": federation.window_length,
        "notes": list(dataset.notes),
    }


def _heterogeneity(federation: Federation) -> dict[str, Any]:
    """From the rows as read, since a client's own encoding would even out what the client differs in."""
    return {"measure": MEASURE} | dataclasses.asdict(heterogeneity(federation.dataset.train, federation.train_client))


def _timing(trained: Trained | None, history: list[dict[str, Any]], total_seconds: float) -> dict[str, Any]:
    seconds = float(np.median(trained.round_seconds)) if trained and trained.round_seconds else None
    converged = convergence_round([record["validation_loss"] for record in history])
    return {
        "compile_seconds": trained.compile_seconds if trained else None,
        "rounds_per_second": None if seconds is None else 1.0 / seconds,
        "total_seconds": total_seconds,
        "convergence_round": converged,
        "convergence_seconds": None if converged is None or seconds is None else converged * seconds,
    }


def _communication(experiment: Experiment, history: list[dict[str, Any]]) -> dict[str, Any]:
    """Bytes over all clients together; `setup_bytes` are sent once, for the encoding and the clustering.

    `raw_data_bytes` is what it would take to send the clients' normal training rows to a centre instead: four bytes a
    cell. A centralized method sends these, once.
    """
    dataset = experiment.federation.dataset
    columns = len(dataset.train.numeric_names) + len(dataset.train.categorical_names)
    participants = [record["participants"] for record in history]
    rounds = max(len(history), 1)
    setup = experiment.federation.encoding_upload_bytes
    if experiment.config.clustering == "similarity" and experiment.config.num_clusters != "1":
        setup += experiment.summaries.nbytes
    up_bytes, down_bytes = (
        sum(participants) * per_client for per_client in (experiment.upload_bytes, experiment.download_bytes)
    )
    parameters = trees.num_elements(jax.eval_shape(experiment.model.init, jax.random.key(0)))
    secure = secure_communication(experiment.config, parameters, experiment.download_bytes, history)
    if secure is not None:
        up_bytes, down_bytes = secure.pop("up_bytes"), secure.pop("down_bytes")
    raw_data = 4 * columns * int(np.count_nonzero(~dataset.train.label))
    if experiment.config.method not in ("federated", "local_only"):
        setup = raw_data
    return {
        "up_bytes_per_round": round(up_bytes / rounds),
        "down_bytes_per_round": round(down_bytes / rounds),
        "setup_bytes": setup,
        "total_bytes": up_bytes + down_bytes + setup,
        "raw_data_bytes": raw_data,
        "server_sees": server_sees(experiment.config),
        "secure_aggregation": secure,
    }


def _clusters(experiment: Experiment, detector: Detector) -> dict[str, Any]:
    from sklearn.metrics import adjusted_rand_score  # Slow to import, and not needed before the first round.

    truth = latent_groups(experiment.federation)
    rand = None if truth is None else float(adjusted_rand_score(truth, detector.cluster))
    return {
        "assignment": detector.cluster.tolist(),
        "sizes": np.bincount(detector.cluster, minlength=experiment.num_clusters).tolist(),
        "adjusted_rand_index": rand,
    }


def latent_groups(federation: Federation) -> np.ndarray | None:
    """Int[C], the true group of each client where the simulator knows it and a client holds one group only."""
    dataset = federation.dataset
    if dataset.normal_groups is None or dataset.train.source is None:
        return None
    group_of_code = np.array([dataset.normal_groups[name] for name in dataset.train.source.names])
    groups = group_of_code[dataset.train.source.codes]
    own = [np.unique(groups[federation.train_client == client]) for client in range(federation.num_clients)]
    return np.concatenate(own) if all(len(group) == 1 for group in own) else None
