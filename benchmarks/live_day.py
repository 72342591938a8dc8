"""A telemetry day with injected faults through the live detector: what is alarmed, how soon, how often in vain.

Each fleet of the simulator is another seed, with a detector of its own that the telemetry preset trained on the fleet's
first three days. The day that is replayed comes after those days and the two of the run's own evaluation. Settings are
chosen on some fleets, by the labels of their days, and judged once on others that nobody had looked at. Three fleets
were judged before, with another default, and are reported by themselves. A threshold never sees a label: it is set from
held-out normal rows of the first three days. What counts as found and as false is told in `live_replay.py`.

Every fleet's day is replayed for `detect`'s default and for each rule whose thresholds move. Constant thresholds give
the same scores, so that those of other settings are put to the scores of that replay.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness import add_arguments, markdown_table, write_results
from live_replay import Fault, Replay, Scenario, Told, compare, join, simulate, train

from fedjax_anomaly.config_live import LiveSettings
from fedjax_anomaly.data import telemetry
from fedjax_anomaly.live.alarms import DEFAULT_BUDGET, alarm_rule
from fedjax_anomaly.live.bundle import read_bundle
from fedjax_anomaly.live.interfaces import ScoredEvent, Sink
from fedjax_anomaly.live.start import start

CHOOSING_SEEDS, JUDGED_SEEDS, SEEN_SEEDS = (1, 2, 5, 6, 7, 13, 14, 15, 16, 17), (8, 9, 10, 11, 12), (0, 3, 4)

CANDIDATES: tuple[dict[str, Any], ...] = (
    *({"false_incidents_per_day": budget} for budget in (0.5, 1.0, 1.5, 2.0)),
    {"false_incidents_per_day": 1.5, "incident_alarms": 2},
    *({"target_fpr": fpr} for fpr in (0.005, 0.002, 0.001)),
    *({"target_fpr": fpr, "incident_alarms": 2} for fpr in (0.005, 0.002, 0.001)),
)
COMPARED: tuple[dict[str, Any], ...] = (
    {"target_fpr": 0.002},
    {"alarm_rule": "spot", "target_fpr": 0.002},
    {"alarm_rule": "run"},
    {"false_discovery_rate": 0.1, "incident_alarms": 3},
)
"""Settings of `detect`, where they are not its own: what is chosen from, and what the chosen one is compared with."""

LEAST_FOUND, MOST_DELAY, MOST_FALSE = 0.9, 3.0, 2.0

Setting = tuple[str, float, int]
"""A rule, its level, and the least number of alarms of an incident."""


class Judgement(NamedTuple):
    """Of one or several days.

    Attributes:
      kinds: of the faults.
      delays: of each, in samples, infinite where it was missed.
      false_incidents: of each day.
      stream_days: in each day.
      false_alarms: in all, outside of labelled minutes.
      num_alarms: in all.
    """

    kinds: list[str]
    delays: list[float]
    false_incidents: list[int]
    stream_days: list[float]
    false_alarms: int
    num_alarms: int

    def figures(self) -> dict[str, Any]:
        """The three that the goal is about, false incidents of the worst fleet, and the share of false alarms."""
        found = np.isfinite(self.delays)
        return {
            "faults": len(self.delays),
            "alarmed": float(found.mean()),
            "median delay": float(np.median(self.delays)),
            "false incidents per stream and day": sum(self.false_incidents) / sum(self.stream_days),
            "of the worst fleet": float(np.max(np.divide(self.false_incidents, self.stream_days))),
            "false share of alarms": self.false_alarms / max(self.num_alarms, 1),
        }

    @property
    def missed(self) -> list[str]:
        """The kinds of the faults that were missed."""
        return [kind for kind, delay in zip(self.kinds, self.delays, strict=True) if delay == np.inf]


def judge(day: Scenario, alarms: Sequence[tuple[str, float]], incidents: Sequence[Told]) -> Judgement:
    """Compares alarms and incidents with a day's labels.

    Args:
      day: what was replayed.
      alarms: the stream and time of each.
      incidents: those that were told of.
    """
    delays, false = compare(day, alarms, incidents)
    true_alarms = [alarm for alarm in alarms if alarm in day.anomalous]
    return Judgement(
        [fault.kind for fault in day.faults],
        delays,
        [len(false)],
        [len(day.table) * telemetry.SAMPLING_SECONDS / 86_400.0],
        len(alarms) - len(true_alarms),
        len(alarms),
    )


class _Keep(Sink):
    def __init__(self) -> None:
        self.events: list[ScoredEvent] = []

    def scored(self, events: Sequence[ScoredEvent]) -> None:
        self.events += events


def replay(run: Path, day: Scenario, rule: dict[str, Any]) -> list[ScoredEvent]:
    """Every event of the day after the live detector with this alarm rule."""
    with tempfile.TemporaryDirectory() as folder:
        settings = LiveSettings(run=str(run), output_dir=folder, write_scores="none", max_streams=32, **rule)
        keep = _Keep()
        counts = start(settings, source=Replay(day.table), sinks=[keep]).run()
    if counts.scored != len(day.table):
        raise RuntimeError(f"{counts.scored} of {len(day.table)} events were scored: {counts.as_json()}.")
    return keep.events


def rejudge(run: Path, events: Sequence[ScoredEvent], rule: dict[str, Any]) -> list[ScoredEvent]:
    """The same scores under the constant thresholds that a detector with this alarm rule starts with."""
    bundle = read_bundle(run)
    chosen = alarm_rule(LiveSettings(run=str(run), **rule), bundle)
    thresholds = [
        float(chosen.init(bundle.calibration_of(c, chosen.scores_needed, chosen.scope)))
        for c in range(bundle.num_clients)
    ]
    return [e._replace(threshold=thresholds[e.client], alarm=e.score > thresholds[e.client]) for e in events]


def judge_days(runs: dict[int, Path], rules: Sequence[dict[str, Any]]) -> tuple[dict[Setting, Judgement], list[Any]]:
    """A judgement of each rule, on a day of each of these fleets, and a row on each fault that the first one missed."""
    found: dict[Setting, list[Judgement]] = {}
    missed: list[Any] = []
    for seed, run in runs.items():
        day = simulate(seed)
        scored = replay(run, day, {})
        for rule in rules:
            moves = rule.get("alarm_rule") == "spot" or "false_discovery_rate" in rule
            events = replay(run, day, rule) if moves else rejudge(run, scored, rule)
            alarms = [(event.stream, event.time) for event in events if event.alarm]
            judgement = judge(day, alarms, join(events, rule.get("incident_alarms", 1)))
            found.setdefault(named(rule), []).append(judgement)
            if rule == rules[0]:
                names = day.table.numeric_names
                faults = zip(day.faults, judgement.delays, strict=True)
                missed += [miss(seed, fault, events, names) for fault, delay in faults if delay == np.inf]
    return {setting: pooled(judgements) for setting, judgements in found.items()}, missed


def miss(seed: int, fault: Fault, events: Sequence[ScoredEvent], names: Sequence[str]) -> dict[str, Any]:
    """How near to an alarm a fault came, and by which columns."""
    inside = [e for e in events if e.stream == fault.stream and fault.start <= e.time < fault.end]
    peak = max(inside, key=lambda event: event.score)
    usual = np.median([e.column_errors for e in events if e.stream == fault.stream], axis=0)
    factors = peak.column_errors / usual
    order = np.argsort(-factors)[:2]
    return {
        "missed": fault.kind,
        "fleet": seed,
        "stream": fault.stream,
        "samples": len(inside),
        "peak score over threshold": peak.score / peak.threshold,
        "columns, error over their usual one": ", ".join(f"{names[j]} {factors[j]:.0f}" for j in order),
    }


def named(rule: dict[str, Any]) -> Setting:
    """As the table names a rule, its level, 0 where it has none of its own, and the alarms of an incident."""
    least = rule.get("incident_alarms", 1)
    if "false_discovery_rate" in rule:
        return "false discoveries", rule["false_discovery_rate"], least
    if rule.get("alarm_rule") == "run":
        return "run", 0.0, least
    if "target_fpr" in rule:
        return rule.get("alarm_rule", "conformal"), rule["target_fpr"], least
    return "budget", rule.get("false_incidents_per_day", DEFAULT_BUDGET), least


def choose(judgements: dict[Setting, Judgement]) -> Setting:
    """The setting that is best on these days.

    Those that meet the goal, and on no fleet make more false incidents than it allows, come first, then those that find
    more faults, then those with fewer false incidents.
    """

    def merit(setting: Setting) -> tuple[bool, float, float]:
        figures = judgements[setting].figures()
        fits = goal_is_met(figures) and figures["of the worst fleet"] <= MOST_FALSE
        return fits, figures["alarmed"], -figures["false incidents per stream and day"]

    return max(judgements, key=merit)


def pooled(judgements: Sequence[Judgement]) -> Judgement:
    """Several days as one."""
    return Judgement(
        [kind for one in judgements for kind in one.kinds],
        [delay for one in judgements for delay in one.delays],
        [count for one in judgements for count in one.false_incidents],
        [days for one in judgements for days in one.stream_days],
        sum(one.false_alarms for one in judgements),
        sum(one.num_alarms for one in judgements),
    )


def goal_is_met(figures: dict[str, Any]) -> bool:
    """90 % of the faults alarmed, a median delay of at most 3 samples, at most 2 false incidents per stream and day."""
    return bool(
        figures["alarmed"] >= LEAST_FOUND
        and figures["median delay"] <= MOST_DELAY
        and figures["false incidents per stream and day"] <= MOST_FALSE
    )


def row(fleets: str, setting: Setting, judgement: Judgement) -> dict[str, Any]:
    """Of the table of rules."""
    name, level, least = setting
    figures = judgement.figures()
    return {
        "fleets": fleets,
        "rule": name,
        "level": level,
        "alarms": least,
        "default": setting == named({}),
        **figures,
        "missed": ", ".join(f"{judgement.missed.count(kind)} {kind}" for kind in sorted(set(judgement.missed)))
        or "none",
        "goal met": goal_is_met(figures),
    }


def kind_rows(fleets: str, judgement: Judgement) -> list[dict[str, Any]]:
    """Of the table of kinds of faults."""
    rows = []
    for kind in sorted(set(judgement.kinds)):
        delays = [delay for other, delay in zip(judgement.kinds, judgement.delays, strict=True) if other == kind]
        found = int(np.isfinite(delays).sum())
        rows.append(
            {
                "fleets": fleets,
                "kind": kind,
                "faults": len(delays),
                "alarmed": found,
                "median delay": float(np.median(delays)),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--runs", type=Path, help="folder for the trained runs, or with them: seed_0, seed_1, ...")
    arguments = parser.parse_args()
    quick = arguments.quick
    groups = {"choosing": CHOOSING_SEEDS, "judged": JUDGED_SEEDS, "seen": SEEN_SEEDS}
    folder = arguments.runs or arguments.output_dir / "live_day"
    rows: list[dict[str, Any]] = []
    judgements: dict[str, Judgement] = {}
    for group, seeds in groups.items():
        runs = {seed: train(seed, folder, quick) for seed in (seeds[:1] if quick else seeds)}
        others = CANDIDATES if group == "choosing" else COMPARED
        rules = [{}, *(rule for rule in others if named(rule) != named({}))]
        found, missed = judge_days(runs, rules)
        chosen = choose(found) if group == "choosing" else None
        tables = [
            [row(group, setting, judgement) | {"chosen": setting == chosen} for setting, judgement in found.items()],
            kind_rows(group, found[named({})]),
            missed,
        ]
        print(*(markdown_table(table) for table in tables if table), sep="\n\n", end="\n\n", flush=True)
        rows += [line for table in tables for line in table]
        judgements[group] = found[named({})]
    figures = judgements["judged"].figures()
    ratios = {
        "alarmed_vs_goal": figures["alarmed"] / LEAST_FOUND,
        "goal_vs_false_incidents": MOST_FALSE / max(figures["false incidents per stream and day"], 1e-9),
    }
    print(write_results(arguments.output_dir, "live_day", rows, ratios))


if __name__ == "__main__":
    main()
