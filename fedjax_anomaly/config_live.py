"""The settings of a detector on live streams; `config_flags` makes the command line of it."""

import dataclasses
import math
from pathlib import Path
from typing import Literal

from fedjax_anomaly.config_option import option
from fedjax_anomaly.detection.false_discoveries import PERIOD
from fedjax_anomaly.live.addresses import address_of
from fedjax_anomaly.live.drift import OnDrift
from fedjax_anomaly.live.otlp.sums import SumsAs
from fedjax_anomaly.live.sources import Format


@dataclasses.dataclass(frozen=True)
class LiveSettings:
    """Every setting of a live detector."""

    run: str = option("", "Folder of the finished run whose models score.")
    source: str = option(
        "-",
        "Where events come from: - is standard input, otlp://HOST:PORT receives OpenTelemetry metrics over HTTP there, "
        "anything else is a file that is followed.",
    )
    input_format: Format = option(
        "auto", "Of the lines; auto goes by the file's suffix, or takes JSON where the first line begins with a brace."
    )
    follow: bool = option(True, "Waits for more at the end of a file; --nofollow ends there.")
    otlp_stream: str = option(
        "service.name",
        "Attributes of an OpenTelemetry resource that name its stream, by comma: their values, joined by a slash.",
    )
    otlp_attributes: str = option(
        "",
        "Attributes, by comma, that tell several OpenTelemetry data points of a metric apart; a column is then called "
        "as in cpu{core=0}.",
    )
    otlp_join_seconds: float = option(
        0.05, "OpenTelemetry data points of a resource whose times differ by no more than this are one event."
    )
    otlp_gather_seconds: float = option(
        5.0, "For how long an event of OpenTelemetry metrics waits for the columns that are missing."
    )
    otlp_sums: SumsAs = option(
        "delta",
        "What becomes of cumulative OpenTelemetry sums that only grow: delta takes the change since the series' last "
        "point, rate that per second, cumulative leaves them as sent.",
    )
    output_dir: str = option(
        "", "Folder for scores, dead letters and state, which a restart goes on from; empty takes live in the run's."
    )
    write_scores: Literal["all", "alarms", "none"] = option("all", "Which events get a line in scores.jsonl.")
    alarm_rule: Literal["auto", "budget", "conformal", "spot", "run"] = option(
        "auto",
        "What an alarm is: a score above the level at which held-out rows show no more false incidents than "
        "--false_incidents_per_day, above the conformal threshold for --target_fpr, above that of extreme-value theory "
        "(SPOT) for it, which goes on learning from the stream, or above the threshold of the run's own rule. auto "
        "takes the budget where held-out rows have times and are enough, else conformal.",
    )
    false_incidents_per_day: float = option(0.0, "Budget of false incidents, per stream and day; 0 takes 1.5.")
    target_fpr: float = option(
        0.0,
        "Share of normal events that are to be alarms, for conformal and spot; 0 takes 0.002, or for conformal the "
        "least that the held-out scores can show where these are fewer than 499.",
    )
    spot_depth: int = option(
        0, "Scores of the running mean that spot takes away, for streams that wander; 0 takes none."
    )
    false_discovery_rate: float = option(
        0.0, "Share of all alarms, over all streams, that may be false, in place of a threshold; 0 leaves the rule's."
    )
    false_discovery_period: int = option(
        PERIOD, "Events, of all streams, of which this holds; fewer let a fault be told after a longer silence."
    )
    incident_gap_seconds: float = option(
        0.0, "Between alarms of one incident, at most; 0 takes ten usual steps of the training rows."
    )
    incident_alarms: int = option(1, "Alarms that make an incident, at least.")
    on_drift: OnDrift = option(
        "ignore",
        "When a stream's unalarmed scores have changed: report writes it into drift.jsonl, recalibrate sets the "
        "stream's threshold from its scores since then as well, retrain trains the models further on recent rows.",
    )
    drift_delta: float = option(0.01, "Significance of a change (ADWIN).")
    retrain_rounds: int = option(10, "Further federated rounds of a retraining.")
    retrain_rows: int = option(
        4320, "The last rows of each stream that it is on, a third held out; as many make a drifted stream count."
    )
    retrain_streams: float = option(0.05, "Share of the streams that must have drifted before it begins.")
    retrain_over_budget: float = option(
        2.0, "Times the budget of incidents, over two days, at which it begins without drift as well; 0 does not."
    )
    retrain_interval_seconds: float = option(
        86_400.0, "Between the beginnings of two retrainings, at least, in the time of the events."
    )
    prometheus: str = option("", "HOST:PORT where Prometheus reads figures, such as 127.0.0.1:9464; empty serves none.")
    webhook: str = option(
        "", "URL that incidents are posted to in Alertmanager's format, such as http://127.0.0.1:9093/api/v2/alerts."
    )
    dashboard: str = option(
        "",
        "HOST:PORT where a browser shows streams, scores and incidents, such as 127.0.0.1:8050; there is no login. "
        "Empty serves none.",
    )
    max_batch: int = option(256, "The most events scored in one go, rounded down to a power of 4.")
    max_streams: int = option(0, "For how many streams there is room; 0 takes 1024, or the clients where more.")
    max_future_seconds: float = option(
        0.0, "Events that lie further ahead of this machine's clock are rejected; 0 does not look, as for a replay."
    )
    snapshot_seconds: float = option(5.0, "Between two stored states; a killed process repeats no more than that.")
    compilation_cache: str = option(
        "", "Folder for compiled programs; empty takes the user's cache folder, none keeps nothing."
    )

    def __post_init__(self) -> None:
        if not self.run:
            raise ValueError("run is missing: give the folder of a finished run as --run.")
        if not self.source:
            raise ValueError("source is empty; give - for standard input, or a file.")
        for name, least in (
            ("max_batch", 1),
            ("max_streams", 0),
            ("max_future_seconds", 0.0),
            ("otlp_join_seconds", 0.0),
        ):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}.")
        for name in ("snapshot_seconds", "otlp_gather_seconds"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive.")

        self._check_alarms()

    def _check_alarms(self) -> None:
        if not 0.0 <= self.target_fpr < 1.0 or (self.target_fpr and self.alarm_rule in ("run", "budget")):
            raise ValueError(
                f"target_fpr={self.target_fpr} with alarm_rule={self.alarm_rule}: conformal and spot take one in "
                "(0, 1), or 0 for the usual one; the others have levels of their own."
            )
        no_budget = self.target_fpr or self.alarm_rule not in ("auto", "budget")
        if not 0.0 <= self.false_incidents_per_day < math.inf or (self.false_incidents_per_day and no_budget):
            raise ValueError(
                f"false_incidents_per_day={self.false_incidents_per_day} must be at least 0, and has an effect with "
                "--alarm_rule=auto or budget only, and without --target_fpr."
            )
        if self.spot_depth and self.alarm_rule != "spot":
            raise ValueError(f"spot_depth={self.spot_depth} has no effect without --alarm_rule=spot.")
        if not 0.0 <= self.false_discovery_rate < 1.0:
            raise ValueError(f"false_discovery_rate={self.false_discovery_rate} must lie in [0, 1); 0 is without.")
        other_rule = self.alarm_rule != "auto" or self.target_fpr or self.false_incidents_per_day
        if self.false_discovery_rate and (other_rule or self.on_drift in ("recalibrate", "retrain")):
            raise ValueError(
                "false_discovery_rate takes the place of a threshold, so that no --alarm_rule, no --target_fpr, no "
                "--false_incidents_per_day and neither --on_drift=recalibrate nor retrain has an effect beside it."
            )
        for name, least in (
            ("spot_depth", 0),
            ("incident_gap_seconds", 0.0),
            ("incident_alarms", 1),
            ("false_discovery_period", 1),
            ("retrain_rounds", 1),
            ("retrain_rows", 32),
            ("retrain_interval_seconds", 0.0),
            ("retrain_over_budget", 0.0),
        ):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}.")
        changed = [f.name for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        retrain = [name for name in changed if name.startswith("retrain_")]
        if retrain and self.on_drift != "retrain":
            raise ValueError(f"{retrain[0]} has no effect without --on_drift=retrain.")
        if not 0.0 < self.retrain_streams <= 1.0:
            raise ValueError(f"retrain_streams={self.retrain_streams} must lie in (0, 1].")
        if not 0.0 < self.drift_delta < 1.0:
            raise ValueError(f"drift_delta={self.drift_delta} must lie in (0, 1).")
        if self.webhook and not self.webhook.startswith(("http://", "https://")):
            raise ValueError(f"webhook={self.webhook} must begin with http:// or https://.")
        for name, port in (("prometheus", 9464), ("dashboard", 8050)):
            if getattr(self, name):
                address_of(name, getattr(self, name), usual_port=port)

    @property
    def output(self) -> Path:
        """The folder for what is written, as given or as chosen."""
        return Path(self.output_dir or Path(self.run) / "live")
