"""From settings to a running detector: the only file of this folder that knows every part."""

import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedjax_anomaly.live.addresses import address_of
from fedjax_anomaly.live.alarms import alarm_rule, make_sinks, make_watch, room_for_streams
from fedjax_anomaly.live.bundle import Bundle, digest
from fedjax_anomaly.live.engine import Counts, Engine
from fedjax_anomaly.live.events import Intake
from fedjax_anomaly.live.interfaces import Sink, Source
from fedjax_anomaly.live.outputs import DeadLetters, GrowingFile, ScoreLines
from fedjax_anomaly.live.retraining import Retrain
from fedjax_anomaly.live.scorer import Scorer
from fedjax_anomaly.live.sources import FollowedFile, PipeSource
from fedjax_anomaly.live.versions import Versions

if TYPE_CHECKING:
    from fedjax_anomaly.config_live import LiveSettings

_OTLP = "otlp://"
_STATE_VERSION = 2


def start(
    settings: "LiveSettings",
    source: Source | None = None,
    sinks: Sequence[Sink] = (),
    retrain: Retrain | None = None,
) -> Engine:
    """Loads the detector, compiles it, and goes on where the last process on the same output folder stopped.

    Args:
      settings: all of them.
      source: of the caller's own; None opens the one that the settings name.
      sinks: of the caller's own, beside those that the settings ask for.
      retrain: trains models for `on_drift=retrain` while the detector waits, such as `experiment.retraining.retrainer`
        makes one; None trains in a process of its own.

    Returns:
      The engine, ready to `run`.

    Raises:
      FileNotFoundError: when the run holds no detector, or the source is not there.
      ValueError: for settings that do not fit the run, or a stored state of another detector.
      OSError: when a file cannot be read or written.
    """
    output = Path(settings.output)
    versions = Versions(settings.run, output / "models")
    bundle = versions.read(versions.current)
    max_streams = room_for_streams(settings, bundle)
    rule = alarm_rule(settings, bundle)
    intake = Intake(bundle, max_streams=max_streams, max_future_seconds=settings.max_future_seconds)
    files: list[GrowingFile] = []
    engines: list[Engine] = []
    with ExitStack() as undo:
        source = open_source(settings, intake.columns) if source is None else source
        undo.callback(source.close)
        scorer = Scorer(bundle, rule, max_streams=max_streams, max_batch=settings.max_batch)
        undo.callback(_close, files)
        files.append(GrowingFile(output / "dead_letters.jsonl"))
        own_sinks: list[Sink] = list(sinks)
        if settings.write_scores != "none":
            files.append(GrowingFile(output / "scores.jsonl"))
            own_sinks.append(ScoreLines(files[-1], alarms_only=settings.write_scores == "alarms"))

        def install(other: Bundle) -> None:
            scorer.replace(other, alarm_rule(settings, other), intake.clients)
            for sink in own_sinks:
                sink.model(other.trained_at)

        watch = make_watch(
            settings,
            versions,
            bundle,
            rule,
            lambda stream, scores: scorer.recalibrate(intake.names.index(stream), scores),
            install,
            files,
            retrain,
        )
        own_sinks += make_sinks(
            settings, bundle, lambda: engines[0].counts if engines else Counts(), max_streams, files
        )
        undo.pop_all()  # From here on the engine closes all of them.
    engine = Engine(
        source,
        intake,
        scorer,
        watch,
        own_sinks,
        DeadLetters(files[0]),
        state_path=output / "state.npz",
        identity=_identity(settings),
        files=files,
        max_batch=settings.max_batch,
        snapshot_seconds=settings.snapshot_seconds,
    )
    engines.append(engine)
    return engine


def open_source(settings: "LiveSettings", columns: Sequence[str]) -> Source:
    """The source that the settings name.

    Args:
      settings: all of them.
      columns: those that an event must have.

    Raises:
      ValueError: for an address that is none.
      OSError: when it cannot be read, or the address is taken.
    """
    if settings.source.startswith(_OTLP):
        return _otlp_source(settings, columns)
    if settings.source == "-":
        return PipeSource(sys.stdin.fileno(), settings.input_format)
    return FollowedFile(settings.source, settings.input_format, follow=settings.follow)


def _close(files: Sequence[GrowingFile]) -> None:
    for file in files:
        file.close()


def _otlp_source(settings: "LiveSettings", columns: Sequence[str]) -> Source:
    from fedjax_anomaly.live.otlp.receiver import OtlpSource  # Not needed by other sources.

    host, port = address_of("source", settings.source, usual_port=4318, scheme=_OTLP)
    stream, attributes = (
        [name.strip() for name in names.split(",") if name.strip()]
        for names in (settings.otlp_stream, settings.otlp_attributes)
    )
    return OtlpSource(
        columns,
        host=host,
        port=port,
        stream_attributes=stream,
        point_attributes=attributes,
        gather_seconds=settings.otlp_gather_seconds,
        join_seconds=settings.otlp_join_seconds,
        sums_as=settings.otlp_sums,
    )


def _identity(settings: "LiveSettings") -> str:
    """Of what a stored state belongs to: its format, the detector, the source, and the rule of alarms."""
    of: list[Any] = [_STATE_VERSION, digest(settings.run), settings.source]
    of += [settings.alarm_rule, settings.target_fpr, settings.spot_depth]
    if settings.alarm_rule in ("auto", "budget"):
        of += [settings.false_incidents_per_day, settings.incident_gap_seconds, settings.incident_alarms]
    of += [settings.false_discovery_rate, settings.false_discovery_period]
    return hashlib.sha256(json.dumps(of).encode()).hexdigest()
