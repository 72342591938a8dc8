"""What a finished run leaves for the live detector."""

import datetime

import numpy as np

from fedjax_anomaly.data.clients import Federation
from fedjax_anomaly.detection.anomaly_score import Score, mean_score, pvalue_score
from fedjax_anomaly.detection.scoring import ending_row_errors
from fedjax_anomaly.detection.smoothing import causal_mean
from fedjax_anomaly.detection.threshold import client_thresholds
from fedjax_anomaly.experiment.build import Experiment, feature_groups
from fedjax_anomaly.experiment.outcome import Detector, threshold_level
from fedjax_anomaly.live.bundle import Bundle


def make_bundle(experiment: Experiment, detector: Detector) -> Bundle | None:
    """Calibrates the trained models for live scoring, on the held-out normal rows that set the run's own thresholds.

    Args:
      experiment: its parts.
      detector: the trained models.

    Returns:
      None where there is nothing to score a stream with: a classical method has no model, and private preprocessing has
      spent its budget on the thresholds of the evaluation, whose scores are others.
    """
    config, federation = experiment.config, experiment.federation
    if detector.params is None or config.dp_preprocessing != "none":
        return None
    rows, runs = federation.validation, federation.validation_runs
    errors = ending_row_errors(
        experiment.model.column_errors, detector.params, detector.cluster, rows, runs, federation.window_length
    )
    client, time = rows.client, _validation_time(federation)
    reference = errors[::2] if config.score == "pvalue" else errors[:0]
    score: Score = pvalue_score(reference) if config.score == "pvalue" else mean_score
    scores = causal_mean(score(errors), runs, config.score_smoothing).astype(np.float32)
    if config.score == "pvalue":
        scores, client, time = scores[1::2], client[1::2], time[1::2]
    level = threshold_level(config)
    return Bundle(
        params=detector.params,
        cluster=detector.cluster,
        client_names=tuple(federation.client_names),
        encoders=federation.encoders,
        model={
            "name": config.model,
            "latent_per": config.latent_per,
            "feature_groups": feature_groups(federation),
            "hidden_size": config.hidden_size,
            "latent_size": config.latent_size,
            "num_layers": config.num_layers,
            "matmul_dtype": config.matmul_dtype,
        },
        window_length=federation.window_length,
        differences=config.difference_columns,
        step_seconds=_step_seconds(federation),
        score=config.score,
        reference=reference,
        smoothing=config.score_smoothing,
        threshold=config.threshold,
        threshold_level=level,
        threshold_scope=config.threshold_scope,
        thresholds=client_thresholds(config.threshold, level, config.threshold_scope, scores, client, detector.cluster),
        calibration_scores=scores,
        calibration_client=client,
        calibration_time=time,
        trained_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _validation_time(federation: Federation) -> np.ndarray:
    """Float[N], of the held-out rows, in seconds; NaN where rows have none."""
    time, row = federation.dataset.train.time, federation.validation.row
    return np.full(len(row), np.nan) if time is None or federation.dataset.row_order != "time" else time[row]


def _step_seconds(federation: Federation) -> np.ndarray:
    """Float[C], the median step between neighbouring rows of a client, in time order; NaN where none is known."""
    table = federation.dataset.train
    steps = np.full(federation.num_clients, np.nan)
    if federation.dataset.row_order != "time" or table.time is None:
        return steps
    for client in range(federation.num_clients):
        rows = np.flatnonzero(federation.train_client == client)
        step = np.diff(table.time[rows])
        if table.source is not None:
            step = step[np.diff(table.source.codes[rows]) == 0]
        if len(step):
            steps[client] = np.median(step)
    return steps
