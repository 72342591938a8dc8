"""The telemetry data set: a seeded simulation of a fleet of microservices with labelled faults and attacks.

Nothing is painted on: load, calls, queues and memory are simulated minute by minute, faults act on rates, capacities
and service times, and the labels compare with the same simulation without faults.
"""

from typing import NamedTuple

import numpy as np

from fedjax_anomaly.data.microservices import faults, groups, labels, monitoring, physics, workload
from fedjax_anomaly.data.microservices.fleet import MINUTES_PER_DAY, Fleet, build_fleet
from fedjax_anomaly.data.microservices.slow_drift import SlowDrift, slow_factors
from fedjax_anomaly.data.microservices.workload import LoadProfile
from fedjax_anomaly.data.table import NORMAL, Categorical, Dataset, Table

ATTACK_NAMES = (NORMAL, *faults.KINDS, labels.SPREAD)
"""Every value that the `attack` column may take."""

SAMPLING_SECONDS = 60.0

_WARM_UP_MINUTES = 60
_MAX_FAULTS_PER_SERVICE_DAY = 4.0


def load(
    *,
    seed: int,
    num_services: int = 20,
    load_profile: LoadProfile = "normal",
    train_days: float = 3.0,
    test_days: float = 2.0,
    train_faults_per_service_day: float = 0.15,
    test_faults_per_service_day: float = 0.8,
    drift: SlowDrift | None = None,
) -> Dataset:
    """Simulates a fleet and splits its telemetry in time: the test table begins where the training table ends.

    Args:
      seed: of the fleet, its load, its faults and the sampling noise.
      num_services: at least 4, one of each latent group.
      load_profile: `low` (half the load), `normal`, `high` (a third more) or `bursty`.
      train_days, test_days: lengths of the tables, in days.
      train_faults_per_service_day, test_faults_per_service_day: faults injected, from 0 to 4. From nine faults on,
        all nine kinds are among a table's faults.
      drift: slow changes of normal operation, which are no anomalies; None is without.

    Returns:
      Tables sampled every 60 s, sorted by source and then time, with time in seconds since the simulation's start.
      `attack` names the kind of the service's own fault, or `spread` where another's made the row anomalous.

    Raises:
      ValueError: when an argument is outside its bounds (test:
        `tests/data/test_telemetry.py::test_bad_arguments_are_named_with_their_bounds`).

    Guarantees:
      The same seed yields the same rows, another seed another fleet; faults do not change the randomness of normal
      rows (tests: `tests/data/test_telemetry.py::test_the_seed_decides_everything`,
      `tests/data/test_telemetry.py::test_faults_leave_rows_before_the_first_one_as_they_were`).
      Slow drift changes nothing before its start, and no row is anomalous by it (test:
      `tests/data/test_telemetry.py::test_slow_drift_changes_normal_rows_after_its_start_only`).
      A row without a label has its metrics as without faults, up to the bounds of `labels.MATERIAL_CHANGE` (test:
      `tests/data/test_telemetry.py::test_unlabelled_rows_are_as_without_faults`).
    """
    _check_fleet_arguments(seed, num_services, load_profile)
    _check_within("train_days", train_days, 0.05, 365.0)
    _check_within("test_days", test_days, 0.05, 365.0)
    _check_within("train_faults_per_service_day", train_faults_per_service_day, 0.0, _MAX_FAULTS_PER_SERVICE_DAY)
    _check_within("test_faults_per_service_day", test_faults_per_service_day, 0.0, _MAX_FAULTS_PER_SERVICE_DAY)

    if drift is not None:
        drift.check()

    rngs = _Randomness.from_seed(seed)
    fleet = build_fleet(num_services, rngs.fleet)
    split = _WARM_UP_MINUTES + round(train_days * MINUTES_PER_DAY)
    end = split + round(test_days * MINUTES_PER_DAY)
    schedule = _schedule(fleet, _WARM_UP_MINUTES, split, train_faults_per_service_day, rngs.train_faults)
    schedule += _schedule(fleet, split, end, test_faults_per_service_day, rngs.test_faults)
    numeric, attack = _simulate(fleet, load_profile, end, schedule, rngs, drift)
    return Dataset(
        name="telemetry",
        train=_table(fleet, numeric, attack, _WARM_UP_MINUTES, split),
        test=_table(fleet, numeric, attack, split, end),
        row_order="time",
        category_columns=("source",),
        normal_groups={name: int(group) for name, group in zip(fleet.names, fleet.group, strict=True)},
    )


class _Randomness(NamedTuple):
    """Independent generators, one for each purpose, so that none shifts the numbers of another."""

    fleet: np.random.Generator
    load: np.random.Generator
    work: np.random.Generator
    train_faults: np.random.Generator
    test_faults: np.random.Generator
    sampling: np.random.Generator
    drift: np.random.Generator

    @classmethod
    def from_seed(cls, seed: int) -> "_Randomness":
        return cls(*(np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(len(cls._fields))))


def _schedule(fleet: Fleet, start: int, end: int, rate: float, rng: np.random.Generator) -> list[faults.Fault]:
    """The faults of minutes [start, end), `rate` a day and service."""
    num_faults = round(rate * len(fleet) * (end - start) / MINUTES_PER_DAY)
    return faults.schedule_faults(start, end - start, len(fleet), num_faults, rng)


def _simulate(
    fleet: Fleet,
    profile: LoadProfile,
    num_minutes: int,
    schedule: list[faults.Fault],
    rngs: _Randomness,
    drift: SlowDrift | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The metrics, Float32[T, S, P], and the attack of each row, Int32[T, S]."""
    external_rate = workload.external_rate(fleet, profile, num_minutes, rngs.load)
    work_drift = workload.work_drift(fleet, num_minutes, rngs.work)
    if drift is not None:
        load, work = slow_factors(drift, _WARM_UP_MINUTES, num_minutes, len(fleet), rngs.drift)
        external_rate, work_drift = external_rate * load, work_drift * work
    struck = faults.force(schedule, num_minutes, len(fleet))
    spared = faults.Forcing.none(num_minutes, len(fleet))
    trace = physics.simulate(fleet, external_rate, work_drift, [struck, spared])
    expected = monitoring.expected_metrics(fleet, trace.run(0), struck)
    material = labels.material_change(expected, monitoring.expected_metrics(fleet, trace.run(1), spared))
    observed = monitoring.observed_metrics(fleet, expected, rngs.sampling)
    numeric = np.stack([observed[name] for name in monitoring.METRICS], axis=-1).astype(np.float32)
    return numeric, labels.attack_codes(schedule, material, ATTACK_NAMES)


def _table(fleet: Fleet, numeric: np.ndarray, attack: np.ndarray, start: int, end: int) -> Table:
    """Minutes [start, end) of the simulation as rows, one service after the other in the order of their names."""
    order = np.argsort(fleet.names)
    names = tuple(fleet.names[index] for index in order)
    num_minutes = end - start
    time_seconds = SAMPLING_SECONDS * np.arange(start - _WARM_UP_MINUTES, end - _WARM_UP_MINUTES)
    return Table(
        numeric=numeric[start:end, order].swapaxes(0, 1).reshape(len(order) * num_minutes, -1),
        numeric_names=monitoring.METRICS,
        categorical=(),
        categorical_names=(),
        attack=Categorical(attack[start:end, order].T.reshape(-1), ATTACK_NAMES),
        time=np.tile(time_seconds, len(order)),
        source=Categorical(np.repeat(np.arange(len(order), dtype=np.int32), num_minutes), names),
    )


def _check_fleet_arguments(seed: int, num_services: int, load_profile: str) -> None:
    if seed < 0:
        raise ValueError(f"seed is {seed}, but must be at least 0; choose any non-negative integer.")
    if num_services < len(groups.GROUPS):
        raise ValueError(
            f"num_services is {num_services}, but must be at least {len(groups.GROUPS)}, one of each latent group; "
            "ask for a larger fleet."
        )
    if load_profile not in workload.PROFILES:
        raise ValueError(f"load_profile is {load_profile!r}, but must be one of {', '.join(workload.PROFILES)}.")


def _check_within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, but must be within [{low}, {high}]; choose a value in that range.")
