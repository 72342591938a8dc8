"""The figures of a run, from its data and outcome."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_anomaly.data.clients import Federation
from fedjax_anomaly.data.table import Table
from fedjax_anomaly.detection.evaluate import ScoredRows
from fedjax_anomaly.detection.sampling import sample_windows
from fedjax_anomaly.detection.scoring import row_errors
from fedjax_anomaly.experiment.build import Experiment
from fedjax_anomaly.experiment.outcome import Detector, latent_groups, smoothed_scores
from fedjax_anomaly.reporting import figures
from fedjax_anomaly.reporting.page import Part, ReportFigure
from fedjax_anomaly.types import RowSet

_STRETCH_ROWS = 480
_STRETCH_COLUMNS = 3


def draw_figures(
    experiment: Experiment,
    detector: Detector,
    test_rows: ScoredRows,
    history: list[dict[str, Any]],
    result: dict[str, Any],
    directory: Path,
) -> list[ReportFigure]:
    """Draws the run's figures as PNG files.

    Args:
      experiment: what was run.
      detector: with its thresholds.
      test_rows: scored.
      history: one record per round.
      result: from `outcome.result`.
      directory: where the files go; made if it does not exist.

    Returns:
      The figures with titles and captions, in the order in which a report shows them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    drawn: list[ReportFigure] = []

    def add(name: str, title: str, caption: str, figure: Any, part: Part = "detection") -> None:
        path = directory / f"{name}.png"
        figures.save(figure, path)
        drawn.append(ReportFigure(title, caption, path, part))

    if history:
        title = "Loss and detection over rounds" if result["test"] else "Loss over rounds"
        add("training", title, *_training(history, result), part="training")
    add("scores", "Scores and threshold", *_scores(detector, test_rows, result))
    if detector.params is not None and experiment.federation.dataset.row_order != "none":
        stretch = _stretch(experiment, detector)
        if stretch is not None:
            add("stretch", "A stretch of one client's test rows", *stretch)
    if result["test"] and result["test"]["per_attack"]:
        add("attacks", "Recall per attack", *_attacks(test_rows, result))
    add("partition", "Who got what", *_partition(experiment), part="clients")
    if experiment.config.method == "federated" and experiment.federation.num_clients > 2:
        add(
            "clusters",
            "Clients by the similarity of their data",
            *_clusters(experiment, detector, result),
            part="clients",
        )
    return drawn


def _training(history: list[dict[str, Any]], result: dict[str, Any]) -> tuple[str, Any]:
    followed = [record for record in history if record.get("test_auroc") is not None]
    figure = figures.training_figure(
        [record["round"] for record in history],
        [record["train_loss"] for record in history],
        [record["validation_loss"] for record in history],
        [record["round"] for record in followed],
        [record["test_auroc"] for record in followed],
        [record["test_f1"] for record in followed],
        result["timing"]["convergence_round"],
    )
    caption = "Mean training loss of the clients and mean loss on held-out normal windows."
    if followed:
        caption = f"Left: {caption} Right: detection on a fixed sample of the test windows; no choice is made by it."
    return caption, figure


def _scores(detector: Detector, test_rows: ScoredRows, result: dict[str, Any]) -> tuple[str, Any]:
    thresholds = np.unique(detector.thresholds)
    figure = figures.score_figure(
        detector.validation_scores,
        test_rows.score[~test_rows.label],
        test_rows.score[test_rows.label] if result["test"] else None,
        float(thresholds[0]) if len(thresholds) == 1 else thresholds,
        "threshold",
    )
    return f"Distribution of anomaly scores. Threshold: {result['alarms']['threshold_rule']}.", figure


def _attacks(test_rows: ScoredRows, result: dict[str, Any]) -> tuple[str, Any]:
    recall = result["test"]["per_attack"]
    rows = {name: int(test_rows.attack.is_name(name).sum()) for name in recall}
    return "Share of each attack's rows that raised an alarm.", figures.attack_figure(recall, rows)


def _partition(experiment: Experiment) -> tuple[str, Any]:
    config, federation = experiment.config, experiment.federation
    table, name = federation.dataset.train, config.partition_column or federation.dataset.category_columns[0]
    normal = ~table.label
    column = table.column(name)
    counts = np.zeros((federation.num_clients, len(column.names)), np.int64)
    np.add.at(counts, (federation.train_client[normal], column.codes[normal]), 1)
    held = counts.sum(axis=0) > 0
    names = [category for category, keep in zip(column.names, held, strict=True) if keep]
    if (np.count_nonzero(counts, axis=1) == 1).all() and (np.count_nonzero(counts, axis=0) <= 1).all():
        caption = f"Normal training rows of each client; each holds one {name}, which no other client holds."
        own = [column.names[category] for category in counts.argmax(axis=1)]
        return caption, figures.sizes_figure(counts.sum(axis=1), own)
    caption = f"Normal training rows by client and {name}; partition {config.partition}."
    return caption, figures.partition_figure(counts[:, held], names, "client")


def _clusters(experiment: Experiment, detector: Detector, result: dict[str, Any]) -> tuple[str, Any]:
    truth = latent_groups(experiment.federation)
    figure = figures.cluster_figure(
        experiment.summaries,
        detector.cluster,
        truth,
        experiment.federation.client_names,
        result["clusters"]["adjusted_rand_index"],
    )
    caption = "First two principal components of the clients' data summaries, coloured by the model that they share."
    return caption + (" Markers show the simulator's latent groups." if truth is not None else ""), figure


def _stretch(experiment: Experiment, detector: Detector) -> tuple[str, Any] | None:
    """Some hours of one client around its anomalies: a few columns, their reconstruction, the score and the alarms."""
    federation, dataset = experiment.federation, experiment.federation.dataset
    rows = _eventful_rows(federation)
    if rows is None:
        return None
    errors = row_errors(
        experiment.model.column_errors, detector.params, detector.cluster, rows, federation.window_length
    )
    scores = smoothed_scores(experiment, detector, rows)
    client = int(rows.client[0])
    table = dataset.test.take(rows.row)
    reconstructed = _reconstruct(experiment, detector, rows)
    numeric = errors[:, : len(table.numeric_names)]
    contrast = numeric[table.label].mean(axis=0) - numeric[~table.label].mean(axis=0)
    shown = np.argsort(-contrast)[:_STRETCH_COLUMNS]
    figure = figures.stretch_figure(
        *_positions(dataset.test, rows.row),
        table.numeric[:, shown],
        reconstructed[:, shown],
        [table.numeric_names[column] for column in shown],
        scores,
        float(detector.thresholds[client]),
        scores > detector.thresholds[client],
        table.label,
        table.attack.strings(),
    )
    name = federation.client_names[client]
    return f"Client {name}: the columns whose error tells its anomalies best, and the score with its alarms.", figure


def _positions(table: Table, rows: np.ndarray) -> tuple[np.ndarray, str]:
    """Where rows lie on a figure's horizontal axis, and what the axis means."""
    if table.time is None:
        return np.arange(len(rows)), "row of the client's test log"
    return (table.time[rows] - table.time.min()) / 3600.0, "hours into the test period"


def _eventful_rows(federation: Federation) -> RowSet | None:
    """The stretch of whole windows of one client that shows most kinds of attack beside at least half normal rows."""
    length = federation.window_length
    size = min(_STRETCH_ROWS, int(np.bincount(federation.test.client).max())) // length * length
    attack = federation.dataset.test.attack
    label = federation.dataset.test.label
    rows, best, best_kinds = federation.test, None, 0
    for begin in range(0, len(rows.row) - size + 1, max(1, size // 4)):
        own = rows.row[begin : begin + size]
        whole = (rows.client[begin] == rows.client[begin + size - 1]) and (own >= 0).all()
        if not whole or not 0.0 < label[own].mean() <= 0.5:
            continue
        kinds = len(np.unique(attack.codes[own]))
        if kinds > best_kinds:
            best, best_kinds = begin, kinds
    if best is None:
        return None
    part = slice(best, best + size)
    starts = np.arange(0, size - length + 1, dtype=np.int32)
    return RowSet(rows.series[part], starts, rows.client[part], rows.row[part])


def _reconstruct(experiment: Experiment, detector: Detector, rows: RowSet) -> np.ndarray:
    """Float[L, P], the reconstruction of the numeric columns in their own units, window by window."""
    federation = experiment.federation
    windows = sample_windows(
        rows._replace(starts=rows.starts[:: federation.window_length]), federation.window_length, len(rows.row)
    )
    model = jax.tree.map(lambda leaf: leaf[detector.cluster[rows.client[0]]], detector.params)
    num_features = federation.encoder.layout.num_features
    shaped = windows.series.reshape(-1, federation.window_length, num_features)
    output = np.asarray(experiment.model.reconstruct(model, jnp.asarray(shaped)))
    return federation.encoders[rows.client[0]].numeric_values(output.reshape(-1, num_features))
