"""A whole run: build, train, calibrate, evaluate, write."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from fedjax_anomaly import distributed
from fedjax_anomaly.baselines.classical import SAW_ATTACK_LABELS
from fedjax_anomaly.config import TRAINED_IN_ROUNDS, Config
from fedjax_anomaly.data.table import Dataset
from fedjax_anomaly.experiment import outcome, privacy_ledger
from fedjax_anomaly.experiment.build import Experiment, build
from fedjax_anomaly.experiment.bundle import make_bundle
from fedjax_anomaly.experiment.checkpoints import Checkpoints
from fedjax_anomaly.experiment.outputs import environment, open_output_dir
from fedjax_anomaly.experiment.processes import check_shared
from fedjax_anomaly.experiment.scores import write_scores
from fedjax_anomaly.experiment.secure import server_sees
from fedjax_anomaly.experiment.training import Progress, Trained, train
from fedjax_anomaly.federated.algorithm import FederatedState
from fedjax_anomaly.live.bundle import write_bundle
from fedjax_anomaly.reporting.atomic import write_atomically
from fedjax_anomaly.reporting.logbook import Logbook, read_metrics
from fedjax_anomaly.reporting.report import write_report


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run leaves.

    Attributes:
      result: the content of `result.json`; None when the run was interrupted, and at every process but the first.
      state: after the last round; None for a classical method, which has no rounds.
      output_dir: where everything was written, by the first process.
      interrupted: True when asked to stop before the last round.
    """

    result: dict[str, Any] | None
    state: FederatedState | None
    output_dir: Path
    interrupted: bool = False


def run_experiment(
    config: Config,
    dataset: Dataset | None = None,
    *,
    announce: Callable[[list[str]], None] = lambda lines: None,
    report: Callable[[int, int, float, dict[str, Any]], None] = lambda *progress: None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Carries out a run and writes its folder.

    Of many processes (`distributed.joined`) all train; the first announces, reports, evaluates and writes.

    Args:
      config: the settings.
      dataset: rows of the caller's own; None loads `config.dataset`.
      announce: called once before the first round, with lines that say what will be run.
      report: called after each chunk with the rounds done, the rounds wanted, rounds per second, the last record.
      stop_requested: asked after each chunk; True ends the run there, with a checkpoint and without results.

    Raises:
      ValueError, FileNotFoundError: for data, settings or an output folder that do not fit.
      Diverged: when the loss is no longer finite.
      OSError: when something cannot be written.
    """
    begin = time.perf_counter()
    experiment = build(config, dataset)
    config = experiment.config
    check_shared(experiment)
    directory = Path(distributed.text_from_first(str(open_output_dir(config)) if distributed.is_first() else ""))
    if not distributed.is_first():
        trained = train(experiment, stop_requested=stop_requested)
        return Outcome(None, trained.state, directory, trained.interrupted)
    announce(describe(experiment, directory))
    if config.method not in TRAINED_IN_ROUNDS:
        return Outcome(_conclude(experiment, None, [], directory, begin), None, directory)
    checkpoint_dir = directory / "checkpoints"
    with Logbook(directory, resume_round=_latest_round(checkpoint_dir) if config.resume else None) as logbook:

        def follow(progress: Progress) -> None:
            *earlier, last = progress.records
            last |= outcome.follow(experiment, progress.state)
            for record in [*earlier, last]:
                logbook.write(record["round"], {name: record[name] for name in record if name != "round"})
            report(progress.done, progress.total, progress.rounds_per_second, last)

        trained = train(
            experiment,
            checkpoint_dir=checkpoint_dir,
            resume=config.resume,
            report=follow,
            stop_requested=stop_requested,
        )
    if trained.interrupted:
        return Outcome(None, trained.state, directory, interrupted=True)
    history = read_metrics(directory)
    return Outcome(_conclude(experiment, trained, history, directory, begin), trained.state, directory)


def describe(experiment: Experiment, directory: Path) -> list[str]:
    """What will be run, in a few lines; a privacy guarantee is stated in words before the first round."""
    config, federation = experiment.config, experiment.federation
    windows = federation.train.mask.sum(axis=1)
    secure = config.secure_aggregation
    return [
        f"{federation.dataset.name}: {federation.num_clients} clients ({config.partition}), {windows.min()} to "
        f"{windows.max()} normal training windows each, {len(federation.dataset.test)} test rows",
        _describe_training(experiment),
        f"writing to {directory}",
        *([] if secure == "none" else [f"secure aggregation ({secure}): the server sees {server_sees(config)}"]),
        *privacy_ledger.announcement([experiment]),
    ]


def _describe_training(experiment: Experiment) -> str:
    config = experiment.config
    devices = f"{experiment.mesh.size} {jax.devices()[0].platform} device(s)"
    if jax.process_count() > 1:
        devices += f" of {jax.process_count()} processes"
    if config.method == "federated":
        models = f"{experiment.num_clusters} model(s)"
        return f"{config.num_rounds} rounds of {config.cohort_size} clients on {devices}, {models}"
    if config.method in TRAINED_IN_ROUNDS:
        where = "each client alone" if config.method == "local_only" else "all clients' rows in one place"
        return f"{config.method}: {config.num_rounds} rounds on {devices}, trained on {where}"
    seen = ", attack labels of the training rows included" if config.method in SAW_ATTACK_LABELS else ""
    return f"{config.method}: fitted on all clients' rows in one place{seen}"


def _latest_round(checkpoint_dir: Path) -> int:
    with Checkpoints(checkpoint_dir) as checkpoints:
        return checkpoints.latest_round or 0


def _conclude(
    experiment: Experiment, trained: Trained | None, history: list[dict[str, Any]], directory: Path, begin: float
) -> dict[str, Any]:
    """Evaluates the trained models and writes results, figures and report."""
    from fedjax_anomaly.experiment import pictures  # Imports matplotlib: slow, and not needed before the first round.

    detector = (
        outcome.classical_detector(experiment) if trained is None else outcome.calibrate(experiment, trained.state)
    )
    test_rows = outcome.score_test_rows(experiment, detector)
    result = outcome.result(
        experiment, trained, detector, test_rows, history=history, total_seconds=time.perf_counter() - begin
    )
    write_scores(directory / "scores.csv", experiment.federation, test_rows, detector.thresholds)
    write_atomically(directory / "result.json", json.dumps(result, indent=2, allow_nan=False).encode())
    if (bundle := make_bundle(experiment, detector)) is not None:
        write_bundle(directory, bundle)
    privacy_ledger.write_ledger(directory / "privacy.json", result["privacy"])
    figures = pictures.draw_figures(experiment, detector, test_rows, history, result, directory / "figures")
    write_report(
        directory / "report.html",
        title=_title(experiment.config),
        result=result,
        config=dataclasses.asdict(experiment.config),
        environment=environment(),
        figures=figures,
    )
    return result


def _title(config: Config) -> str:
    if config.method == "federated":
        return f"Federated anomaly detection on {config.dataset}"
    return f"Anomaly detection on {config.dataset} by {config.method}"
