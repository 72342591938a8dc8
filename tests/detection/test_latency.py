import time

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_anomaly.detection.latency import event_latency_ms


def test_an_event_that_takes_five_milliseconds_is_timed_as_such():
    """The result is waited for, and neither compilation nor a forgotten wait makes up the figure."""

    def slow_errors(params, windows):
        def wait(x):
            time.sleep(0.005)
            return x

        errors = jnp.square(windows) * params
        return jax.pure_callback(wait, jax.ShapeDtypeStruct(errors.shape, errors.dtype), errors)

    latency = event_latency_ms(slow_errors, jnp.ones(()), np.ones((4, 2), np.float32), num_events=5)
    assert 5.0 <= latency["p50"] <= latency["p95"] <= latency["p99"]
    assert latency["p50"] < 100.0
