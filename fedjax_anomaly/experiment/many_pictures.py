"""The figures of a run of many seeds, from its summaries and its members' records of rounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_anomaly.config import TRAINED_IN_ROUNDS, Config
from fedjax_anomaly.reporting import figures
from fedjax_anomaly.reporting.logbook import read_metrics
from fedjax_anomaly.reporting.many_report import name_of
from fedjax_anomaly.reporting.page import ReportFigure

_LOSS = "held-out loss"
_PANELS = {_LOSS: "validation_loss", "AUROC on test rows": "test_auroc", "F1 on test rows": "test_f1"}


def draw_many_figures(
    config: Config, result: dict[str, Any], folders: Sequence[Path], directory: Path
) -> list[ReportFigure]:
    """Draws the figures as PNG files.

    Args:
      config: with `num_seeds` or `sweep`.
      result: from `many.summarize`.
      folders: of `config.members()`, in this order; each holds the member's `metrics.jsonl` if it has rounds.
      directory: where the files go; made if it does not exist.

    Returns:
      The figures with titles and captions, in the order in which a report shows them.
    """
    names = [name_of(setting) for setting in result["settings"]]
    drawn = []
    if result["settings"][0]["test"]:
        path = directory / "seeds.png"
        figures.save(figures.seeds_figure(names, [setting["test"] for setting in result["settings"]]), path)
        caption = "Each point is a seed; under the points the mean with its 95 % bootstrap interval."
        drawn.append(ReportFigure("Detection over seeds", caption, path))
    if config.method in TRAINED_IN_ROUNDS:
        path = directory / "curves.png"
        figures.save(figures.seed_curves_figure(names, _curves(config.num_seeds, folders), log=_LOSS), path)
        caption = (
            "Mean over seeds, and the range from the least to the greatest. Test metrics are those of a fixed sample "
            "of the test windows; no choice is made by them."
        )
        drawn.append(ReportFigure("Learning over rounds", caption, path, "training"))
    return drawn


def _curves(num_seeds: int, folders: Sequence[Path]) -> dict[str, list[figures.Curves]]:
    """For each panel with any value, the curves of each setting."""
    histories = [read_metrics(folder) for folder in folders]
    groups = [histories[i : i + num_seeds] for i in range(0, len(histories), num_seeds)]
    panels = {label: [_curve(group, key) for group in groups] for label, key in _PANELS.items()}
    return {label: curves for label, curves in panels.items() if np.isfinite(curves[0].values).any()}


def _curve(histories: Sequence[list[dict[str, Any]]], key: str) -> figures.Curves:
    rounds = np.array([record["round"] for record in histories[0]])
    values = np.array([[record.get(key) for record in history] for history in histories], dtype=float)
    return figures.Curves(rounds, values)
