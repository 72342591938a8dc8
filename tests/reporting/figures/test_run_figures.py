"""What the figures of a whole run show is what they were given."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from fedjax_anomaly.reporting.figures import attack_figure, save, score_figure, training_figure

ROUNDS = np.arange(1, 41)
LOSS = 0.1 + np.exp(-ROUNDS / 5)


def legend_of(figure: Figure, panel: int = 0) -> list[str]:
    legend = figure.axes[panel].get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def curves(figure: Figure, panel: int) -> dict[str, tuple[list[float], list[float]]]:
    lines = figure.axes[panel].get_lines()
    return {
        str(line.get_label()): (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in lines
    }


def test_learning_curves_are_the_given_numbers() -> None:
    figure = training_figure(
        ROUNDS, LOSS, 2 * LOSS, np.array([20, 40]), np.array([0.8, 0.9]), np.array([0.5, 0.6]), None
    )
    loss, detection = curves(figure, 0), curves(figure, 1)
    assert loss == {"training": (list(ROUNDS), list(LOSS)), "held-out normal": (list(ROUNDS), list(2 * LOSS))}
    assert detection == {"AUROC": ([20, 40], [0.8, 0.9]), "F1": ([20, 40], [0.5, 0.6])}
    assert figure.axes[0].get_yscale() == "log"
    assert "test rows" in figure.axes[1].get_ylabel()


def test_the_convergence_round_is_marked_in_every_panel() -> None:
    figure = training_figure(ROUNDS, LOSS, LOSS, ROUNDS, LOSS, LOSS, 17)
    assert all([17, 17] in [np.asarray(line.get_xdata()).tolist() for line in axes.get_lines()] for axes in figure.axes)
    assert [text.get_text() for text in figure.axes[0].texts] == ["converged, round 17"]


def test_undefined_values_leave_gaps() -> None:
    figure = training_figure([1, 2, 3], [0.3, None, 0.1], [0.3, 0.2, 0.1], [3], [0.9], [None], None)
    np.testing.assert_array_equal(curves(figure, 0)["training"][1], [0.3, np.nan, 0.1])
    np.testing.assert_array_equal(curves(figure, 1)["F1"][1], [np.nan])


def test_a_run_without_test_labels_has_no_detection_panel() -> None:
    assert len(training_figure(ROUNDS, LOSS, LOSS, np.array([]), np.array([]), np.array([]), None).axes) == 1


def densities(figure: Figure) -> dict[str, Any]:
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, StepPatch)]
    return {str(patch.get_label()): patch for patch in patches if patch.get_label()}


def test_every_density_integrates_to_one_over_the_logarithm() -> None:
    generator = np.random.default_rng(0)
    figure = score_figure(
        generator.lognormal(-3, 0.5, 500), generator.lognormal(-3, 0.6, 700), generator.lognormal(0, 1, 90), 0.2, "rule"
    )
    drawn = densities(figure)
    assert list(drawn) == ["held-out normal (500 rows)", "test, normal (700 rows)", "test, anomalous (90 rows)"]
    for patch in drawn.values():
        data = patch.get_data()
        assert np.sum(data.values * np.diff(np.log10(data.edges))) == pytest.approx(1.0)


def test_scores_are_counted_where_they_lie() -> None:
    # Edges are evenly spaced in the logarithm from 0.01 to 100: 60 bins over 4 decades, 1 is the edge after the 30th.
    figure = score_figure(np.array([0.01, 0.02]), np.array([0.5]), np.array([2.0, 3.0, 100.0]), 1.0, "rule")
    values = [patch.get_data().values for patch in densities(figure).values()]
    assert [bool(value[:30].any()) for value in values] == [True, True, False]
    assert [bool(value[30:].any()) for value in values] == [False, False, True]


def test_negative_scores_are_drawn_where_they_lie() -> None:
    normal, anomalous = np.linspace(-3.0, -1.0, 40), np.linspace(-2.0, 50.0, 30)
    figure = score_figure(normal, normal, anomalous, -1.5, "rule")
    assert figure.axes[0].get_xscale() == "asinh"
    assert figure.axes[0].get_xlim()[0] == pytest.approx(-3.0)
    for patch, scores in zip(densities(figure).values(), (normal, normal, anomalous), strict=True):
        data = patch.get_data()
        # The bins are even in asinh(score / size), where size is the median of |score|.
        size = np.median(np.abs(np.concatenate([normal, normal, anomalous])))
        widths = np.diff(np.arcsinh(data.edges / size)) / np.log(10.0)
        np.testing.assert_allclose(widths, widths[0])
        assert np.sum(data.values * widths) == pytest.approx(1.0)
        below = data.values[data.edges[1:] <= -1.5] * widths[data.edges[1:] <= -1.5]
        assert abs(below.sum() - (scores < -1.5).mean()) < 0.15


def test_one_threshold_is_a_line_and_several_are_a_band_with_their_median() -> None:
    scores = np.array([0.1, 0.2, 0.3])
    single = score_figure(scores, scores, scores, 0.25, "quantile 0.99")
    assert [np.asarray(line.get_xdata()).tolist() for line in single.axes[0].get_lines()] == [[0.25, 0.25]]
    assert legend_of(single)[-1] == "quantile 0.99"
    several = score_figure(scores, scores, scores, np.array([0.1, 0.4, 0.2]), "quantile 0.99")
    assert [np.asarray(line.get_xdata()).tolist() for line in several.axes[0].get_lines()] == [[0.2, 0.2]]
    band: Any
    (band,) = [patch for patch in several.axes[0].patches if not isinstance(patch, StepPatch)]
    extents = band.get_path().get_extents(band.get_patch_transform())
    assert (extents.x0, extents.x1) == pytest.approx((0.1, 0.4))
    assert legend_of(several)[-1] == "quantile 0.99: range and median"


def test_attacks_are_sorted_by_recall_with_their_rows_written_at_the_bars() -> None:
    figure = attack_figure(
        {"a": 0.5, "b": 1.0, "c": 0.0, "undefined": None}, {"a": 1200, "b": 3, "c": 7, "undefined": 0}
    )
    axes: Any = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c", "a", "b"]  # from the bottom up
    assert [bar.get_width() for bar in axes.patches] == [0.0, 0.5, 1.0]
    assert [text.get_text() for text in axes.texts] == ["7", "1,200", "3", "rows"]


def test_the_rarest_of_many_attacks_are_folded_into_one_bar_weighted_by_rows() -> None:
    # 32 attacks of 100, 101, ... rows, of which the three rarest do not fit beside 29 others: 100, 101, 102 rows with
    # recalls 1, 0, 0 make 100 / 303.
    recall = {f"a{i}": float(i == 0) for i in range(32)}
    figure = attack_figure(recall, {f"a{i}": 100 + i for i in range(32)})
    axes: Any = figure.axes[0]
    assert len(axes.patches) == 30
    assert axes.get_yticklabels()[0].get_text() == "other (3 attacks)"
    assert axes.patches[0].get_width() == pytest.approx(100 / 303)
    assert axes.texts[0].get_text() == "303"


def test_hard_cases_can_be_saved(tmp_path: Path) -> None:
    none, two = np.array([]), np.array([1, 2])
    hard = [
        training_figure(two, LOSS[:2], LOSS[:2], two[:1], np.array([0.5]), np.array([np.nan]), 2),
        training_figure(two, np.full(2, np.nan), np.full(2, np.nan), none, none, none, None),
        score_figure(np.zeros(3), np.zeros(2), none, 0.0, "rule"),
        score_figure(np.ones(3), np.ones(2), np.ones(1), np.ones(4), "rule"),
        score_figure(-np.ones(3), -np.ones(2), -np.ones(1), -1.0, "rule"),
        score_figure(np.zeros(9), np.zeros(9), -np.ones(1), 0.0, "rule"),
        attack_figure({}, {}),
    ]
    for figure in hard:
        save(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]
