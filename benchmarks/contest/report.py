"""The tables and the ratios of `peers.py`, from what the contestants reached."""

import datetime
import statistics
from collections.abc import Sequence
from typing import Any

import harness
from rivals.protocol import MATMUL_SIZE
from workloads import WORKLOADS

from contest.compare import Result, Start
from contest.contestants import Contestant

Row = dict[str, Any]

OURS = "ours"
WITHOUT_PRIVACY = "ours_without_privacy"
"""Ours on W1, in turns with W1_dp."""

MATMUL_GFLOP = 2 * MATMUL_SIZE**3 / 1e9


def rows_of(results: Sequence[Result], starts: Sequence[Start]) -> list[Row]:
    """A row for each contestant on each workload, and one for each one's starts."""
    rows: list[Row] = []
    for result in results:
        rounds = [1.0 / seconds for seconds in result.seconds]
        row: Row = {"workload": result.workload, "contestant": result.contestant}
        if is_matmul(result):
            row["gflop_per_second"] = statistics.median(rounds) * MATMUL_GFLOP if rounds else None
        else:
            row |= {
                "rounds_per_second": statistics.median(rounds) if rounds else None,
                "fastest": max(rounds, default=None),
                "slowest": min(rounds, default=None),
                "peak_memory_mb": result.peak_memory_bytes / 1e6 or None,
                "parameter_difference": result.difference,
            }
        rows.append(row | {"failure": result.failure})
    for start in starts:
        later = statistics.median(start.later_seconds) if start.later_seconds else None
        row = {"workload": "first round of W1", "contestant": start.contestant}
        rows.append(
            row
            | {"first_start_seconds": start.first_seconds or None, "later_start_seconds": later}
            | {"later_peak_memory_mb": start.later_peak_memory_bytes / 1e6 or None}
            | {"failure": start.failure}
        )
    return rows


def ratios_of(results: Sequence[Result], starts: Sequence[Start]) -> dict[str, float]:
    """What claims are checked by; a ratio whose parts are not there is left out.

    Speeds are compared within each repetition, and the median over repetitions is taken. Rivals that failed or ended
    at other parameters do not count.
    """
    counted = {(r.workload, r.contestant): r for r in results if r.seconds and not r.failure}
    ratios: dict[str, float] = {}
    for workload in WORKLOADS:
        own = counted.get((workload, OURS))
        if own is None:
            continue
        rivals = [r for (name, _), r in counted.items() if name == workload and is_rival(r)]
        if rivals:
            fastest = min(rivals, key=lambda rival: statistics.median(rival.seconds))
            ratios[f"{workload}_vs_fastest_rival"] = _speedup(fastest, own)
        for rival in rivals:
            ratios[f"{workload}_vs_{rival.contestant}"] = _speedup(rival, own)
        products = [r for (name, _), r in counted.items() if name == workload and is_matmul(r)]
        if products:
            # The better library in each repetition.
            peak = [MATMUL_GFLOP / min(seconds) for seconds in zip(*(p.seconds for p in products), strict=True)]
            reached = [WORKLOADS[workload].gflop_per_round / seconds for seconds in own.seconds]
            ratios[f"{workload}_share_of_matmul_peak"] = statistics.median(
                r / p for r, p in zip(reached, peak, strict=True)
            )
        plain = counted.get((workload, WITHOUT_PRIVACY))
        if plain is not None:
            ratios["W1_dp_overhead"] = 1.0 / _speedup(plain, own) - 1.0
        if workload == "W1" and rivals:
            leanest = min(rival.peak_memory_bytes for rival in rivals)
            ratios["W1_peak_memory_over_leanest_rival_mb"] = (own.peak_memory_bytes - leanest) / 1e6
    later = {start.contestant: statistics.median(start.later_seconds) for start in starts if start.later_seconds}
    own_start = later.pop(OURS, None)
    if own_start and later:
        ratios["first_round_vs_fastest_rival"] = min(later.values()) / own_start
    memory = {start.contestant: start.later_peak_memory_bytes for start in starts if start.later_peak_memory_bytes}
    own_memory = memory.pop(OURS, None)
    if own_memory and memory:
        ratios["later_peak_memory_over_leanest_rival_mb"] = (own_memory - min(memory.values())) / 1e6
    return ratios


def is_matmul(result: Result) -> bool:
    """Whether it is a matrix product and no contestant."""
    return result.contestant.startswith("matmul_")


def is_rival(result: Result) -> bool:
    """Whether it is someone else's."""
    return not is_matmul(result) and result.contestant not in (OURS, WITHOUT_PRIVACY)


def _speedup(other: Result, own: Result) -> float:
    """How many times as fast `own` is."""
    return statistics.median(a / b for a, b in zip(other.seconds, own.seconds, strict=True))


def page(
    rows: Sequence[Row], ratios: dict[str, float], contestants: Sequence[Contestant], command: str, quick: bool
) -> str:
    """The page for people."""
    machine = harness.machine()
    text = ["# SMOKE TEST, no figures" if quick else "# Against other simulators", ""]
    text.append(
        f"`{command}`, {datetime.date.today().isoformat()}, {machine['cores']} cores of {machine['processor']}."
    )
    text.append(
        "Medians over repetitions in which the contestants took turns. Peak memory is the proportional set size of a "
        "contestant with its children, from the start through the first rounds. The difference of parameters from ours "
        f"is relative to what training changed. A round of W1 is {WORKLOADS['W1'].gflop_per_round:.1f} GFLOP."
    )
    for workload in dict.fromkeys(row["workload"] for row in rows):
        text += ["", f"## {workload}", ""]
        own = [row for row in rows if row["workload"] == workload]
        columns = list(dict.fromkeys(column for row in own for column in row if column != "workload"))
        text.append(harness.markdown_table([{c.replace("_", " "): _cell(row.get(c)) for c in columns} for row in own]))
    text += ["", "## Ratios", "", harness.markdown_table([{"ratio": n, "value": v} for n, v in ratios.items()])]
    settings = [
        {
            "contestant": contestant.name,
            "what": contestant.label,
            "packages": " ".join(contestant.environment.requirements) if contestant.environment else "this one's",
            "settings": contestant.settings,
        }
        for contestant in contestants
    ]
    return "\n".join([*text, "", "## Settings", "", harness.markdown_table(settings), ""])


def _cell(value: Any) -> Any:
    return "–" if value is None or value == "" else value
