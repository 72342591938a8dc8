"""The figures of many seeds show every seed and the range of their curves."""

from typing import Any

import numpy as np

from fedjax_anomaly.detection.statistics import summary
from fedjax_anomaly.reporting.figures import Curves, seed_curves_figure, seeds_figure


def drawn(axes: Any) -> list[tuple[list[float], list[float]]]:
    return [(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()) for line in axes.get_lines()]


def test_every_seed_the_mean_and_its_interval_are_drawn() -> None:
    f1 = summary([0.5, None, 0.7])
    assert f1 is not None
    figure = seeds_figure(["a", "b"], [{"f1": f1, "auroc": None}, {"f1": summary([0.4]), "auroc": None}])
    axes = figure.axes[0]
    points, mean, interval, single, *_ = [x for x, _ in drawn(axes)]
    assert points == [0.5, 0.7]
    np.testing.assert_allclose(mean, [0.6])
    assert interval == [f1["low"], f1["high"]]
    assert single == [0.4]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert drawn(figure.axes[1]) == []


def test_curves_are_the_mean_in_a_band_over_seeds() -> None:
    loss = Curves(np.array([1, 2, 3]), np.array([[1.0, 0.5, 0.2], [3.0, 0.7, 0.4]]))
    auroc = Curves(np.array([1, 2, 3]), np.array([[np.nan, np.nan, 0.8], [np.nan, np.nan, 0.9]]))
    figure = seed_curves_figure(["a"], {"loss": [loss], "AUROC": [auroc]}, log="loss")
    loss_axes: Any = figure.axes[0]
    ((rounds, mean),) = drawn(loss_axes)
    assert rounds == [1, 2, 3]
    np.testing.assert_allclose(mean, [2.0, 0.6, 0.3])
    corners = {tuple(vertex) for vertex in loss_axes.collections[0].get_paths()[0].vertices}
    assert {(1, 1.0), (1, 3.0), (3, 0.2), (3, 0.4)} <= corners
    ((rounds, mean),) = drawn(figure.axes[1])
    assert rounds == [3]
    np.testing.assert_allclose(mean, [0.85])
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]


def test_a_setting_without_any_value_leaves_an_empty_panel() -> None:
    nothing = Curves(np.array([1, 2]), np.full((2, 2), np.nan))
    ((rounds, _),) = drawn(seed_curves_figure(["a"], {"AUROC": [nothing]}, log="loss").axes[0])
    assert rounds == []
