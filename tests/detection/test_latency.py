import time

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_anomaly.detection.latency import event_latency_ms


def test_an_event_that_takes_five_milliseconds_is_timed_as_such():
    """The result is waited for, and neither compilation nor a forgotten wait makes up the figure."""

    @jax.jit
    def slow_score(window):
        def wait(x):
            time.sleep(0.005)
            return x

        return jax.pure_callback(wait, jax.ShapeDtypeStruct(window.shape, window.dtype), jnp.square(window))

    latency = event_latency_ms(slow_score, np.ones((4, 2), np.float32), num_events=5)
    assert 5.0 <= latency["p50"] <= latency["p95"] <= latency["p99"]
    assert latency["p50"] < 100.0


def test_no_event_is_begun_after_the_time_is_over():
    calls = []

    def slow_score(window):
        calls.append(window)
        time.sleep(0.01)
        return 0.0

    event_latency_ms(slow_score, np.ones((4, 2), np.float32), num_events=500, most_seconds=0.05)
    assert 21 <= len(calls) <= 20 + 6
