"""The figures of the clients show their rows and their clusters."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from fedjax_anomaly.reporting.figures import cluster_figure, partition_figure, save, sizes_figure
from fedjax_anomaly.reporting.figures.client_figures import principal_plane

GENERATOR = np.random.default_rng(0)


def test_the_heat_map_holds_the_counts_largest_category_first() -> None:
    counts = np.array([[1, 0, 30], [2, 5, 0]])
    figure = partition_figure(counts, ["rare", "some", "common"], "client")
    heat: Any
    bars: Any
    heat, bars = figure.axes[:2]
    assert [label.get_text() for label in heat.get_xticklabels()] == ["common", "some", "rare"]
    cells = np.ma.getdata(heat.collections[0].get_array())
    np.testing.assert_array_equal(cells, [[30, 0, 1], [0, 5, 2]])
    np.testing.assert_array_equal(np.ma.getmaskarray(heat.collections[0].get_array()), cells == 0)
    assert [bar.get_width() for bar in bars.patches] == [31, 7]
    assert heat.get_ylabel() == "Client"


def test_small_categories_are_folded_and_no_row_is_lost() -> None:
    counts = GENERATOR.integers(0, 100, size=(4, 30))
    figure = partition_figure(counts, [f"c{k}" for k in range(30)], "client")
    heat: Any = figure.axes[0]
    labels = [label.get_text() for label in heat.get_xticklabels()]
    assert labels[-1] == "other (6 categories)" and len(labels) == 25
    largest = {f"c{k}" for k in np.argsort(counts.sum(axis=0))[-24:]}
    assert set(labels[:-1]) == largest
    cells = np.ma.getdata(heat.collections[0].get_array())
    np.testing.assert_array_equal(cells.sum(axis=1), counts.sum(axis=1))


@pytest.mark.parametrize(("num_clients", "columns"), [(3, 1), (30, 1), (31, 2), (120, 4)])
def test_every_client_has_a_named_bar(num_clients: int, columns: int) -> None:
    sizes = GENERATOR.integers(1, 100, num_clients)
    names = [f"node-{c}" for c in range(num_clients)]
    figure = sizes_figure(sizes, names)
    assert len(figure.axes) == columns
    bars = [bar.get_width() for axes in figure.axes for bar in axes.patches]  # type: ignore[attr-defined]
    assert bars == sizes.tolist()
    assert [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()] == names


def test_clients_too_many_to_name_are_drawn_by_size() -> None:
    sizes = GENERATOR.integers(1, 100, 121)
    axes: Any = sizes_figure(sizes, [str(c) for c in range(121)]).axes[0]
    np.testing.assert_array_equal(axes.patches[0].get_data().values, np.sort(sizes)[::-1])


def test_points_lie_at_the_principal_components_in_the_colour_of_their_cluster() -> None:
    summaries = GENERATOR.normal(size=(12, 5))
    assignment, group = np.arange(12) % 3, np.arange(12) // 6
    figure = cluster_figure(summaries, assignment, group, [f"n{c}" for c in range(12)], 0.5)
    axes: Any = figure.axes[0]
    # Independently: eigenvectors of the covariance, whose signs are free.
    centred = summaries - summaries.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    expected = np.abs(centred @ vectors[:, [-1, -2]])
    drawn = {
        tuple(np.round(np.abs(point), 9)): to_hex(scatter.get_facecolor()[0])
        for scatter in axes.collections
        for point in np.asarray(scatter.get_offsets())
    }
    colors = [drawn[tuple(np.round(point, 9))] for point in expected]
    assert len(set(colors)) == 3
    assert all((colors[i] == colors[j]) == (assignment[i] == assignment[j]) for i in range(12) for j in range(12))
    share = values[-1] / values.sum()
    assert f"({share:.0%} of variance)" in axes.get_xlabel()
    assert "0.50" in axes.get_title(loc="left")


def legend_of(figure: Figure) -> list[str]:
    legend = figure.axes[0].get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_the_legend_lists_clusters_and_true_groups() -> None:
    summaries = GENERATOR.normal(size=(6, 3))
    known = cluster_figure(summaries, np.arange(6) % 2, np.arange(6) % 3, list("abcdef"), 0.1)
    assert legend_of(known) == ["cluster 0", "cluster 1", "true group 0", "true group 1", "true group 2"]
    unknown = cluster_figure(summaries, np.arange(6) % 2, None, list("abcdef"), None)
    assert legend_of(unknown) == ["cluster 0", "cluster 1"]
    assert unknown.axes[0].get_title(loc="left") == ""
    one = cluster_figure(summaries, np.zeros(6, int), None, list("abcdef"), None)
    assert one.axes[0].get_legend() is None


@pytest.mark.parametrize(("num_clients", "named"), [(40, 40), (41, 0)])
def test_up_to_forty_clients_are_named(num_clients: int, named: int) -> None:
    summaries = GENERATOR.normal(size=(num_clients, 3))
    names = [f"node-{c}" for c in range(num_clients)]
    figure = cluster_figure(summaries, np.zeros(num_clients, int), None, names, None)
    assert [text.get_text() for text in figure.axes[0].texts] == names[:named]


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (2, 3)])
def test_a_component_that_does_not_exist_is_zero(shape: tuple[int, int]) -> None:
    coordinates, shares = principal_plane(np.sin(np.arange(np.prod(shape))).reshape(shape))
    assert coordinates.shape == (shape[0], 2)
    np.testing.assert_array_equal(coordinates[:, 1], 0.0)
    assert shares == pytest.approx((1.0, 0.0) if shape[0] > 1 else (0.0, 0.0))


def test_hard_cases_can_be_saved(tmp_path: Path) -> None:
    hard = [
        partition_figure(np.zeros((1, 1), int), ["none"], "client"),
        partition_figure(GENERATOR.integers(0, 50, size=(200, 3)), ["a", "b", "c"], "client"),
        cluster_figure(np.ones((2, 4)), np.zeros(2, int), None, ["a", "b"], None),
        cluster_figure(GENERATOR.normal(size=(24, 2)), np.arange(24) % 12, np.arange(24) % 12, ["n"] * 24, 1.0),
    ]
    for number, figure in enumerate(hard):
        save(figure, tmp_path / f"{number}.png")
    assert len(list(tmp_path.iterdir())) == len(hard)
