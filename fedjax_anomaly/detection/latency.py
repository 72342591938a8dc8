"""The time that one event spends in the detector."""

import time

import jax
import numpy as np

from fedjax_anomaly.detection.scoring import ColumnErrors
from fedjax_anomaly.types import PyTree


def event_latency_ms(
    column_errors: ColumnErrors,
    params: PyTree,
    window: np.ndarray,
    *,
    num_events: int = 500,
) -> dict[str, float]:
    """Times single events through the compiled scorer, from the window on the host to the score on the host.

    Compilation and warm-up are not timed, and every event waits for its result.

    Args:
      column_errors: of the model.
      params: of one model.
      window: Float[T, F], the encoded rows that end with the event.
      num_events: events timed.

    Returns:
      Percentiles `p50`, `p95` and `p99`, in milliseconds.
    """
    scorer = jax.jit(lambda model, rows: column_errors(model, rows[None])[0, -1].mean())
    params = jax.device_put(params, jax.devices()[0])
    for _ in range(20):
        scorer(params, window).block_until_ready()
    seconds = np.empty(num_events)
    for event in range(num_events):
        begin = time.perf_counter()
        scorer(params, window).block_until_ready()
        seconds[event] = time.perf_counter() - begin
    p50, p95, p99 = np.percentile(1e3 * seconds, [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}
