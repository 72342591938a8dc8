"""A simulated month with slow drift and faults through the live detector: report, recalibrate and retrain compared.

Each fleet of the simulator is another seed, with a detector of its own that the telemetry preset trained on the fleet's
first three days. Its month begins after these and the two days of the run's own evaluation. From the fourth day on the
load grows, and half of the services get a release after which requests take more and more work. Faults strike all month
and are judged week by week. The same month without drift shows how often drift is reported in
vain; so do reports of the first days. Settings were chosen on fleets 1 and 2.

A fault is found at its first alarm within its labelled minutes; an incident without an alarm in a labelled minute is
false. Replays are as fast as the detector, which waits for trainings: see `docs/drift.md` for what they do to latency.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from drift_figure import drift_figure
from harness import add_arguments, markdown_table, write_results
from live_replay import DAYS_BEFORE, Replay, Scenario, compare, join, simulate, train

from fedjax_anomaly.compilation_cache import keep_programs
from fedjax_anomaly.config_live import LiveSettings
from fedjax_anomaly.data.microservices.slow_drift import SlowDrift
from fedjax_anomaly.data.table import Table
from fedjax_anomaly.experiment.retraining import retrainer
from fedjax_anomaly.live.bundle import Bundle
from fedjax_anomaly.live.interfaces import Record, ScoredEvent, Sink
from fedjax_anomaly.live.recent import Recent
from fedjax_anomaly.live.retraining import ProcessTrainer, Report, Request
from fedjax_anomaly.live.start import start
from fedjax_anomaly.live.versions import ORIGINAL
from fedjax_anomaly.reporting.figures import style

CHOOSING_SEEDS, JUDGED_SEEDS = (1, 2), (0, 3, 4)
WAYS = ("report", "recalibrate", "retrain")
DAYS, STABLE_DAYS, WEEK_DAYS = 28.0, 3.0, 7.0
FAULTS_PER_SERVICE_DAY = 0.2
DRIFT = SlowDrift(start_days=DAYS_BEFORE + STABLE_DAYS, load_growth=0.15, work_growth=0.1)
QUICK_DRIFT = DRIFT._replace(load_growth=4.0, work_growth=0.3, creep_days=0.5, release_days=0.5)
DAY_SECONDS = 86_400.0
PACE_SECONDS, QUIET_SECONDS = 0.005, 15.0


class Outcome(NamedTuple):
    """What came of a month, times in days since its beginning.

    Attributes:
      stream_count: streams.
      fault_days: when each fault began.
      delays: of each, in samples, infinite where it was missed.
      false_days: when each false incident began.
      lines: of `drift.jsonl`.
      seconds: that the replay took.
    """

    stream_count: int
    fault_days: list[float]
    delays: list[float]
    false_days: list[float]
    lines: list[dict[str, Any]]
    seconds: float


def _month(seed: int, days: float, drift: SlowDrift | None) -> Scenario:
    return simulate(seed, days, test_faults_per_service_day=FAULTS_PER_SERVICE_DAY, drift=drift)


class _KeepAlarms(Sink):
    def __init__(self) -> None:
        self.alarms: list[ScoredEvent] = []

    def scored(self, events: Sequence[ScoredEvent]) -> None:
        self.alarms += [event._replace(row=None) for event in events if event.alarm]


def replay(run: Path, month: Scenario, way: str, rows_seen: list[Recent] | None = None) -> Outcome:
    """The month through the live detector, and what came of it; `rows_seen` gets what trainings were given."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        settings = LiveSettings(
            run=str(run),
            output_dir=folder,
            write_scores="none",
            max_streams=32,
            on_drift=way,  # type: ignore[arg-type]
            snapshot_seconds=3600.0,
        )
        keep, train_further = _KeepAlarms(), retrainer(run, settings.retrain_rounds)

        def retrain(bundle: Bundle, recent: Recent) -> tuple[Bundle, dict[str, Any]]:
            if rows_seen is not None:
                rows_seen.append(recent)
            return train_further(bundle, recent)

        counts = start(settings, source=Replay(month.table), sinks=[keep], retrain=retrain).run()
        lines = [json.loads(line) for line in (Path(folder) / "drift.jsonl").read_text().splitlines()]
    if counts.scored != len(month.table):
        raise RuntimeError(f"{counts.scored} of {len(month.table)} events were scored: {counts.as_json()}.")
    return judge(month, keep.alarms, lines, time.perf_counter() - begin)


def judge(month: Scenario, alarms: Sequence[ScoredEvent], lines: Sequence[dict[str, Any]], seconds: float) -> Outcome:
    """Compares alarms and the incidents that they make with the labels of a month."""
    assert month.table.source is not None and month.table.time is not None
    first = float(month.table.time.min())
    incidents = join(alarms, 1) if alarms else []
    delays, false = compare(month, [(alarm.stream, alarm.time) for alarm in alarms], incidents)
    return Outcome(
        len(month.table.source.names),
        [_day(fault.start, first) for fault in month.faults],
        delays,
        [_day(incident.start, first) for incident in false],
        [line | {"day": _day(line["time"], first)} for line in lines],
        seconds,
    )


def _day(seconds: float, first: float) -> float:
    return (seconds - first) / DAY_SECONDS


class _Paced(Replay):
    """One event at a time, first in quiet and then while a process trains."""

    def __init__(self, table: Table, trainer: ProcessTrainer, request: Request) -> None:
        super().__init__(table)
        self._trainer, self._request = trainer, request
        self._begin = self._next = time.monotonic()
        self.training = False
        self.report: Report | None = None

    def read(self, most: int, timeout_seconds: float) -> list[Record] | None:
        """The next event when it is time for it."""
        wait = self._next - time.monotonic()
        time.sleep(min(max(wait, 0.0), timeout_seconds))
        if wait > timeout_seconds:
            return []
        self._next = time.monotonic() + PACE_SECONDS
        if not self.training and time.monotonic() - self._begin > QUIET_SECONDS:
            self.training = True
            self._trainer.begin(self._request)
        self.report = self._trainer.report() if self.training else None
        return None if self.report is not None else super().read(1, 0.0)


class _Latencies(Sink):
    def __init__(self, source: _Paced) -> None:
        self._source = source
        self.milliseconds: dict[bool, list[float]] = {False: [], True: []}

    def scored(self, events: Sequence[ScoredEvent]) -> None:
        self.milliseconds[self._source.training] += [1e3 * event.latency_seconds for event in events]


def latency_beside_training(run: Path, month: Scenario, recent: Recent) -> list[dict[str, Any]]:
    """How long an event takes, one every 5 ms, alone and while another process of the same machine trains."""
    with tempfile.TemporaryDirectory() as folder:
        settings = LiveSettings(run=str(run), output_dir=folder, write_scores="none", max_streams=32)
        trainer = ProcessTrainer(run, Path(folder) / "models", settings.retrain_rounds)
        source = _Paced(month.table, trainer, Request(recent, ORIGINAL, "0001"))
        latencies = _Latencies(source)
        start(settings, source=source, sinks=[latencies]).run()
    assert source.report is not None
    return [
        {
            "beside a training": training,
            "events": len(own),
            **{f"p{q:g} ms": float(np.percentile(own, q)) for q in (50, 99, 99.9)},
            "trained": training and source.report.trained,
            "seconds": PACE_SECONDS * len(own),
        }
        for training, own in latencies.milliseconds.items()
    ]


def weeks(outcomes: Sequence[Outcome], days: float, span_days: float = WEEK_DAYS) -> list[dict[str, Any]]:
    """For each week, or another span, of several fleets: faults, those alarmed, delay, false incidents."""
    rows = []
    for begin in np.arange(0.0, days, span_days):
        end = min(begin + span_days, days)
        delays = [d for o in outcomes for day, d in zip(o.fault_days, o.delays, strict=True) if begin <= day < end]
        false = sum(begin <= day < end for o in outcomes for day in o.false_days)
        rows.append(
            {
                "days": f"{begin:g} to {end:g}",
                "faults": len(delays),
                "alarmed": float(np.mean(np.isfinite(delays))) if delays else None,
                "median delay": float(np.median(delays)) if delays else None,
                "false incidents per stream and day": false / (sum(o.stream_count for o in outcomes) * (end - begin)),
            }
        )
    return rows


def reports(outcomes: Sequence[Outcome], drift_day: float) -> dict[str, Any]:
    """Of several fleets: reports of drift before and after its beginning, and what was done about them.

    Args:
      outcomes: of the fleets.
      drift_day: when it begins; infinite for months without.
    """
    drifts = [[line for line in o.lines if line["what"] == "drift"] for o in outcomes]
    first = [{line["stream"]: line["day"] for line in reversed(own) if line["day"] >= drift_day} for own in drifts]
    waits = [day - drift_day for own in first for day in own.values()]
    lines = [line for o in outcomes for line in o.lines]
    trained = [line for line in lines if line["what"] == "retrained"]
    return {
        "true reports": sum(line["day"] >= drift_day for own in drifts for line in own),
        "false reports": sum(line["day"] < drift_day for own in drifts for line in own),
        "streams reported": len(waits) / sum(o.stream_count for o in outcomes),
        "days to a stream's first report": float(np.median(waits)) if waits else None,
        "thresholds set": sum(line["what"] == "recalibrated" for line in lines),
        "trainings": len(trained),
        "trainings refused": sum(line["what"] == "not retrained" for line in lines),
        "seconds of a training": float(np.mean([line["seconds"] for line in trained])) if trained else None,
        "MB sent": sum(line["bytes_sent"] for line in trained) / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--runs", type=Path, help="folder for the trained runs, or with them: seed_0, seed_1, ...")
    parser.add_argument("--fleets", nargs="+", type=int, help="the seeds, in place of the judged ones")
    arguments = parser.parse_args()
    keep_programs()
    quick, days = arguments.quick, 6.0 if arguments.quick else DAYS
    seeds = arguments.fleets or (JUDGED_SEEDS[:1] if quick else JUDGED_SEEDS)
    folder = arguments.runs or arguments.output_dir / "live_day"
    rows_seen: list[Recent] = []
    outcomes: dict[str, list[Outcome]] = {way: [] for way in ("no drift", *WAYS)}
    for seed in seeds:
        run = train(seed, folder, quick)
        outcomes["no drift"].append(replay(run, _month(seed, days, None), "report"))
        month = _month(seed, days, QUICK_DRIFT if quick else DRIFT)
        for way in WAYS:
            outcomes[way].append(replay(run, month, way, rows_seen))
    rows = []
    for way, own in outcomes.items():
        whole = weeks(own, days, days) if days > WEEK_DAYS else []
        rows += [{"way": way, **row} for row in [*weeks(own, days), *whole]]
    told = [{"way": way, **reports(own, np.inf if way == "no drift" else STABLE_DAYS)} for way, own in outcomes.items()]
    print(markdown_table(rows))
    beside = latency_beside_training(run, month, rows_seen[-1]) if rows_seen else []
    print(markdown_table(told))
    print(markdown_table(beside) if beside else "nothing was trained")
    figure = drift_figure(
        {way: weeks(own, days, 1.0) for way, own in outcomes.items()},
        {way: weeks(own, days) for way, own in outcomes.items()},
        STABLE_DAYS,
    )
    style.save(figure, arguments.output_dir / "drift.png")
    last = {way: weeks(own, days)[-1]["false incidents per stream and day"] for way, own in outcomes.items()}
    ratios = {f"report_vs_{way}_false_incidents_last_week": last["report"] / max(last[way], 1e-9) for way in WAYS[1:]}
    print(write_results(arguments.output_dir, "drift", [*rows, *told, *beside], ratios))


if __name__ == "__main__":
    main()
