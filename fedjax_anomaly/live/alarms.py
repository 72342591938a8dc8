"""The parts that deal with alarms, from settings: the rule, the watch over scored events, and the sinks."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fedjax_anomaly.detection.alarm_rules import AlarmRule, constant_rule
from fedjax_anomaly.detection.anomaly_score import pvalue_columns
from fedjax_anomaly.detection.false_discoveries import TailPValues, pvalue_scores_needed
from fedjax_anomaly.detection.incident_budget import SCALE_SCORES, allowed_incidents, incident_level, scaled_rule
from fedjax_anomaly.detection.spot import spot_rule
from fedjax_anomaly.live.addresses import address_of
from fedjax_anomaly.live.alertmanager import Alertmanager
from fedjax_anomaly.live.bundle import Bundle
from fedjax_anomaly.live.dashboard.board import Board, points_for
from fedjax_anomaly.live.dashboard.sink import Dashboard
from fedjax_anomaly.live.drift import MEMORY, DriftMonitor
from fedjax_anomaly.live.incidents import Incidents
from fedjax_anomaly.live.interfaces import Sink
from fedjax_anomaly.live.outputs import GrowingFile
from fedjax_anomaly.live.recent import RecentRows
from fedjax_anomaly.live.retraining import HELD_OUT_PART, ProcessTrainer, Retrain, Retraining, WaitingTrainer
from fedjax_anomaly.live.sinks import IncidentLines, PrometheusEndpoint
from fedjax_anomaly.live.versions import Versions
from fedjax_anomaly.live.watch import Discoveries, Recalibrate, Watch

if TYPE_CHECKING:
    from fedjax_anomaly.config_live import LiveSettings
    from fedjax_anomaly.live.engine import Counts

_ROOM = 1024
"""For streams, unless told otherwise."""

_GAP_STEPS = 10.0
_GAP_SECONDS = 60.0

DEFAULT_FPR = 0.002
DEFAULT_BUDGET = 1.5
"""False incidents per stream and day. Both were chosen on simulated days of other fleets than those they are judged on
(`benchmarks/live_day.py`)."""

_DAY_SECONDS = 86_400.0
_LEAST_MEAN = 1e-12


def alarm_rule(settings: "LiveSettings", bundle: Bundle) -> AlarmRule:
    """The rule that the settings name.

    Raises:
      ValueError: when there are no or too few held-out scores for it.
    """
    if rule_of(settings, bundle) == "budget":
        return _budget_rule(settings, bundle)
    if settings.alarm_rule == "run":
        return constant_rule(bundle.threshold, bundle.threshold_level)
    if settings.alarm_rule == "spot":
        return spot_rule(settings.target_fpr or DEFAULT_FPR, depth=settings.spot_depth)
    least = 1.0 / (len(bundle.calibration_scores) + 1)
    return constant_rule("conformal", settings.target_fpr or max(DEFAULT_FPR, least))


def rule_of(settings: "LiveSettings", bundle: Bundle) -> Literal["budget", "conformal", "spot", "run"]:
    """The name of the rule; `auto` is the budget of incidents wherever held-out rows can show it."""
    if settings.alarm_rule != "auto":
        return settings.alarm_rule
    if settings.false_incidents_per_day:
        return "budget"
    enough = DEFAULT_BUDGET * held_out_days(bundle) >= 1.0
    return "budget" if enough and not settings.target_fpr else "conformal"


def held_out_days(bundle: Bundle) -> float:
    """What the held-out rows amount to, in stream-days; 0 where rows had no times."""
    return float(np.nansum(bundle.step_seconds[bundle.calibration_client])) / _DAY_SECONDS


def _budget_rule(settings: "LiveSettings", bundle: Bundle) -> AlarmRule:
    """Each client's scores in units of their mean, and the level of all at which the budget is kept."""
    if not held_out_days(bundle) > 0.0:
        raise ValueError(
            "alarm_rule=budget counts incidents per day, but the training rows had no times: give "
            "--alarm_rule=conformal."
        )
    client, time = bundle.calibration_client, bundle.calibration_time
    means = [bundle.calibration_of(c, SCALE_SCORES, "client").mean(dtype=np.float64) for c in range(bundle.num_clients)]
    begins = (np.diff(client, prepend=client[0]) != 0) | (np.diff(time, prepend=time[0]) < 0.0)
    return scaled_rule(
        incident_level(
            bundle.calibration_scores / np.maximum(means, _LEAST_MEAN)[client],
            np.cumsum(begins),
            time,
            allowed=allowed_incidents(_budget(settings), held_out_days(bundle)),
            gap_seconds=_gap_seconds(settings, bundle),
            least_alarms=settings.incident_alarms,
        )
    )


def make_watch(
    settings: "LiveSettings",
    versions: Versions,
    bundle: Bundle,
    rule: AlarmRule,
    recalibrate: Recalibrate,
    install: Callable[[Bundle], None],
    files: list[GrowingFile],
    retrain: Retrain | None,
) -> Watch:
    """What is made of scored events.

    Args:
      settings: all of them.
      versions: the models that there are.
      bundle: the one in use.
      rule: of alarms.
      recalibrate: sets a stream's rule anew.
      install: scores with another model from now on, and by its thresholds.
      files: gets those that are written to.
      retrain: trains models while the detector waits; None trains in a process of its own.

    Raises:
      ImportError: when drift is to be looked for and `river` is not installed.
      ValueError: when there are too few held-out scores for p-values, or models cannot be exchanged.
    """
    incidents = Incidents(
        bundle.column_names,
        gap_seconds=_gap_seconds(settings, bundle),
        least_alarms=settings.incident_alarms,
        contributions=pvalue_columns(bundle.reference) if bundle.score == "pvalue" else lambda errors: errors,
    )
    discoveries = None
    if settings.false_discovery_rate:
        calibration = [bundle.calibration_of(c, pvalue_scores_needed()) for c in range(bundle.num_clients)]
        p_values = [TailPValues(scores) for scores in calibration]
        discoveries = Discoveries(settings.false_discovery_rate, settings.false_discovery_period, p_values)
    in_use = [bundle]

    def replace(other: Bundle) -> None:
        in_use[:] = [other]
        install(other)

    model: dict[str, Any] = {"model": versions.current, "renew": lambda: install(in_use[0])}
    if settings.on_drift == "ignore":
        return Watch(incidents, discoveries=discoveries, **model)
    files.append(GrowingFile(Path(settings.output) / "drift.jsonl"))
    return Watch(
        incidents,
        discoveries=discoveries,
        drift=DriftMonitor(
            lambda c: in_use[0].calibration_of(c, rule.scores_needed, rule.scope),
            delta=settings.drift_delta,
            memory=max(MEMORY, rule.scores_needed),
        ),
        drift_lines=files[-1],
        recalibrate=recalibrate if settings.on_drift == "recalibrate" else None,
        retraining=_retraining(settings, versions, bundle, replace, retrain),
        scores_needed=rule.scores_needed,
        **model,
    )


def _retraining(
    settings: "LiveSettings",
    versions: Versions,
    bundle: Bundle,
    install: Callable[[Bundle], None],
    retrain: Retrain | None,
) -> Retraining | None:
    if settings.on_drift != "retrain":
        return None
    if bundle.score != "mean":
        raise ValueError(
            f"on_drift=retrain is for runs with --score=mean: with --score={bundle.score} a score is compiled with "
            "held-out rows of its model; take --on_drift=recalibrate."
        )

    def refuse(other: Bundle) -> None:
        names, needed = (rule_of(settings, bundle), rule_of(settings, other)), alarm_rule(settings, other).scores_needed
        if names[0] != names[1] or len(other.calibration_scores) < needed:
            raise ValueError(
                f"{len(other.calibration_scores)} held-out scores are too few for --alarm_rule={names[0]}; keep more "
                "--retrain_rows."
            )

    folder = Path(settings.output) / "models"
    return Retraining(
        RecentRows(
            folder / "recent_rows.bin",
            num_features=bundle.encoders[0].layout.num_features,
            num_rows=settings.retrain_rows,
            max_streams=room_for_streams(settings, bundle),
        ),
        ProcessTrainer(settings.run, folder, settings.retrain_rounds)
        if retrain is None
        else WaitingTrainer(versions, retrain),
        versions,
        install,
        share=settings.retrain_streams,
        rows_since=settings.retrain_rows // HELD_OUT_PART,  # What is held out is then of the drifted stream.
        interval_seconds=settings.retrain_interval_seconds,
        most_incidents=_most_incidents(settings, bundle),
        refuse=refuse,
    )


def _budget(settings: "LiveSettings") -> float:
    """Of false incidents, per stream and day."""
    return settings.false_incidents_per_day or DEFAULT_BUDGET


def _most_incidents(settings: "LiveSettings", bundle: Bundle) -> float:
    """Per stream and day, before models are trained further; infinite where there is no budget."""
    if not settings.retrain_over_budget or rule_of(settings, bundle) != "budget":
        return math.inf
    return settings.retrain_over_budget * _budget(settings)


def make_sinks(
    settings: "LiveSettings", bundle: Bundle, counts: Callable[[], "Counts"], max_streams: int, files: list[GrowingFile]
) -> list[Sink]:
    """The sinks of incidents and figures.

    Args:
      settings: all of them.
      bundle: the trained detector.
      counts: what has become of the records so far.
      max_streams: for how many there is room.
      files: gets those that are written to.

    Raises:
      ImportError: when an endpoint for Prometheus is asked for and `prometheus-client` is not installed.
      OSError: when a port is taken.
    """
    files.append(GrowingFile(Path(settings.output) / "incidents.jsonl"))
    sinks: list[Sink] = [IncidentLines(files[-1])]
    if settings.prometheus:
        host, port = address_of("prometheus", settings.prometheus, usual_port=9464)
        sinks.append(
            PrometheusEndpoint(port, address=host, trained_at=bundle.trained_at, rejected=lambda: counts().rejected)
        )
    if settings.dashboard:
        host, port = address_of("dashboard", settings.dashboard, usual_port=8050)
        sinks.append(
            Dashboard(
                port,
                host=host,
                run=Path(settings.run).absolute().name,
                trained_at=bundle.trained_at,
                timed=not np.isnan(bundle.step_seconds).any(),
                board=Board(points_for(max_streams)),
                counts=counts,
            )
        )
    if settings.webhook:
        sinks.append(Alertmanager(settings.webhook))
    return sinks


def room_for_streams(settings: "LiveSettings", bundle: Bundle) -> int:
    """How many streams there may be."""
    return settings.max_streams or max(_ROOM, bundle.num_clients)


def _gap_seconds(settings: "LiveSettings", bundle: Bundle) -> float:
    """Between alarms of one incident, at most."""
    return settings.incident_gap_seconds or usual_gap(bundle)


def usual_gap(bundle: Bundle) -> float:
    """Ten of the usual steps in time of the training rows."""
    steps = bundle.step_seconds[~np.isnan(bundle.step_seconds)]
    return _GAP_STEPS * float(np.median(steps)) if len(steps) else _GAP_SECONDS
