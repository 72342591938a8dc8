"""Slow drift: what normal operation becomes within weeks, with no fault in it."""

from typing import NamedTuple

import numpy as np

from fedjax_anomaly.data.microservices.fleet import MINUTES_PER_DAY

_MONTH_DAYS = 30.0


class SlowDrift(NamedTuple):
    """A load that grows, and releases after which requests take more and more work.

    Attributes:
      start_days: after the start of the tables; nothing drifts before.
      load_growth: of all requests from outside in thirty days, as a share; the growth is exponential.
      work_growth: of the work of a request after a release, as a share.
      creep_days: from a release until all of this is there; it comes in evenly.
      released: the share of services that get such a release.
      release_days: after `start_days`, within which the releases lie, at random.
    """

    start_days: float = 0.0
    load_growth: float = 0.0
    work_growth: float = 0.0
    creep_days: float = 5.0
    released: float = 0.5
    release_days: float = 14.0

    def check(self) -> None:
        """Raises ValueError for a value that is out of its bounds, naming it."""
        bounds = {"load_growth": (-0.9, 9.0), "work_growth": (-0.9, 9.0), "released": (0.0, 1.0)}
        bounds |= {name: (0.0, 365.0) for name in ("start_days", "release_days")} | {"creep_days": (0.01, 365.0)}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"drift.{name} is {getattr(self, name)}, but must be within [{low}, {high}].")


def slow_factors(
    drift: SlowDrift, first_minute: int, num_minutes: int, num_services: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Factors on what a fleet does without drift.

    Args:
      drift: what drifts.
      first_minute: of the tables.
      num_minutes: T, of the simulation.
      num_services: S.
      rng: for the services that get a release, and when.

    Returns:
      Float[T, 1] on the requests from outside, and Float[T, S] on the work of a request.
    """
    days = (np.arange(num_minutes)[:, np.newaxis] - first_minute) / MINUTES_PER_DAY - drift.start_days
    load = (1.0 + drift.load_growth) ** (np.maximum(days, 0.0) / _MONTH_DAYS)
    release = rng.uniform(0.0, drift.release_days, num_services)
    has_release = rng.permutation(num_services) < round(drift.released * num_services)
    crept = np.clip((days - release) / drift.creep_days, 0.0, 1.0) * (days >= 0.0)
    return load, 1.0 + drift.work_growth * crept * has_release
