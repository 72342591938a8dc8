"""Faults and attacks: what each kind changes in the fleet's physics, and when and where they are injected."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from fedjax_anomaly.data.microservices.groups import Range


@dataclasses.dataclass(frozen=True)
class Forcing:
    """What faults do to each service at each minute; every array is Float[T, S].

    Attributes:
      arrival_factor: on the requests that arrive; 1 without a fault.
      hostile_rate: requests of an attacker, in multiples of the service's nominal rate.
      hostile_work: their work relative to a normal request's own work.
      hostile_error: the share of them that fails.
      held_slots: the share of slots that an attacker holds open.
      added_holding: added time a request takes a slot, in multiples of the nominal holding time.
      capacity_factor: on the running instances; 1 without a fault.
      leaked_memory: the share of free memory that has leaked.
    """

    arrival_factor: np.ndarray
    hostile_rate: np.ndarray
    hostile_work: np.ndarray
    hostile_error: np.ndarray
    held_slots: np.ndarray
    added_holding: np.ndarray
    capacity_factor: np.ndarray
    leaked_memory: np.ndarray

    @classmethod
    def none(cls, num_minutes: int, num_services: int) -> "Forcing":
        """The forcing of a fleet without faults."""
        neutral = {"arrival_factor": 1.0, "capacity_factor": 1.0}
        shape = (num_minutes, num_services)
        return cls(**{field.name: np.full(shape, neutral.get(field.name, 0.0)) for field in dataclasses.fields(cls)})

    def at(self, minute: int) -> "Forcing":
        """The forcing at one minute, the first axis gone."""
        return Forcing(**{name: array[minute] for name, array in vars(self).items()})


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault: its kind (a key of `KINDS`), the service it strikes, its minutes [start, end), and its severity."""

    kind: str
    service: int
    start: int
    end: int
    severity: float


@dataclasses.dataclass(frozen=True)
class FaultKind:
    """What one kind of fault does.

    Attributes:
      minutes: how long it may last.
      severity: its range, in the unit of what `apply` does with it; the easy end may be either.
      rise_minutes: for which it builds up; None: over its whole duration.
      apply: writes severity times shape, Float[D] rising to 1, into a `Forcing` at [start:end, service].
    """

    minutes: Range
    severity: Range
    rise_minutes: int | None
    apply: Callable[[Forcing, tuple[slice, int], float, np.ndarray], None]


def _scale_arrivals(forcing: Forcing, where: tuple[slice, int], severity: float, shape: np.ndarray) -> None:
    forcing.arrival_factor[where] = severity**shape


def _lose_capacity(forcing: Forcing, where: tuple[slice, int], severity: float, shape: np.ndarray) -> None:
    forcing.capacity_factor[where] = severity**shape


def _delay(forcing: Forcing, where: tuple[slice, int], severity: float, shape: np.ndarray) -> None:
    forcing.added_holding[where] = severity * shape


def _leak(forcing: Forcing, where: tuple[slice, int], severity: float, shape: np.ndarray) -> None:
    forcing.leaked_memory[where] = severity * shape


def _flood(forcing: Forcing, where: tuple[slice, int], severity: float, shape: np.ndarray) -> None:
    forcing.hostile_rate[where] = severity * shape
    forcing.hostile_work[where] = 0.3  # Cached or refused early: cheaper than a customer's request.
    forcing.hostile_error[where] = 0.02


def _scan(forcing: Forcing, where: tuple[slice, int], severity: float, shape: np.ndarray) -> None:
    forcing.hostile_rate[where] = severity * shape
    forcing.hostile_work[where] = 0.1  # Ends at "not found" or "not allowed".
    forcing.hostile_error[where] = 0.9


def _hold_slots(forcing: Forcing, where: tuple[slice, int], severity: float, shape: np.ndarray) -> None:
    forcing.held_slots[where] = severity * shape


KINDS: dict[str, FaultKind] = {
    "spike": FaultKind(minutes=(8, 60), severity=(1.6, 4.0), rise_minutes=4, apply=_scale_arrivals),
    "drop": FaultKind(minutes=(8, 90), severity=(0.05, 0.6), rise_minutes=2, apply=_scale_arrivals),
    "latency_deviation": FaultKind(minutes=(10, 120), severity=(0.5, 4.0), rise_minutes=3, apply=_delay),
    "level_shift": FaultKind(minutes=(60, 180), severity=(0.35, 0.6), rise_minutes=1, apply=_lose_capacity),
    "slow_leak": FaultKind(minutes=(60, 180), severity=(0.85, 0.99), rise_minutes=None, apply=_leak),
    "outage": FaultKind(minutes=(5, 40), severity=(0.02, 0.25), rise_minutes=1, apply=_lose_capacity),
    "flood": FaultKind(minutes=(5, 60), severity=(4.0, 25.0), rise_minutes=3, apply=_flood),
    "slow_rate": FaultKind(minutes=(10, 90), severity=(0.5, 0.95), rise_minutes=5, apply=_hold_slots),
    "scan": FaultKind(minutes=(8, 90), severity=(0.08, 0.6), rise_minutes=2, apply=_scan),
}
"""The kinds of fault by name, which is also the `attack` of the rows they make anomalous."""


def schedule_faults(
    first_minute: int, num_minutes: int, num_services: int, num_faults: int, rng: np.random.Generator
) -> list[Fault]:
    """Draws faults within [first_minute, first_minute + num_minutes), evenly over time, services and kinds.

    Fault k strikes within the k-th of `num_faults` equal shares of the time. Services take turns in one random order,
    so that two faults of one service lie about a full turn apart and never overlap; kinds take turns in random orders.

    Guarantees:
      Every kind occurs from 9 faults on, and no service has two faults at once (tests:
      `tests/data/microservices/test_faults.py::test_services_and_kinds_take_turns`,
      `tests/data/microservices/test_faults.py::test_faults_of_one_service_are_apart`).
    """
    services = rng.permutation(num_services)
    names = np.array(list(KINDS))
    rounds = -(-num_faults // len(names))
    kinds = np.concatenate([rng.permutation(names) for _ in range(rounds)]) if rounds else names[:0]
    edges = np.linspace(first_minute, first_minute + num_minutes, num_faults + 1)
    # Turns of one service start at least (num_services - 1) shares apart. Less than half of that each leaves them
    # apart even where the later one was moved forward to end in time.
    turn_minutes = num_minutes if num_faults <= num_services else (num_services - 1) * num_minutes / num_faults
    longest = max(1, int(0.45 * turn_minutes))
    faults = []
    for index in range(num_faults):
        kind = KINDS[str(kinds[index])]
        duration = min(round(float(np.exp(rng.uniform(*np.log(kind.minutes))))), longest)
        severity = float(np.exp(rng.uniform(*np.log(kind.severity))))
        start = int(rng.uniform(edges[index], edges[index + 1]))
        start = max(first_minute, min(start, first_minute + num_minutes - duration))
        service = int(services[index % num_services])
        faults.append(Fault(str(kinds[index]), service, start, start + duration, severity))
    return faults


def force(faults: Sequence[Fault], num_minutes: int, num_services: int) -> Forcing:
    """The forcing that `faults` make together; those of one service must not overlap."""
    forcing = Forcing.none(num_minutes, num_services)
    for fault in faults:
        kind = KINDS[fault.kind]
        duration = fault.end - fault.start
        rise = duration if kind.rise_minutes is None else kind.rise_minutes
        shape = np.minimum(1.0, np.arange(1, duration + 1) / rise)
        kind.apply(forcing, (slice(fault.start, fault.end), fault.service), fault.severity, shape)
    return forcing
