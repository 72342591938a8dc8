"""The settings of a detector on live streams; `config_flags` makes the command line of it."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from fedjax_anomaly.live.sources import Format


def _option(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class LiveSettings:
    """Every setting of a live detector."""

    run: str = _option("", "Folder of the finished run whose models score.")
    source: str = _option(
        "-",
        "Where events come from: - is standard input, otlp://HOST:PORT receives OpenTelemetry metrics over HTTP there, "
        "anything else is a file that is followed.",
    )
    input_format: Format = _option(
        "auto", "Of the lines; auto goes by the file's suffix, or takes JSON where the first line begins with a brace."
    )
    follow: bool = _option(True, "Waits for more at the end of a file; --nofollow ends there.")
    otlp_stream: str = _option(
        "service.name",
        "Attributes of an OpenTelemetry resource that name its stream, by comma: their values, joined by a slash.",
    )
    otlp_attributes: str = _option(
        "",
        "Attributes, by comma, that tell several OpenTelemetry data points of a metric apart; a column is then called "
        "as in cpu{core=0}.",
    )
    otlp_join_seconds: float = _option(
        0.05, "OpenTelemetry data points of a resource whose times differ by no more than this are one event."
    )
    otlp_gather_seconds: float = _option(
        5.0, "For how long an event of OpenTelemetry metrics waits for the columns that are missing."
    )
    output_dir: str = _option(
        "", "Folder for scores, dead letters and state, which a restart goes on from; empty takes live in the run's."
    )
    write_scores: Literal["all", "alarms", "none"] = _option("all", "Which events get a line in scores.jsonl.")
    max_batch: int = _option(256, "The most events scored in one go, rounded down to a power of 4.")
    max_streams: int = _option(0, "For how many streams there is room; 0 takes 1024, or the clients where more.")
    max_future_seconds: float = _option(
        0.0, "Events that lie further ahead of this machine's clock are rejected; 0 does not look, as for a replay."
    )
    snapshot_seconds: float = _option(5.0, "Between two stored states; a killed process repeats no more than that.")
    compilation_cache: str = _option(
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

    @property
    def output(self) -> Path:
        """The folder for what is written, as given or as chosen."""
        return Path(self.output_dir or Path(self.run) / "live")
