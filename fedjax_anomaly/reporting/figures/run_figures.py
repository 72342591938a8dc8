"""The figures of a run as a whole: learning curves, score distributions, recall per attack."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_anomaly.reporting.figures import style

_MAX_ATTACKS = 30
_SCORE_BINS = 60


def training_figure(
    rounds: Sequence[int] | Int[np.ndarray, " R"],
    train_loss: Sequence[float | None] | Float[np.ndarray, " R"],
    validation_loss: Sequence[float | None] | Float[np.ndarray, " R"],
    evaluated_rounds: Sequence[int] | Int[np.ndarray, " E"],
    auroc: Sequence[float | None] | Float[np.ndarray, " E"],
    f1: Sequence[float | None] | Float[np.ndarray, " E"],
    convergence_round: int | None,
) -> Figure:
    """The loss over rounds and, where test rows were scored, how well they were told apart; None leaves a gap.

    Args:
      rounds: of the two losses.
      train_loss: mean over the windows trained on.
      validation_loss: mean over held-out normal windows.
      evaluated_rounds: of the two test metrics; without any, the second panel is left out.
      auroc: on the test rows; they inform no choice.
      f1: on the test rows, at the threshold from held-out normal rows.
      convergence_round: marked where it is not None.
    """
    rounds, evaluated_rounds = np.asarray(rounds), np.asarray(evaluated_rounds)
    train_loss, validation_loss = np.asarray(train_loss, dtype=float), np.asarray(validation_loss, dtype=float)
    auroc, f1 = np.asarray(auroc, dtype=float), np.asarray(f1, dtype=float)
    panels = 2 if len(evaluated_rounds) else 1
    figure = style.new_figure(0.8 + 3.6 * panels, 3.0)
    loss, *detection = figure.subplots(1, panels, squeeze=False)[0]
    _draw_curve(loss, rounds, train_loss, style.NORMAL, "training")
    _draw_curve(loss, rounds, validation_loss, style.HELD_OUT, "held-out normal")
    loss.set_yscale("log")
    style.plain_log_ticks(loss.yaxis)
    style.dress(loss, x_label="round", y_label="reconstruction loss")
    for axes in detection:
        _draw_curve(axes, evaluated_rounds, auroc, style.AUROC, "AUROC")
        _draw_curve(axes, evaluated_rounds, f1, style.F1, "F1")
        values = np.concatenate([auroc, f1])
        lowest = np.nanmin(values) if np.isfinite(values).any() else 0.0
        axes.set_ylim(min(np.floor(lowest * 10) / 10, 0.9), 1.005)
        style.dress(axes, x_label="round", y_label="detection on test rows")
    for axes in [loss, *detection]:
        if convergence_round is not None:
            axes.axvline(convergence_round, color=style.INK, linestyle=":", linewidth=1.1)
        axes.set_xlim(*_padded(float(min(rounds)), float(max(rounds))))
        style.whole_numbers(axes)
        style.legend_above(axes, columns=2)
    if convergence_round is not None:
        _note_convergence(loss, convergence_round)
    return figure


def _draw_curve(
    axes: Axes, rounds: Int[np.ndarray, " R"], values: Float[np.ndarray, " R"], color: str, name: str
) -> None:
    """A line, with marks while they are few enough to tell apart."""
    axes.plot(rounds, values, color=color, label=name, marker="o" if len(rounds) <= 25 else None, markersize=3.5)


def _padded(first: float, last: float) -> tuple[float, float]:
    pad = max(0.03 * (last - first), 0.1)
    return first - pad, last + pad


def _note_convergence(axes: Axes, convergence_round: int) -> None:
    """Writes the round beside its line, on the side with more room."""
    begin, end = axes.get_xlim()
    left_of_line = convergence_round > (begin + end) / 2
    axes.annotate(
        f"converged, round {convergence_round}",
        (convergence_round, 0.96),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if left_of_line else 4, 0),
        textcoords="offset points",
        ha="right" if left_of_line else "left",
        va="top",
        fontsize=style.NOTE_SIZE,
        color=style.INK,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
    )


def score_figure(
    validation_scores: Float[np.ndarray, " N"],
    normal_scores: Float[np.ndarray, " M"],
    anomalous_scores: Float[np.ndarray, " A"] | None,
    threshold: float | Float[np.ndarray, " C"],
    threshold_name: str,
) -> Figure:
    """How anomaly scores are distributed, and where the threshold cuts them.

    The axis is logarithmic, or logarithmic to both sides of zero where there are negative scores, as of an SVM.

    Args:
      validation_scores: of held-out normal rows, which set the threshold.
      normal_scores: of normal test rows, or of all where nothing is known of them.
      anomalous_scores: of anomalous test rows; None where nothing is known of them. Any of the three may be empty.
        On a logarithmic axis a score of zero is drawn at the left end.
      threshold: one, or one per client, then drawn as a band from least to greatest with a line at the median.
      threshold_name: what the legend calls it.
    """
    samples = [
        ("held-out normal", np.asarray(validation_scores, dtype=float), style.HELD_OUT),
        ("test" if anomalous_scores is None else "test, normal", np.asarray(normal_scores, dtype=float), style.NORMAL),
    ]
    if anomalous_scores is not None:
        samples.append(("test, anomalous", np.asarray(anomalous_scores, dtype=float), style.ANOMALOUS))
    together = np.concatenate([scores for _, scores, _ in samples])
    signed = len(together) > 0 and bool(together.min() < 0.0)
    edges, steps = _signed_bins(together) if signed else _log_bins(together)
    figure = style.new_figure(6.6, 3.6)
    axes = figure.subplots()
    for name, scores, color in samples:
        if not len(scores):
            continue
        counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
        density = counts / (len(scores) * np.diff(steps))
        label = f"{name} ({len(scores):,} rows)"
        axes.stairs(density, edges, fill=True, color=color, alpha=0.25)
        axes.stairs(density, edges, color=color, linewidth=1.4, label=label)
    _draw_threshold(axes, np.atleast_1d(np.asarray(threshold, dtype=float)), threshold_name)
    if signed:
        axes.set_xscale("asinh", linear_width=_typical_size(together))
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xticks(_round_ticks(together), minor=False)
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        axes.set_xscale("log")
    axes.set_ylim(bottom=0.0)
    kind = "logarithmic to both sides of zero" if signed else "logarithmic"
    style.dress(axes, x_label=f"Anomaly score ({kind})", y_label="Density per factor of ten")
    style.legend_above(axes, columns=2)
    return figure


def _log_bins(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges, evenly spaced in the logarithm, from the least positive score to the greatest; and their logarithms."""
    positive = scores[np.isfinite(scores) & (scores > 0.0)]
    low, high = (positive.min(), positive.max()) if len(positive) else (1.0, 1.0)
    if high < 1.01 * low:
        low, high = low / 2.0, high * 2.0
    edges = np.geomspace(low, high, _SCORE_BINS + 1)
    return edges, np.log10(edges)


def _signed_bins(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges, evenly spaced where `asinh` takes the place of the logarithm; and where they lie in factors of ten."""
    size = _typical_size(scores)
    steps = np.linspace(np.arcsinh(scores.min() / size), np.arcsinh(scores.max() / size) + 1e-6, _SCORE_BINS + 1)
    return size * np.sinh(steps), steps / np.log(10.0)


def _round_ticks(scores: np.ndarray) -> np.ndarray:
    """Zero and the powers of ten, from the typical size on, within the range of the scores."""
    first = np.floor(np.log10(_typical_size(scores)))
    powers = 10.0 ** np.arange(first, first + 8)
    ticks = np.concatenate([-powers[::-1], [0.0], powers])
    return ticks[(ticks >= scores.min()) & (ticks <= scores.max())]


def _typical_size(scores: np.ndarray) -> float:
    return float(np.median(np.abs(scores))) or 1.0


def _draw_threshold(axes: Axes, thresholds: Float[np.ndarray, " C"], name: str) -> None:
    label = name
    if thresholds.min() < thresholds.max():
        axes.axvspan(thresholds.min(), thresholds.max(), color=style.THRESHOLD, alpha=0.10, linewidth=0)
        label = f"{name}: range and median"
    axes.axvline(float(np.median(thresholds)), color=style.THRESHOLD, linestyle="--", linewidth=1.3, label=label)


def attack_figure(recall: Mapping[str, float | None], rows: Mapping[str, int]) -> Figure:
    """The share of each attack's rows that raised an alarm, as bars from best to worst, with the number of rows.

    Args:
      recall: per attack; an attack whose recall is undefined is left out.
      rows: test rows per attack. Past 30 attacks the rarest are folded into one bar, their recalls weighted by rows.
    """
    names = [name for name, value in recall.items() if value is not None and np.isfinite(value)]
    sizes = [rows[name] for name in names]
    values = np.array([recall[name] for name in names], dtype=float)
    shown, folded, other = style.fold(names, sizes, _MAX_ATTACKS, "attacks")
    bars = [(values[i], names[i], sizes[i]) for i in shown]
    bars.sort(key=lambda bar: (bar[0], bar[2]))
    if folded:
        weights = np.array([sizes[i] for i in folded])
        bars.insert(0, (float(np.average(values[folded], weights=weights)), other, int(weights.sum())))
    figure = style.new_figure(6.2, 1.1 + 0.21 * max(len(bars), 1))
    axes = figure.subplots()
    axes.barh(range(len(bars)), [bar[0] for bar in bars], height=0.68, color=style.ANOMALOUS)
    axes.set_yticks(range(len(bars)), [bar[1] for bar in bars])
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(-0.6, max(len(bars), 1) - 0.4)
    style.dress(axes, x_label="Recall: share of the attack's test rows that raised an alarm", grid="x")
    axes.tick_params(axis="y", length=0)
    for y, bar in enumerate(bars):
        _note_right(axes, y, f"{bar[2]:,}")
    if bars:
        _note_right(axes, len(bars) - 0.15, "rows")
    else:
        axes.text(0.5, 0.0, "no attacks among the test rows", ha="center", va="center", fontsize=style.TICK_SIZE)
    return figure


def _note_right(axes: Axes, y: float, text: str) -> None:
    """A number right of the bars, all flush right."""
    axes.annotate(
        text,
        (1.0, y),
        xycoords=("axes fraction", "data"),
        xytext=(44, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=style.NOTE_SIZE,
        color=style.INK,
        annotation_clip=False,
    )
