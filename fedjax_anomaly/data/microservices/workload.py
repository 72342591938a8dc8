"""The random part of a fleet's normal life: load from outside with bursts and scheduled jobs, and drifting work."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np

from fedjax_anomaly.data.microservices.fleet import Fleet

LoadProfile = Literal["low", "normal", "high", "bursty"]


@dataclasses.dataclass(frozen=True)
class _ProfileParameters:
    """How a profile differs from the load for which the fleet was sized."""

    scale: float = 1.0
    jitter_scale: float = 1.0
    bursts_per_day: float = 6.0
    burst_height: float = 0.25


PROFILES: Mapping[str, _ProfileParameters] = {
    "low": _ProfileParameters(scale=0.5),
    "normal": _ProfileParameters(),
    "high": _ProfileParameters(scale=1.35),
    "bursty": _ProfileParameters(scale=0.85, jitter_scale=2.0, bursts_per_day=20.0, burst_height=0.9),
}
"""The load profiles by name."""

_JITTER_MINUTES = 25.0
_BURST_DECAY_MINUTES = 8.0
_BURST_RISE_MINUTES = 2.0
_DRIFT_STD = 0.03
_DRIFT_MINUTES = 90.0
_TICK_PERIOD_MINUTES = 60
_TICK_DECAY_MINUTES = 5.0


def external_rate(fleet: Fleet, profile: LoadProfile, num_minutes: int, rng: np.random.Generator) -> np.ndarray:
    """Float[T, S]: requests per second from outside the fleet, each minute.

    The daily curve, times a slow log-normal factor, times bursts that arrive at random, rise within minutes and fade,
    times the load of scheduled jobs at the top of each hour.
    """
    parameters = PROFILES[profile]
    minute = np.arange(num_minutes)
    std = parameters.jitter_scale * fleet.jitter
    jitter = np.exp(std * _autoregression(rng.standard_normal((num_minutes, len(fleet))), _JITTER_MINUTES) - std**2 / 2)
    arrival = rng.uniform(size=(num_minutes, len(fleet))) < parameters.bursts_per_day / 1440.0
    impulses = arrival * rng.exponential(parameters.burst_height, (num_minutes, len(fleet)))
    bursts = 1.0 + _leaky_sum(impulses, _BURST_DECAY_MINUTES) - _leaky_sum(impulses, _BURST_RISE_MINUTES)
    offset = np.round(fleet.phase * 10.0)  # Jobs are scheduled within the first ten minutes of the hour.
    since_tick = (minute[:, np.newaxis] - offset) % _TICK_PERIOD_MINUTES
    ticks = 1.0 + fleet.tick_height * np.exp(-since_tick / _TICK_DECAY_MINUTES)
    return parameters.scale * fleet.mean_external_rate(minute) * jitter * bursts * ticks


def work_drift(fleet: Fleet, num_minutes: int, rng: np.random.Generator) -> np.ndarray:
    """Float[T, S]: slow factor around 1 on the work of a request, as the mix of requests changes."""
    normal = rng.standard_normal((num_minutes, len(fleet)))
    return np.exp(_DRIFT_STD * _autoregression(normal, _DRIFT_MINUTES))


def _autoregression(standard_normal: np.ndarray, correlation_minutes: float) -> np.ndarray:
    """A stationary first-order autoregression of unit variance along the first axis."""
    keep = np.exp(-1.0 / correlation_minutes)
    innovations = np.sqrt(1.0 - keep**2) * standard_normal
    innovations[0] = standard_normal[0]
    return _leaky_sum(innovations, correlation_minutes)


def _leaky_sum(inputs: np.ndarray, decay_minutes: float) -> np.ndarray:
    """Sums along the first axis with exponentially fading memory."""
    keep = np.exp(-1.0 / decay_minutes)
    outputs = np.empty_like(inputs)
    level = np.zeros_like(inputs[0])
    for minute, value in enumerate(inputs):
        level = keep * level + value
        outputs[minute] = level
    return outputs
