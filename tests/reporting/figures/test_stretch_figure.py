"""A stretch of rows shows the rows, the alarms and the true anomalies where they are."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fedjax_anomaly.reporting.figures import stretch_figure
from fedjax_anomaly.reporting.figures.style import ANOMALOUS

L, D = 60, 2
POSITION = 10.0 * np.arange(L)
OBSERVED = np.random.default_rng(0).normal(size=(L, D))
SCORES = np.linspace(0.1, 2.0, L)


def stretch(names: list[str], **changes: Any) -> Figure:
    labels = np.array([name != "normal" for name in names])
    parts: dict[str, Any] = {
        "position": POSITION,
        "position_label": "time [s]",
        "observed": OBSERVED,
        "reconstructed": OBSERVED / 2,
        "column_names": ["load [%]", "latency [ms]"],
        "scores": SCORES,
        "threshold": 1.0,
        "alarms": SCORES > 1.0,
        "labels": labels,
        "attack_names": names,
    }
    return stretch_figure(**parts | changes)


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.axison]


def written_names(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes if not axes.axison for text in axes.texts]


def shaded(axes: Axes) -> list[tuple[float, float]]:
    return [
        (patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches if isinstance(patch, Rectangle)
    ]


def test_columns_are_drawn_as_observed_and_reconstructed() -> None:
    figure = stretch(["normal"] * L)
    for d, axes in enumerate(panels(figure)[:D]):
        observed, reconstructed = axes.get_lines()
        np.testing.assert_array_equal(observed.get_ydata(), OBSERVED[:, d])
        np.testing.assert_array_equal(reconstructed.get_ydata(), OBSERVED[:, d] / 2)
    assert [axes.get_title(loc="left") for axes in panels(figure)[:D]] == ["load [%]", "latency [ms]"]


def test_scores_threshold_and_alarms_are_drawn() -> None:
    axes = panels(stretch(["normal"] * L))[-1]
    lines = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_array_equal(lines["anomaly score"].get_ydata(), SCORES)
    assert np.asarray(lines["threshold"].get_ydata()).tolist() == [1.0, 1.0]
    np.testing.assert_array_equal(lines["alarm"].get_xdata(), POSITION[SCORES > 1.0])
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "Time [s]"


def test_every_panel_shades_each_run_of_anomalous_rows() -> None:
    names = ["normal"] * L
    names[0:2], names[5:9], names[20:21], names[57:60] = ["slow"] * 2, ["leak"] * 4, ["crash"], ["leak"] * 3
    # Rows lie 10 s apart, so row i covers 10 i - 5 to 10 i + 5.
    expected = [(-5.0, 15.0), (45.0, 85.0), (195.0, 205.0), (565.0, 595.0)]
    figure = stretch(names)
    assert all(shaded(axes) == expected for axes in panels(figure))
    assert written_names(figure) == ["slow", "leak", "crash", "leak"]


def test_the_number_of_shaded_spans_is_the_number_of_runs_for_random_rows() -> None:
    names = list(np.random.default_rng(1).choice(["normal", "leak", "crash"], size=L))
    starts = [i for i in range(L) if names[i] != "normal" and (i == 0 or names[i - 1] != names[i])]
    axes = panels(stretch(names))[-1]
    assert len(shaded(axes)) == len(starts)
    assert all(patch.get_facecolor()[:3] == pytest.approx(_rgb(ANOMALOUS)) for patch in axes.patches)


def _rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))


@pytest.mark.parametrize(("names", "expected"), [(["normal"] * L, False), (["leak"] * L, True)])
def test_the_legend_names_true_anomalies_only_where_there_are_some(names: list[str], expected: bool) -> None:
    figure = stretch(names)
    (legend,) = figure.legends
    assert ("true anomaly" in [text.get_text() for text in legend.get_texts()]) is expected
    assert written_names(figure) == (["leak"] if expected else [])


def test_too_many_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="5 columns; choose at most 4"):
        stretch(["normal"] * L, observed=np.zeros((L, 5)))


def test_a_single_row_is_refused() -> None:
    with pytest.raises(ValueError, match="1 rows"):
        stretch(["normal"], position=POSITION[:1])


def test_a_burst_is_drawn_on_a_logarithmic_axis_and_the_panel_says_so() -> None:
    bursty = OBSERVED.copy()
    bursty[7, 1] = 1e4
    calm, burst = panels(stretch(["normal"] * L, observed=bursty))[:2]
    assert calm.get_yscale() == "linear"
    assert burst.get_yscale() == "symlog"
    assert "logarithmic above" in burst.get_title(loc="left")
