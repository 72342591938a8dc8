"""The metrics that a monitoring system records of each service: expected values, and a minute's sample of them."""

from collections.abc import Mapping

import numpy as np

from fedjax_anomaly.data.microservices import queueing
from fedjax_anomaly.data.microservices.faults import Forcing
from fedjax_anomaly.data.microservices.fleet import Fleet
from fedjax_anomaly.data.microservices.physics import SECONDS_PER_MINUTE, Trace

PERCENTILES: Mapping[str, float] = {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}

METRICS = (
    "request_rate_per_second",
    "error_rate",
    *PERCENTILES,
    "queue_length",
    "open_connections",
    "retries_per_second",
    "cpu_utilization",
    "memory_utilization",
    "gc_time_fraction",
    "network_in_bytes_per_second",
    "network_out_bytes_per_second",
    "disk_bytes_per_second",
)
"""The columns of the data set, in order. Rates count all requests; `queue_length` is of the whole service."""

_HOSTILE_REQUEST_BYTES = 250.0
_HOSTILE_RESPONSE_BYTES = 400.0
_HOSTILE_LINGER_SECONDS = 2.0
_ACCEPTED_PER_SLOT = 4.0  # Waiting requests that have a connection; others wait at the caller or in a message queue.
_HELD_CONNECTIONS_PER_SLOT = 3.0  # An attacker opens more connections than the slots can take.
_TRICKLE_BYTES_PER_SECOND = 20.0
_IDLE_CPU = 0.03
_GAUGE_STD = 0.015
_QUEUE_STD = 0.1
_PERIOD_JITTER = 0.15


def expected_metrics(fleet: Fleet, trace: Trace, forcing: Forcing) -> dict[str, np.ndarray]:
    """The expected metrics of one run, Float[T, S] each, by name; memory is without garbage, disk without flushes."""
    rate = trace.arrival_rate + trace.hostile_rate
    served = trace.arrival_rate * trace.served
    held_slots = (fleet.slots - trace.free_slots) * fleet.instances * forcing.capacity_factor
    free_slots = trace.free_slots * fleet.instances * forcing.capacity_factor
    waiting = trace.wait_probability * trace.utilization / (1.0 - trace.utilization)
    queue = waiting * fleet.instances * forcing.capacity_factor + rate * trace.backlog_seconds
    accepted = np.minimum(queue, _ACCEPTED_PER_SLOT * free_slots)
    connections = trace.utilization * free_slots + accepted + rate * fleet.keepalive_seconds
    connections += _HELD_CONNECTIONS_PER_SLOT * held_slots + _HOSTILE_LINGER_SECONDS * trace.hostile_rate
    hostile_error = trace.hostile_rate * forcing.hostile_error
    customer_bytes_in = trace.arrival_rate * fleet.request_bytes
    metrics = {
        "request_rate_per_second": rate,
        "error_rate": (trace.arrival_rate * trace.error + hostile_error) / rate,
        **_latency(fleet, trace),
        "queue_length": queue,
        "open_connections": connections,
        "retries_per_second": _retries(fleet, trace),
        "cpu_utilization": _IDLE_CPU + (1.0 - _IDLE_CPU) * np.minimum(1.0, trace.cpu_demand),
        "memory_utilization": trace.live_memory,
        "gc_time_fraction": trace.collection,
        "network_in_bytes_per_second": customer_bytes_in
        + trace.hostile_rate * _HOSTILE_REQUEST_BYTES
        + held_slots * _TRICKLE_BYTES_PER_SECOND,
        "network_out_bytes_per_second": served * fleet.response_bytes + trace.hostile_rate * _HOSTILE_RESPONSE_BYTES,
        "disk_bytes_per_second": served * fleet.disk_bytes,
    }
    return {name: metrics[name] for name in METRICS}


def _latency(fleet: Fleet, trace: Trace) -> dict[str, np.ndarray]:
    """The percentiles of the time that admitted requests stay, in ms, cut at the timeout."""
    service_rate = 1.0 / trace.holding_seconds
    drain_rate = trace.free_slots * service_rate * (1.0 - trace.utilization)
    latency = {}
    for name, probability in PERCENTILES.items():
        sojourn = queueing.sojourn_quantile(probability, trace.wait_probability, service_rate, drain_rate)
        latency[name] = 1e3 * np.minimum(trace.backlog_seconds + sojourn, fleet.timeout_seconds)
    return latency


def _retries(fleet: Fleet, trace: Trace) -> np.ndarray:
    """Float[T, S]: repeated calls that a service makes to others, per second."""
    return trace.arrival_rate * trace.served * ((trace.attempts - 1.0) @ fleet.calls_per_request.T)


def observed_metrics(
    fleet: Fleet, expected: Mapping[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """One minute's sample of the expected metrics: counts scatter as counts do, percentiles as those of a sample.

    Every cell draws the same numbers from `rng` whatever the expected values, so that a fault changes no other row.
    """
    shape = expected["request_rate_per_second"].shape
    noise = {name: rng.standard_normal(shape) for name in METRICS}
    garbage, flushes = _cycles(fleet, shape[0], rng)
    requests = _count(expected["request_rate_per_second"] * SECONDS_PER_MINUTE, noise["request_rate_per_second"])
    requests = np.maximum(requests, 1.0)
    errors = _count(expected["error_rate"] * requests, noise["error_rate"])
    traffic = requests / (expected["request_rate_per_second"] * SECONDS_PER_MINUTE)
    observed = {name: values * np.exp(_GAUGE_STD * noise[name]) for name, values in expected.items()}
    observed |= {
        "request_rate_per_second": requests / SECONDS_PER_MINUTE,
        "error_rate": np.minimum(1.0, errors / requests),
        **_sample_latency(fleet, expected, requests, noise),
        "queue_length": expected["queue_length"] * np.exp(_QUEUE_STD * noise["queue_length"]),
        "retries_per_second": _count(expected["retries_per_second"] * SECONDS_PER_MINUTE, noise["retries_per_second"])
        / SECONDS_PER_MINUTE,
        "cpu_utilization": np.minimum(1.0, observed["cpu_utilization"]),
        "memory_utilization": np.minimum(1.0, expected["memory_utilization"] + garbage + 2e-3 * noise["queue_length"]),
        "disk_bytes_per_second": observed["disk_bytes_per_second"] * (1.0 + flushes),
    }
    for name in ("network_in_bytes_per_second", "network_out_bytes_per_second", "disk_bytes_per_second"):
        observed[name] = observed[name] * traffic
    return observed


def _count(mean: np.ndarray, standard_normal: np.ndarray) -> np.ndarray:
    """A Poisson count from a normal number, by the first terms of its Cornish-Fisher expansion."""
    skewness_term = np.minimum(mean, 1.0) * (standard_normal**2 - 1.0) / 6.0
    return np.maximum(0.0, np.round(mean + np.sqrt(mean) * standard_normal + skewness_term))


def _sample_latency(
    fleet: Fleet, expected: Mapping[str, np.ndarray], requests: np.ndarray, noise: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Percentiles of a minute's requests; the scatter is that of an exponential sample's quantile, and keeps order."""
    observed: dict[str, np.ndarray] = {}
    floor = np.zeros(requests.shape)
    for name, probability in PERCENTILES.items():
        relative_std = np.sqrt(probability / ((1.0 - probability) * requests)) / -np.log1p(-probability)
        sample = expected[name] * np.exp(np.minimum(relative_std, 0.3) * noise[name])
        floor = np.maximum(floor, np.minimum(sample, 1e3 * fleet.timeout_seconds))
        observed[name] = floor
    return observed


def _cycles(fleet: Fleet, num_minutes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The saw-tooth of garbage on memory, and the flushes on the disk, Float[T, S] each.

    Both keep their own clocks with jittering periods, so that faults do not shift them.
    """
    pace = np.exp(_PERIOD_JITTER * rng.standard_normal((num_minutes, len(fleet))))
    elapsed = np.cumsum(pace, axis=0)
    garbage = fleet.garbage_height * ((elapsed / fleet.garbage_minutes + fleet.phase) % 1.0)
    since_flush = ((elapsed / fleet.flush_minutes + fleet.phase) % 1.0) * fleet.flush_minutes
    return garbage, fleet.flush_height * np.exp(-since_flush / 2.0)
