"""Telemetry days replayed through the live detector, and what its alarms are compared with.

A fault is found at its first alarm within its labelled minutes that belongs to an incident which has been told of; with
`--incident_alarms=2` a lone alarm does not count. Its delay is that alarm's place behind the fault's first labelled
minute, in samples; a fault that is missed counts as one of endless delay. An incident without an alarm in a labelled
minute, be it of a fault of its stream or of one that spread to it, is false.
"""

import itertools
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fedjax_anomaly
from fedjax_anomaly.data import telemetry
from fedjax_anomaly.data.microservices.labels import SPREAD
from fedjax_anomaly.data.table import NORMAL, Table
from fedjax_anomaly.live.incidents import Incidents
from fedjax_anomaly.live.interfaces import Record, ScoredEvent

PRESET = Path(fedjax_anomaly.__file__).parent / "presets" / "telemetry.flags"
DAYS_BEFORE = 5.0
"""Those that the run trains on and is evaluated on."""
GAP_SECONDS = 10 * telemetry.SAMPLING_SECONDS
"""The one that `detect` takes by itself; it is not chosen, as a long one hides false incidents in each other."""


class Fault(NamedTuple):
    """The labelled minutes [start, end) of a stream's own fault, in seconds."""

    stream: str
    kind: str
    start: float
    end: float


class Scenario(NamedTuple):
    """What is replayed, and what it is judged by.

    Attributes:
      table: of all streams.
      faults: of the streams' own.
      anomalous: the stream and time of every labelled row, spread faults included.
    """

    table: Table
    faults: list[Fault]
    anomalous: set[tuple[str, float]]


def train(seed: int, folder: Path, quick: bool) -> Path:
    """Trains the preset on the fleet of a seed, unless the folder holds its run; returns the run's folder."""
    run = folder / f"seed_{seed}"
    if not (run / "detector").is_dir():
        command = [sys.executable, "-m", "fedjax_anomaly.train", f"--flagfile={PRESET}", f"--seed={seed}"]
        command += [f"--output_dir={run}", *(["--num_rounds=3"] if quick else [])]
        subprocess.run(command, check=True)
    return run


def simulate(seed: int, days: float = 1.0, **changes: Any) -> Scenario:
    """The days of the fleet of this seed after all those that its run has seen; changes are `telemetry.load`'s."""
    table = telemetry.load(seed=seed, train_days=DAYS_BEFORE, test_days=days, **changes).test
    assert table.source is not None and table.time is not None
    stream, kind, time = table.source.strings(), table.attack.strings(), table.time
    runs = np.flatnonzero(np.r_[True, (stream[1:] != stream[:-1]) | (kind[1:] != kind[:-1]), True])
    faults = [
        Fault(stream[i], kind[i], float(time[i]), float(time[j - 1]) + telemetry.SAMPLING_SECONDS)
        for i, j in itertools.pairwise(runs.tolist())
        if kind[i] not in (NORMAL, SPREAD)
    ]
    anomalous = np.flatnonzero(kind != NORMAL)
    return Scenario(table, faults, set(zip(stream[anomalous].tolist(), time[anomalous].tolist(), strict=True)))


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


class Replay:
    """Rows as a source, all streams minute by minute."""

    def __init__(self, table: Table) -> None:
        self._records = self._make(table)

    def _make(self, table: Table) -> Iterator[Record]:
        assert table.source is not None and table.time is not None
        for position, row in enumerate(np.argsort(table.time, kind="stable")):
            values = dict(zip(table.numeric_names, table.numeric[row].tolist(), strict=True))
            stream = table.source.names[table.source.codes[row]]
            yield Record(position, "", {"stream": stream, "time": float(table.time[row]), **values})

    def read(self, most: int, timeout_seconds: float) -> list[Record] | None:
        """The next events."""
        return list(itertools.islice(self._records, most)) or None

    def close(self) -> None:
        """Nothing is open."""


def compare(
    scenario: Scenario, alarms: Sequence[tuple[str, float]], incidents: Sequence[Told]
) -> tuple[list[float], list[Told]]:
    """What was found, and what was told in vain.

    Args:
      scenario: what was replayed.
      alarms: the stream and time of each.
      incidents: those that were told of.

    Returns:
      The delay of each fault in samples, infinite where it was missed, and the false incidents.
    """
    times: dict[str, list[float]] = defaultdict(list)
    for stream, time in alarms:
        times[stream].append(time)
    confirmed: dict[str, list[float]] = defaultdict(list)
    true: dict[str, list[float]] = defaultdict(list)
    for i in incidents:
        confirmed[i.stream] += [time for time in times[i.stream] if i.told <= time <= i.end]
    for stream, time in alarms:
        if (stream, time) in scenario.anomalous:
            true[stream].append(time)
    delays = []
    for fault in scenario.faults:
        inside = [time for time in confirmed[fault.stream] if fault.start <= time < fault.end]
        delays.append((min(inside) - fault.start) / telemetry.SAMPLING_SECONDS if inside else np.inf)
    return delays, [i for i in incidents if not any(i.start <= time <= i.end for time in true[i.stream])]
