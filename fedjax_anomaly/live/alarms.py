"""The parts that deal with alarms, from settings: the rule, the watch over scored events, and the sinks."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedjax_anomaly.detection.alarm_rules import AlarmRule, constant_rule
from fedjax_anomaly.detection.anomaly_score import pvalue_columns
from fedjax_anomaly.detection.false_discoveries import TailPValues, pvalue_scores_needed
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
from fedjax_anomaly.live.sinks import IncidentLines, PrometheusEndpoint
from fedjax_anomaly.live.watch import Discoveries, Recalibrate, Watch

if TYPE_CHECKING:
    from fedjax_anomaly.config_live import LiveSettings
    from fedjax_anomaly.live.engine import Counts

_GAP_STEPS = 10.0
_GAP_SECONDS = 60.0

DEFAULT_FPR = 0.002
"""Chosen on simulated days of other fleets than those it is judged on (`benchmarks/live_day.py`)."""


def alarm_rule(settings: "LiveSettings", bundle: Bundle) -> AlarmRule:
    """The rule that the settings name."""
    if settings.alarm_rule == "run":
        return constant_rule(bundle.threshold, bundle.threshold_level)
    if settings.alarm_rule == "spot":
        return spot_rule(settings.target_fpr or DEFAULT_FPR, depth=settings.spot_depth)
    least = 1.0 / (len(bundle.calibration_scores) + 1)
    return constant_rule("conformal", settings.target_fpr or max(DEFAULT_FPR, least))


def make_watch(
    settings: "LiveSettings", bundle: Bundle, rule: AlarmRule, recalibrate: Recalibrate, files: list[GrowingFile]
) -> Watch:
    """What is made of scored events.

    Args:
      settings: all of them.
      bundle: the trained detector.
      rule: of alarms.
      recalibrate: sets a stream's rule anew.
      files: gets those that are written to.

    Raises:
      ImportError: when drift is to be looked for and `river` is not installed.
      ValueError: when there are too few held-out scores for p-values.
    """
    incidents = Incidents(
        bundle.column_names,
        gap_seconds=settings.incident_gap_seconds or _usual_gap(bundle),
        least_alarms=settings.incident_alarms,
        contributions=pvalue_columns(bundle.reference) if bundle.score == "pvalue" else lambda errors: errors,
    )
    discoveries = None
    if settings.false_discovery_rate:
        calibration = [bundle.calibration_of(c, pvalue_scores_needed()) for c in range(bundle.num_clients)]
        p_values = [TailPValues(scores) for scores in calibration]
        discoveries = Discoveries(settings.false_discovery_rate, settings.false_discovery_period, p_values)
    if settings.on_drift == "ignore":
        return Watch(incidents, discoveries=discoveries)
    files.append(GrowingFile(Path(settings.output) / "drift.jsonl"))
    return Watch(
        incidents,
        discoveries=discoveries,
        drift=DriftMonitor(
            lambda c: bundle.calibration_of(c, rule.scores_needed),
            delta=settings.drift_delta,
            memory=max(MEMORY, rule.scores_needed),
        ),
        drift_lines=files[-1],
        recalibrate=recalibrate if settings.on_drift == "recalibrate" else None,
        scores_needed=rule.scores_needed,
    )


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


def _usual_gap(bundle: Bundle) -> float:
    """Ten of the usual steps in time of the training rows."""
    steps = bundle.step_seconds[~np.isnan(bundle.step_seconds)]
    return _GAP_STEPS * float(np.median(steps)) if len(steps) else _GAP_SECONDS
