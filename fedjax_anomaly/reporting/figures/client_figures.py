"""The figures of the clients: who holds what, and which of them were clustered together."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, StrMethodFormatter

from fedjax_anomaly.reporting.figures import style
from fedjax_anomaly.reporting.figures.labels import place_point_labels

_MAX_CATEGORIES = 25
_MAX_NAMED_CLIENTS = 40
_MAX_NAMED_BARS = 120
_BARS_PER_COLUMN = 30
_ROUNDING = 1e-9  # share of the largest singular value below which a component is rounding
_LEADER_INCHES = 0.1  # a name farther from its point than this is tied to it by a line


def partition_figure(counts: Int[np.ndarray, "C K"], category_names: Sequence[str], client_label: str) -> Figure:
    """How many rows of each category each client holds, and how many in all.

    Args:
      counts: rows per client and category.
      category_names: K names. Past 25 the smallest categories are folded into one column.
      client_label: what a client is, as the label of the axis of clients.
    """
    counts = np.asarray(counts)
    shown, folded, other = style.fold(category_names, list(counts.sum(axis=0)), _MAX_CATEGORIES, "categories")
    columns, names = counts[:, shown], [category_names[k] for k in shown]
    if folded:
        columns, names = np.column_stack([columns, counts[:, folded].sum(axis=1)]), [*names, other]
    num_clients = len(counts)
    figure = style.new_figure(3.4 + 0.3 * len(names), float(np.clip(1.9 + 0.2 * num_clients, 3.2, 7.0)))
    heat, bars = figure.subplots(1, 2, sharey=True, width_ratios=[max(len(names), 4), 3])
    mesh = heat.pcolormesh(
        np.ma.masked_less(columns, 1),
        cmap=ListedColormap(matplotlib.colormaps["YlGnBu"](np.linspace(0.1, 1.0, 256))),
        norm=LogNorm(1, max(10, columns.max(initial=0))),
        edgecolors="white",
        linewidth=0.8 if num_clients <= 40 else 0.0,
    )
    heat.set_xticks(np.arange(len(names)) + 0.5, names, rotation=50, ha="right", rotation_mode="anchor")
    heat.set_ylim(num_clients, 0)
    style.dress(heat, y_label=client_label, grid="")
    heat.tick_params(length=0)
    _client_ticks(heat, num_clients)
    colorbar = figure.colorbar(mesh, ax=heat, location="top", aspect=30, pad=0.02, ticks=LogLocator(numticks=6))
    colorbar.minorticks_off()
    colorbar.set_label("Rows (logarithmic; white: none)", fontsize=style.TICK_SIZE, color=style.INK)
    colorbar.ax.tick_params(labelsize=style.NOTE_SIZE, labelcolor=style.INK)
    colorbar.outline.set_visible(False)  # type: ignore[operator]
    bars.barh(np.arange(num_clients) + 0.5, counts.sum(axis=1), height=0.8, color=style.NORMAL)
    bars.xaxis.set_major_locator(MaxNLocator(2, integer=True))
    bars.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    style.dress(bars, x_label="Rows in all", grid="x")
    bars.tick_params(axis="y", length=0)
    return figure


def _client_ticks(axes: Axes, num_clients: int) -> None:
    """Every client's number beside its row, or every tenth, twentieth, ... where they would touch."""
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, num_clients) if num_clients <= 30 * step)
    clients = np.arange(0, num_clients, step)
    axes.set_yticks(clients + 0.5, [str(c) for c in clients])


def sizes_figure(sizes: Int[np.ndarray, " C"], client_names: Sequence[str]) -> Figure:
    """How many rows each client holds, as bars with the clients' names, in as many columns as are readable.

    Args:
      sizes: rows per client.
      client_names: C names. Past 120 clients only the sizes are drawn, in order.
    """
    sizes = np.asarray(sizes)
    if len(sizes) > _MAX_NAMED_BARS:
        return _size_steps(sizes)
    num_columns = -(-len(sizes) // _BARS_PER_COLUMN)
    per_column = -(-len(sizes) // num_columns)
    name_inches = 0.075 * max(len(name) for name in client_names)
    figure = style.new_figure(max(4.6, num_columns * (1.9 + name_inches)), 0.8 + 0.18 * per_column)
    for column, axes in enumerate(figure.subplots(1, num_columns, sharex=True, squeeze=False)[0]):
        own = slice(column * per_column, (column + 1) * per_column)
        axes.barh(np.arange(len(sizes[own])), sizes[own], height=0.7, color=style.NORMAL)
        axes.set_yticks(np.arange(len(sizes[own])), client_names[own])
        axes.set_ylim(per_column - 0.4, -0.6)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        style.dress(axes, x_label="Rows", grid="x")
        axes.tick_params(axis="y", length=0, labelsize=style.NOTE_SIZE)
    return figure


def _size_steps(sizes: Int[np.ndarray, " C"]) -> Figure:
    figure = style.new_figure(6.6, 3.0)
    axes = figure.subplots()
    axes.stairs(np.sort(sizes)[::-1], fill=True, color=style.NORMAL)
    style.dress(axes, x_label="clients, largest first", y_label="rows", grid="y")
    return figure


def cluster_figure(
    summaries: Float[np.ndarray, "C D"],
    assignment: Int[np.ndarray, " C"],
    group: Int[np.ndarray, " C"] | None,
    client_names: Sequence[str],
    adjusted_rand_index: float | None,
) -> Figure:
    """Clients in the plane of the first two principal components of their summaries: colour cluster, marker true group.

    Args:
      summaries: one vector per client.
      assignment: the cluster of each client.
      group: the latent group of each client where it is known.
      client_names: written beside the points of up to 40 clients.
      adjusted_rand_index: agreement of assignment and group, 1 when they are the same; None where undefined.
    """
    points, shares = principal_plane(np.asarray(summaries, dtype=float))
    assignment = np.asarray(assignment)
    shapes = np.zeros_like(assignment) if group is None else np.unique(group, return_inverse=True)[1]
    clusters = np.unique(assignment)
    colors = style.category_colors(len(clusters))
    entries = _legend_entries(clusters, colors, group)
    columns = 1 if len(entries) <= 16 else 2
    figure = style.new_figure(5.6 + 1.2 * columns, max(4.2, 0.6 + 0.21 * len(entries) / columns))
    axes = figure.subplots()
    for k, color in zip(clusters, colors, strict=True):
        for g in np.unique(shapes[assignment == k]):
            chosen = (assignment == k) & (shapes == g)
            marker = style.MARKERS[g % len(style.MARKERS)]
            axes.scatter(
                points[chosen, 0],
                points[chosen, 1],
                s=42,
                color=color,
                marker=marker,
                edgecolors="white",
                linewidths=0.7,
            )
    axes.margins(0.12)
    style.dress(
        axes,
        x_label=f"First principal component ({shares[0]:.0%} of variance)",
        y_label=f"Second principal component ({shares[1]:.0%} of variance)",
    )
    if adjusted_rand_index is not None:
        style.panel_title(axes, f"adjusted Rand index against the true groups: {adjusted_rand_index:.2f}")
    if len(entries) > 1:
        axes.legend(
            handles=entries,
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            ncol=columns,
            frameon=False,
            fontsize=style.TICK_SIZE,
            labelcolor=style.INK,
        )
    if len(points) <= _MAX_NAMED_CLIENTS:
        _name_points(figure, axes, points, client_names)
    return figure


def principal_plane(
    summaries: Float[np.ndarray, "C D"],
) -> tuple[Float[np.ndarray, "C 2"], tuple[float, float]]:
    """Projects vectors onto their first two principal components.

    Returns:
      (coordinates, shares of the variance); a component that the vectors do not have is zero.
    """
    centred = summaries - summaries.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    coordinates = np.zeros((len(summaries), 2))
    shares = np.zeros(2)
    kept = min(2, int(np.count_nonzero(singular > _ROUNDING * singular[0])))
    coordinates[:, :kept] = left[:, :kept] * singular[:kept]
    variance = np.square(singular)
    if variance.sum() > 0.0:
        shares[:kept] = variance[:kept] / variance.sum()
    return coordinates, (float(shares[0]), float(shares[1]))


def _legend_entries(
    clusters: Int[np.ndarray, " K"], colors: Sequence[str], group: Int[np.ndarray, " C"] | None
) -> list[Line2D]:
    """A coloured mark for each cluster and a grey one for each true group."""
    marks = [(f"cluster {k}", color, style.MARKERS[0]) for k, color in zip(clusters, colors, strict=True)]
    for i, g in enumerate(() if group is None else np.unique(group)):
        marks.append((f"true group {g}", style.HELD_OUT, style.MARKERS[i % len(style.MARKERS)]))
    return [
        Line2D([], [], linestyle="none", marker=marker, color=color, markersize=6, label=label)
        for label, color, marker in marks
    ]


def _name_points(figure: Figure, axes: Axes, points: Float[np.ndarray, "C 2"], names: Sequence[str]) -> None:
    """Writes names beside points, once the layout tells how many inches a unit of each axis is."""
    figure.draw_without_rendering()
    to_pixels = axes.transData
    points_inches = to_pixels.transform(points) / figure.dpi
    boxes = place_point_labels(points_inches, names, np.asarray(axes.get_window_extent().extents) / figure.dpi)
    for point, box, name in zip(points_inches, boxes, names, strict=True):
        nearest = np.clip(point, box[:2], box[2:])
        corner, line = box[:2], np.array([point, nearest])
        if np.hypot(*(nearest - point)) > _LEADER_INCHES:
            axes.plot(*to_pixels.inverted().transform(line * figure.dpi).T, color="#9A9A9A", linewidth=0.6, zorder=0.9)
        x, y = to_pixels.inverted().transform(corner * figure.dpi)
        axes.text(x, y, name, fontsize=style.NOTE_SIZE, color=style.INK, va="bottom", in_layout=False)
