"""What an audit found, in words, as a table and as a picture."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from fedjax_anomaly.auditing.canary_audit import CanaryAudit
from fedjax_anomaly.auditing.leakage_audit import Leak
from fedjax_anomaly.reporting.figures import style


def verdict(audit: Mapping[str, Any]) -> str:
    """Whether the claim is disproved; it can never be proved."""
    canaries, formal = audit["canaries"], audit["formal"]
    if canaries is None:
        return "no canaries were planted, so nothing is said about epsilon"
    bound, confidence = canaries["epsilon_lower_bound"], canaries["confidence"]
    found = f"epsilon is at least {bound:.2f} at {confidence:.0%} confidence"
    if formal is None:
        return f"there is no claim to contradict; {found}"
    claimed = canaries["epsilon_claimed"]
    if claimed is None:
        return f"the audit does not contradict the claim, an infinite epsilon; {found}"
    rounds = f"epsilon {claimed:.2f} of {canaries['num_rounds']} round(s)"
    if canaries["contradicts_claim"]:
        return f"THE AUDIT CONTRADICTS THE CLAIM of {rounds}: {found}"
    blunt = (
        f", and could not have: {canaries['num_canaries']} canaries show {canaries['epsilon_ceiling']:.2f} at most"
        if claimed >= canaries["epsilon_ceiling"]
        else ""
    )
    return f"the audit does not contradict the claim of {rounds}{blunt}; it cannot prove it: {found}"


def rows(audit: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(attack, result, what it is to be compared with), a row per result."""
    lines: list[tuple[str, str, str]] = []
    if audit["membership"]:
        trained, untrained = audit["membership"]["trained"], audit["membership"]["untrained"]
        lines += [
            (
                "membership, AUC",
                f"{trained['auc']:.3f} [{trained['auc_low']:.3f}, {trained['auc_high']:.3f}]",
                f"0.5 is guessing; {untrained['auc']:.3f} on the untrained model",
            ),
            (
                "membership, TPR at 1 % FPR",
                f"{trained['tpr_at_1_percent_fpr']:.3f}",
                f"0.01 is guessing; {untrained['tpr_at_1_percent_fpr']:.3f} on the untrained model",
            ),
        ]
    if canaries := audit["canaries"]:
        claimed = canaries["epsilon_claimed"]
        claim = "no finite epsilon is claimed" if claimed is None else f"claimed: {claimed:.2f}"
        lines += [
            (
                f"{canaries['num_canaries']} canaries, epsilon",
                f"at least {canaries['epsilon_lower_bound']:.2f}",
                f"{claim}; at most {canaries['epsilon_ceiling']:.2f} could be shown",
            )
        ]
    for name, leak in (audit["leakage"] or {}).items():
        lost = "" if leak["misfit"] < 2.0 else "; the search failed, which proves nothing"
        lines += [
            (
                f"leakage, {name}",
                f"error {leak['median_relative_error']:.3f}, least {leak['least_relative_error']:.3f}",
                f"1 is the mean of normal windows, 0 is exact{lost}",
            )
        ]
    return lines


def table(audit: Mapping[str, Any]) -> Table:
    """For the console."""
    attacked = audit["attacked"]
    shown = Table(title=f"Audit of {attacked['run']}: {attacked['method']} on {attacked['dataset']}")
    for name in ("attack", "result", "compare"):
        shown.add_column(name)
    for row in rows(audit):
        shown.add_row(*row)
    return shown


def markdown(audit: Mapping[str, Any]) -> str:
    """The page in plain words."""
    attacked, formal = audit["attacked"], audit["formal"]
    claim = "none: the run has no differential privacy"
    if formal:
        epsilon = "infinite" if formal["epsilon"] is None else f"{formal['epsilon']:.3f}"
        claim = f"epsilon {epsilon} at delta {formal['delta']:g} for each {formal['unit']}"
    lines = [
        f"# Audit of {attacked['run']}",
        "",
        f"{attacked['method']} on {attacked['dataset']}, {attacked['num_rounds']} rounds; secure aggregation: "
        f"{attacked['secure_aggregation']}. Formal guarantee: {claim}.",
        "",
        f"**Verdict:** {audit['verdict']}.",
        "",
        "| attack | result | compare |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows(audit)),
        "",
    ]
    if audit["membership"]:
        own = audit["membership"]
        lines += [
            f"Membership: {own['trained']['num_members']} training windows against {own['trained']['num_others']} "
            f"held-out ones of the same clients; interval by {own['trained']['interval']}. Besides membership the two "
            f"groups differ: {'; '.join(own['also_differs'])}.",
            "",
        ]
    if canaries := audit["canaries"]:
        lines += [
            f"Canaries: each a {canaries['unit']}, in by a fair coin; {canaries['num_trainings']} training(s) of "
            f"{canaries['num_rounds']} round(s). The attacker sees {canaries['attacker_sees']} and knows "
            "all directions.",
            "",
        ]
    if audit["leakage"]:
        lines += ["Leakage, from the initial model and one step of SGD:", ""]
        lines += [f"- {name}: {leak['seen']}." for name, leak in audit["leakage"].items()]
        lines += [""]
    return "\n".join(lines)


def draw(canaries: CanaryAudit | None, leaks: Sequence[Leak], path: Path) -> None:
    """Draws one window with its reconstructions, and the canaries' scores; nothing where there is neither."""
    panels = (1 + len(leaks) if leaks else 0) + (1 if canaries else 0)
    if panels == 0:
        return
    figure = style.new_figure(2.6 * max(panels, 2), 3.2)
    axes = np.atleast_1d(np.asarray(figure.subplots(1, panels)))
    if leaks:
        _draw_windows(axes, leaks)
    if canaries:
        _draw_scores(axes[-1], canaries)
    style.save(figure, path)


def _draw_windows(axes: np.ndarray, leaks: Sequence[Leak]) -> None:
    """The first target is in every case: it is attacked alone and is the first client of the sum."""
    true = leaks[0].true[0]
    titles = ["true window", *(f"{leak.name}: {leak.errors[0]:.2f}" for leak in leaks)]
    limit = float(np.abs(true).max())
    for panel, title, window in zip(axes, titles, [true, *(leak.found[0] for leak in leaks)], strict=False):
        panel.imshow(window.T, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        style.panel_title(panel, title)
        style.dress(panel, x_label="row", y_label="feature" if panel is axes[0] else "", grid="")


def _draw_scores(axes: Any, audit: CanaryAudit) -> None:
    score, included = audit.scores
    edges = np.linspace(math.floor(score.min()), math.ceil(score.max()), 25)
    axes.hist(score[~included], edges, color=style.NORMAL, alpha=0.6, label="left out")
    axes.hist(score[included], edges, color=style.ANOMALOUS, alpha=0.6, label="in")
    style.dress(axes, x_label="score", y_label="canaries", grid="y")
    style.legend_above(axes, 2)
