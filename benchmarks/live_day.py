"""A telemetry day with injected faults through the live detector: what is alarmed, how soon, how often in vain.

Each fleet of the simulator is another seed, with a detector of its own that the telemetry preset trained on the fleet's
first three days. The day that is replayed comes after those days and the two of the run's own evaluation. Settings are
chosen on some fleets, by the labels of their days, and judged on others. A threshold never sees a label: it is set from
held-out normal rows of the first three days.

A fault is found at its first alarm within its labelled minutes that belongs to an incident which has been told of; with
`--incident_alarms=2` a lone alarm does not count. Its delay is that alarm's place behind the fault's first labelled
minute, in samples; a fault that is missed counts as one of endless delay. An incident without an alarm in a labelled
minute, be it of a fault of its stream or of one that spread to it, is false.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness import add_arguments, markdown_table, write_results

import fedjax_anomaly
from fedjax_anomaly.config_live import LiveSettings
from fedjax_anomaly.data import telemetry
from fedjax_anomaly.data.microservices.labels import SPREAD
from fedjax_anomaly.data.table import NORMAL, Table
from fedjax_anomaly.live.alarms import DEFAULT_FPR
from fedjax_anomaly.live.incidents import Incidents
from fedjax_anomaly.live.interfaces import Record, ScoredEvent, Sink
from fedjax_anomaly.live.start import start

PRESET = Path(fedjax_anomaly.__file__).parent / "presets" / "telemetry.flags"
CHOOSING_SEEDS, JUDGED_SEEDS = (1, 2), (0, 3, 4)
DAYS_BEFORE = 5.0
"""Those that the run trains on and is evaluated on."""

RULES: tuple[dict[str, Any], ...] = (
    {},
    *({"target_fpr": fpr} for fpr in (0.02, 0.01, 0.005, 0.001)),
    *({"alarm_rule": "spot", "target_fpr": fpr} for fpr in (0.005, 0.002, 0.001)),
    {"alarm_rule": "run"},
    {"false_discovery_rate": 0.1},
)
"""Settings of `detect`; the first are its own."""
INCIDENT_ALARMS = (1, 2, 3)
GAP_SECONDS = 10 * telemetry.SAMPLING_SECONDS
"""The one that `detect` takes by itself; it is not chosen, as a long one hides false incidents in each other."""

LEAST_FOUND, MOST_DELAY, MOST_FALSE = 0.9, 3.0, 2.0


class Fault(NamedTuple):
    """The labelled minutes [start, end) of a stream's own fault, in seconds."""

    stream: str
    kind: str
    start: float
    end: float


class Day(NamedTuple):
    """What is replayed, and what it is judged by.

    Attributes:
      table: of all streams.
      faults: of the streams' own.
      anomalous: the stream and time of every labelled row, spread faults included.
    """

    table: Table
    faults: list[Fault]
    anomalous: set[tuple[str, float]]


class Judgement(NamedTuple):
    """Of one or several days; delays in samples, infinite where a fault was missed."""

    delays: list[float]
    missed: list[str]
    false_incidents: int
    stream_days: float

    def figures(self) -> dict[str, Any]:
        """The three that the goal is about."""
        found = np.isfinite(self.delays)
        return {
            "faults": len(self.delays),
            "alarmed": float(found.mean()),
            "median delay": float(np.median(self.delays)),
            "false incidents per stream and day": self.false_incidents / self.stream_days,
        }


def simulate_day(seed: int) -> Day:
    """A day of the fleet of this seed after all the days that its run has seen."""
    table = telemetry.load(seed=seed, train_days=DAYS_BEFORE, test_days=1.0).test
    assert table.source is not None and table.time is not None
    source, time = table.source, table.time.tolist()
    stream = [source.names[code] for code in source.codes]
    kind = [table.attack.names[code] for code in table.attack.codes]
    faults = []
    for (name, what), run in itertools.groupby(range(len(table)), lambda i: (stream[i], kind[i])):
        rows = list(run)
        if what not in (NORMAL, SPREAD):
            faults.append(Fault(name, what, time[rows[0]], time[rows[-1]] + telemetry.SAMPLING_SECONDS))
    return Day(table, faults, {(stream[i], time[i]) for i in range(len(table)) if kind[i] != NORMAL})


def judge(day: Day, alarms: Sequence[tuple[str, float]], incidents: Sequence["Told"]) -> Judgement:
    """Compares alarms and incidents with a day's labels.

    Args:
      day: what was replayed.
      alarms: the stream and time of each.
      incidents: those that were told of.
    """
    delays, missed = [], []
    confirmed = {
        (stream, time) for stream, time in alarms for i in incidents if i.stream == stream and i.told <= time <= i.end
    }
    for fault in day.faults:
        inside = [time for stream, time in confirmed if stream == fault.stream and fault.start <= time < fault.end]
        delays.append((min(inside) - fault.start) / telemetry.SAMPLING_SECONDS if inside else np.inf)
        missed += [] if inside else [fault.kind]
    true_alarms = [alarm for alarm in alarms if alarm in day.anomalous]
    false = [i for i in incidents if not any(s == i.stream and i.start <= time <= i.end for s, time in true_alarms)]
    assert day.table.source is not None
    return Judgement(delays, missed, len(false), len(day.table) * telemetry.SAMPLING_SECONDS / 86_400.0)


class Told(NamedTuple):
    """An incident: its first alarm, when it was told of, and its last alarm, in seconds."""

    stream: str
    start: float
    told: float
    end: float


def join(events: Sequence[ScoredEvent], least_alarms: int) -> list[Told]:
    """The incidents that the live detector makes of its alarms."""
    names = [str(j) for j in range(len(events[0].column_errors))]
    incidents = Incidents(names, gap_seconds=GAP_SECONDS, least_alarms=least_alarms)
    told: dict[tuple[str, float], Told] = {}
    for incident in [*incidents.update(events), *incidents.open()]:
        key = incident.stream, incident.start
        told[key] = told.get(key, Told(*key, incident.end, incident.end))._replace(end=incident.end)
    return list(told.values())


class _Replay:
    """A day's rows as a source, all streams minute by minute."""

    def __init__(self, table: Table) -> None:
        self._records = self._make(table)

    def _make(self, table: Table) -> Iterator[Record]:
        assert table.source is not None and table.time is not None
        for position, row in enumerate(np.argsort(table.time, kind="stable")):
            values = dict(zip(table.numeric_names, table.numeric[row].tolist(), strict=True))
            stream = table.source.names[table.source.codes[row]]
            yield Record(position, "", {"stream": stream, "time": float(table.time[row]), **values})

    def read(self, most: int, timeout_seconds: float) -> list[Record] | None:
        return list(itertools.islice(self._records, most)) or None

    def close(self) -> None:
        pass


class _Keep(Sink):
    def __init__(self) -> None:
        self.events: list[ScoredEvent] = []

    def scored(self, events: Sequence[ScoredEvent]) -> None:
        self.events += events


def replay(run: Path, day: Day, rule: dict[str, Any]) -> list[ScoredEvent]:
    """Every event of the day after the live detector with this alarm rule."""
    with tempfile.TemporaryDirectory() as folder:
        settings = LiveSettings(run=str(run), output_dir=folder, write_scores="none", max_streams=32, **rule)
        keep = _Keep()
        counts = start(settings, source=_Replay(day.table), sinks=[keep]).run()
    if counts.scored != len(day.table):
        raise RuntimeError(f"{counts.scored} of {len(day.table)} events were scored: {counts.as_json()}.")
    return keep.events


def judge_days(
    runs: dict[int, Path], rules: Sequence[dict[str, Any]], least_alarms: Sequence[int]
) -> dict[tuple[str, float, int], Judgement]:
    """A judgement for each rule, its level and a least number of alarms, on a day of each of these fleets."""
    found: dict[tuple[str, float, int], list[Judgement]] = {}
    for seed, run in runs.items():
        day = simulate_day(seed)
        for rule in rules:
            events = replay(run, day, rule)
            alarms = [(event.stream, event.time) for event in events if event.alarm]
            for least in least_alarms:
                found.setdefault((*named(rule), least), []).append(judge(day, alarms, join(events, least)))
    return {setting: pooled(judgements) for setting, judgements in found.items()}


def named(rule: dict[str, Any]) -> tuple[str, float]:
    """As the table names a rule and its level; 0 where it has none of its own."""
    if "false_discovery_rate" in rule:
        return "false discoveries", rule["false_discovery_rate"]
    name = rule.get("alarm_rule", LiveSettings(run="-").alarm_rule)
    return name, 0.0 if name == "run" else rule.get("target_fpr", DEFAULT_FPR)


def choose(judgements: dict[tuple[str, float, int], Judgement]) -> dict[str, tuple[str, float, int]]:
    """For each rule the level and the least number of alarms that are best on these days.

    Those that meet the goal come first, then those that find more faults, then those with fewer false incidents.
    """

    def merit(setting: tuple[str, float, int]) -> tuple[bool, float, float]:
        figures = judgements[setting].figures()
        return goal_is_met(figures), figures["alarmed"], -figures["false incidents per stream and day"]

    return {name: max((s for s in judgements if s[0] == name), key=merit) for name in {s[0]: None for s in judgements}}


def pooled(judgements: Sequence[Judgement]) -> Judgement:
    """Several days as one."""
    return Judgement(
        [delay for one in judgements for delay in one.delays],
        [kind for one in judgements for kind in one.missed],
        sum(one.false_incidents for one in judgements),
        sum(one.stream_days for one in judgements),
    )


def goal_is_met(figures: dict[str, Any]) -> bool:
    """90 % of the faults alarmed, a median delay of at most 3 samples, at most 2 false incidents per stream and day."""
    return bool(
        figures["alarmed"] >= LEAST_FOUND
        and figures["median delay"] <= MOST_DELAY
        and figures["false incidents per stream and day"] <= MOST_FALSE
    )


def train(seed: int, folder: Path, quick: bool) -> Path:
    """Trains the preset on the fleet of a seed, unless the folder holds its run; returns the run's folder."""
    run = folder / f"seed_{seed}"
    if not (run / "detector").is_dir():
        command = [sys.executable, "-m", "fedjax_anomaly.train", f"--flagfile={PRESET}", f"--seed={seed}"]
        command += [f"--output_dir={run}", *(["--num_rounds=3"] if quick else [])]
        subprocess.run(command, check=True)
    return run


def row(days: str, setting: tuple[str, float, int], judgement: Judgement) -> dict[str, Any]:
    """Of the table."""
    name, level, least = setting
    figures = judgement.figures()
    return {
        "days": days,
        "rule": name,
        "level": level,
        "alarms": least,
        "default": setting == (*named({}), LiveSettings(run="-").incident_alarms),
        **figures,
        "missed": ", ".join(judgement.missed) or "none",
        "goal met": goal_is_met(figures),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--runs", type=Path, help="folder for the trained runs, or with them: seed_0, seed_1, ...")
    arguments = parser.parse_args()
    quick = arguments.quick
    choosing, judged = (CHOOSING_SEEDS[:1], JUDGED_SEEDS[:1]) if quick else (CHOOSING_SEEDS, JUDGED_SEEDS)
    folder = arguments.runs or arguments.output_dir / "live_day"
    runs = {seed: train(seed, folder, quick) for seed in (*choosing, *judged)}
    rules = RULES[:2] if quick else RULES
    tried = judge_days({seed: runs[seed] for seed in choosing}, rules, INCIDENT_ALARMS)
    rows = [row("choosing", setting, judgement) for setting, judgement in tried.items()]
    default = (*named({}), LiveSettings(run="-").incident_alarms)
    kept = [default, *(setting for setting in choose(tried).values() if setting != default)]
    kept += [] if quick else [("run", 0.0, 1)]
    of_name = {named(rule): rule for rule in rules}
    final = judge_days(
        {seed: runs[seed] for seed in judged},
        [of_name[level] for level in dict.fromkeys(setting[:2] for setting in kept)],
        INCIDENT_ALARMS,
    )
    rows += [row("judged", setting, final[setting]) for setting in dict.fromkeys(kept)]
    print(markdown_table(rows))
    false = max(final[default].figures()["false incidents per stream and day"], 1e-9)
    ratios = {
        "alarmed_vs_goal": final[default].figures()["alarmed"] / LEAST_FOUND,
        "goal_vs_false_incidents": MOST_FALSE / false,
    }
    print(write_results(arguments.output_dir, "live_day", rows, ratios))


if __name__ == "__main__":
    main()
