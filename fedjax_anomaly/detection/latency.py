"""The time that one event spends in the detector."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float


def event_latency_ms(
    score_event: Callable[[Float[np.ndarray, "T F"]], Any],
    window: Float[np.ndarray, "T F"],
    *,
    num_events: int = 500,
    most_seconds: float = 2.0,
) -> dict[str, float]:
    """Times single events, from the window on the host to the score.

    Compilation and warm-up are not timed, and every event waits for its result.

    Args:
      score_event: window -> the score of its last row, compiled or not.
      window: the encoded rows that end with the event.
      num_events: events timed.
      most_seconds: no further event is begun after this time.

    Returns:
      Percentiles `p50`, `p95` and `p99`, in milliseconds.
    """
    for _ in range(20):
        jax.block_until_ready(score_event(window))
    seconds: list[float] = []
    while len(seconds) < num_events and sum(seconds) < most_seconds:
        begin = time.perf_counter()
        jax.block_until_ready(score_event(window))
        seconds.append(time.perf_counter() - begin)
    p50, p95, p99 = np.percentile(1e3 * np.array(seconds), [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}
