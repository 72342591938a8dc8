"""A run of many seeds, or of a sweep: every member's own folder, and what they say together."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from fedjax_anomaly.config import SWEPT, TRAINED_IN_ROUNDS, Config
from fedjax_anomaly.config_machines import check_divisible
from fedjax_anomaly.data.table import Dataset
from fedjax_anomaly.detection.statistics import paired_test, summary
from fedjax_anomaly.experiment import outcome, privacy_ledger
from fedjax_anomaly.experiment.build import Experiment
from fedjax_anomaly.experiment.checkpoints import Checkpoints
from fedjax_anomaly.experiment.ensemble import EnsembleProgress, build_members, train_ensemble
from fedjax_anomaly.experiment.outputs import environment, open_output_dir
from fedjax_anomaly.experiment.training import Trained
from fedjax_anomaly.reporting.atomic import write_atomically
from fedjax_anomaly.reporting.logbook import Logbook, read_metrics
from fedjax_anomaly.reporting.many_report import write_many_report


@dataclasses.dataclass(frozen=True)
class ManyOutcome:
    """What a run of many members leaves.

    Attributes:
      result: the content of `result.json`, or None when the run was interrupted.
      rounds_done: of every member.
      output_dir: where everything was written; each member has a folder in `members`.
    """

    result: dict[str, Any] | None
    rounds_done: int
    output_dir: Path


def run_many(
    config: Config,
    dataset: Dataset | None = None,
    *,
    announce: Callable[[list[str]], None] = lambda lines: None,
    report: Callable[[int, int, float, dict[str, Any]], None] = lambda *progress: None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> ManyOutcome:
    """Runs `config.members()` side by side, in one compiled program where they train in rounds.

    Args:
      config: with `num_seeds` or `sweep`.
      dataset: rows of the caller's own; None loads `config.dataset`.
      announce: called once before the first round, with lines that say what will be run.
      report: called after each chunk with the rounds done, the rounds wanted, rounds per second, the first member's
        last record.
      stop_requested: asked after each chunk; True ends the run there, with a checkpoint and without results.

    Raises:
      ValueError, FileNotFoundError: for data, settings or an output folder that do not fit.
      Diverged: when a member's loss is no longer finite.
      OSError: when something cannot be written.
    """
    begin = time.perf_counter()
    if jax.process_count() > 1:
        check_divisible(config)
    experiments = build_members(config, dataset)
    directory = open_output_dir(config)
    folders = [directory / "members" / name for name in member_names(experiments)]
    for folder, experiment in zip(folders, experiments, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "config.json", experiment.config.to_json().encode())
    names = ", ".join(member_names(experiments))
    guarantee = privacy_ledger.announcement(experiments)
    announce([f"{len(experiments)} members: {names}", f"writing to {directory}", *guarantee])
    trained: Sequence[Trained | None] = [None] * len(experiments)
    if config.method in TRAINED_IN_ROUNDS:
        ends = _train(config, experiments, directory, folders, report, stop_requested)
        if ends[0].interrupted:
            return ManyOutcome(None, int(ends[0].state.round), directory)
        trained = ends
    results = [
        _conclude(experiment, end, folder, begin)
        for experiment, end, folder in zip(experiments, trained, folders, strict=True)
    ]
    result = summarize(config, results)
    write_atomically(directory / "result.json", json.dumps(result, indent=2, allow_nan=False).encode())
    _report(config, result, results, folders, directory)
    return ManyOutcome(result, config.num_rounds, directory)


def _report(
    config: Config, result: dict[str, Any], results: Sequence[dict[str, Any]], folders: Sequence[Path], directory: Path
) -> None:
    from fedjax_anomaly.experiment.many_pictures import draw_many_figures  # It imports matplotlib, slow.

    write_many_report(
        directory / "report.html",
        title=f"{config.dataset}, {config.method}: {len(folders)} runs side by side",
        result=result,
        members={folder.name: own for folder, own in zip(folders, results, strict=True)},
        config=dataclasses.asdict(config),
        environment=environment(),
        figures=draw_many_figures(config, result, folders, directory / "figures"),
    )


def member_names(experiments: Sequence[Experiment]) -> list[str]:
    """`seed-3`, or `learning_rate-0.001-seed-3` where that setting differs between members."""
    swept = [name for name in SWEPT if len({getattr(e.config, name) for e in experiments}) > 1]
    return [
        "-".join([*(f"{name}-{getattr(e.config, name):g}" for name in swept), f"seed-{e.config.seed}"])
        for e in experiments
    ]


def _train(
    config: Config,
    experiments: Sequence[Experiment],
    directory: Path,
    folders: Sequence[Path],
    report: Callable[[int, int, float, dict[str, Any]], None],
    stop_requested: Callable[[], bool],
) -> list[Trained]:
    resume_round = None
    if config.resume:
        with Checkpoints(directory / "checkpoints") as checkpoints:
            resume_round = checkpoints.latest_round or 0
    logbooks = [Logbook(folder, resume_round=resume_round) for folder in folders]

    def follow(progress: EnsembleProgress) -> None:
        for experiment, logbook, state, records in zip(
            experiments, logbooks, progress.states, progress.records, strict=True
        ):
            records[-1] |= outcome.follow(experiment, state)
            for record in records:
                logbook.write(record["round"], {name: record[name] for name in record if name != "round"})
        report(progress.done, config.num_rounds, progress.rounds_per_second, progress.records[0][-1])

    try:
        return train_ensemble(
            experiments,
            checkpoint_dir=directory / "checkpoints",
            resume=config.resume,
            report=follow,
            stop_requested=stop_requested,
        )
    finally:
        for logbook in logbooks:
            logbook.close()


def _conclude(experiment: Experiment, trained: Trained | None, folder: Path, begin: float) -> dict[str, Any]:
    detector = (
        outcome.classical_detector(experiment) if trained is None else outcome.calibrate(experiment, trained.state)
    )
    result = outcome.result(
        experiment,
        trained,
        detector,
        outcome.score_test_rows(experiment, detector),
        history=[] if trained is None else read_metrics(folder),
        total_seconds=time.perf_counter() - begin,
    )
    write_atomically(folder / "result.json", json.dumps(result, indent=2, allow_nan=False).encode())
    privacy_ledger.write_ledger(folder / "privacy.json", result["privacy"])
    return result


def summarize(config: Config, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of a `result.json` of many members.

    Args:
      config: with `num_seeds` or `sweep`.
      results: of `config.members()`, in this order.

    Returns:
      `settings`: for each swept value (one entry without a sweep) the value, the seeds, and of every number in the
      members' results its mean, standard deviation, bootstrap interval and values over seeds. `paired`: for every two
      swept values the paired test of their F1 and AUROC, by seed; None where there are no two, or no labels.
    """
    members = config.members()
    groups = [range(i, i + config.num_seeds) for i in range(0, len(members), config.num_seeds)]
    name = config.sweep.partition("=")[0]
    settings = [
        {
            "setting": {name: getattr(members[group[0]], name)} if name else {},
            "seeds": [members[i].seed for i in group],
            **{part: _summaries([results[i][part] for i in group]) for part in _SUMMARIZED},
        }
        for group in groups
    ]
    return {
        "dataset": results[0]["dataset"],
        "method": results[0]["method"],
        "threshold_rule": results[0]["alarms"]["threshold_rule"],
        "settings": settings,
        "paired": _paired(settings) if results[0]["test"] and len(settings) > 1 and config.num_seeds > 1 else None,
    }


_SUMMARIZED = ("alarms", "test", "oracle", "timing", "latency_ms", "communication", "heterogeneity")


def _summaries(parts: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Numbers to summaries over seeds, in mappings of mappings; lists, texts and attacks are left out.

    None where the members have no such part, as test metrics of rows without labels.
    """
    known = [part for part in parts if part is not None]
    if not known:
        return None
    summaries: dict[str, Any] = {}
    for name in known[0]:
        values = [part[name] for part in known]
        if name == "time_order":
            summaries[name] = _summaries(values)
        elif all(v is None or isinstance(v, int | float) for v in values):
            summaries[name] = summary(values)
    return summaries


def _paired(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"a": a["setting"], "b": b["setting"], "metric": metric}
        | (paired_test(a["test"][metric]["values"], b["test"][metric]["values"]) or {})
        for i, a in enumerate(settings)
        for b in settings[i + 1 :]
        for metric in ("f1", "auroc")
        if a["test"][metric] and b["test"][metric]
    ]
