"""What flows between the parts of the live detector, and what a source and a sink are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from fedjax_anomaly.live.drift import Drift
    from fedjax_anomaly.live.incidents import Incident


class Record(NamedTuple):
    """One event as a source read it.

    Attributes:
      position: where the source goes on after this record; what it counts is the source's own affair.
      raw: the text as it came, for the dead-letter file.
      fields: `stream`, `time` and the columns by name; None where the record could not be parsed.
      error: why it could not be parsed.
    """

    position: int
    raw: str
    fields: dict[str, Any] | None
    error: str | None = None


class Source(Protocol):
    """Where events come from. It buffers a bounded number of them; when that is full, whoever writes to it waits."""

    def read(self, most: int, timeout_seconds: float) -> list[Record] | None:
        """At most `most` records as soon as there is one; [] when there is none in time, None after the last."""

    def close(self) -> None:
        """Takes in nothing more; what has been taken in can still be read."""


@runtime_checkable
class Replayable(Protocol):
    """A source that can be read again from where a process stopped that was killed."""

    def bookmark(self, position: int) -> dict[str, Any]:
        """What `seek` needs to go on after the record of this position, as JSON."""

    def seek(self, bookmark: dict[str, Any]) -> None:
        """Goes on where the bookmark was made."""


class ScoredEvent(NamedTuple):
    """One event after the detector.

    Attributes:
      stream: its name.
      client: whose model, encoding and calibration it was judged by.
      time: of the event, in seconds.
      position: of its record.
      score: smoothed, as the threshold was set for.
      threshold: of the stream at this event.
      alarm: True where the score exceeds the threshold.
      column_errors: Float[D], the error of each column of the row, before smoothing.
      latency_seconds: from when the source handed the event over to the decision.
      row: Float[F], encoded.
      restart: where the row does not continue the stream's row before it.
    """

    stream: str
    client: int
    time: float
    position: int
    score: float
    threshold: float
    alarm: bool
    column_errors: Float[np.ndarray, " D"]
    latency_seconds: float = 0.0
    row: Float[np.ndarray, " F"] | None = None
    restart: bool = False


class Sink:
    """Where decisions go; what a sink does not override it does not want to know."""

    def scored(self, events: Sequence[ScoredEvent]) -> None:
        """Takes some events, each stream's in order."""

    def incident(self, incident: "Incident") -> None:
        """Takes an incident that has begun, become critical or ended."""

    def reopened(self, incident: "Incident") -> None:
        """Takes an incident that was open when the process stopped which this one goes on from."""

    def drift(self, drift: "Drift") -> None:
        """Takes a change of a stream's normal scores."""

    def snapshot(self) -> Any:
        """What a restart must not lose, as JSON; None where that is nothing."""

    def restore(self, state: Any) -> None:
        """Goes on from a snapshot."""

    def model(self, trained_at: str) -> None:
        """Takes notice of another model than before, and of when its training ended, ISO 8601."""

    def close(self) -> None:
        """Writes what is still held back."""
