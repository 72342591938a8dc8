"""A fleet of microservices: who calls whom, how fast each works, and how it was sized for its daily peak."""

import dataclasses
import itertools
import math

import numpy as np

from fedjax_anomaly.data.microservices import groups, queueing

MINUTES_PER_DAY = 1440

_SIZING_STEP_MINUTES = 10


@dataclasses.dataclass(frozen=True)
class Fleet:
    """S services, ordered so that every service only calls later ones; arrays are indexed by service.

    The attributes not listed here are those of `groups.Group`, drawn for each service.

    Attributes:
      names: of the services.
      group: Int[S], index into `groups.GROUPS`.
      levels: the services in runs; a service calls only services of later levels.
      calls_per_request: Float[S, S], mean calls of service (row) to service (column) for one of its requests.
      required_calls: Float[S, S], the part of those whose failure fails the request; the others have a fallback.
      base_error: Float[S], the share of requests that fail in any case.
      instances: Float[S], running copies; requests are spread over them evenly.
      nominal_rate_per_second: Float[S], requests at the mean of a day, from outside and from callers.
      nominal_holding_seconds: Float[S], for which a request takes a slot at the daily peak, calls included.
      cpu_cores: Float[S], of one instance.
      phase: Float[S], of the garbage and flush cycles, in periods.
    """

    names: tuple[str, ...]
    group: np.ndarray
    levels: tuple[slice, ...]
    calls_per_request: np.ndarray
    required_calls: np.ndarray
    base_error: np.ndarray
    external_rate_per_second: np.ndarray
    peak_hour: np.ndarray
    daily_depth: np.ndarray
    tick_height: np.ndarray
    jitter: np.ndarray
    service_seconds: np.ndarray
    cpu_share: np.ndarray
    slots: np.ndarray
    peak_utilization: np.ndarray
    timeout_seconds: np.ndarray
    base_memory: np.ndarray
    garbage_height: np.ndarray
    garbage_minutes: np.ndarray
    collection_cost: np.ndarray
    request_bytes: np.ndarray
    response_bytes: np.ndarray
    disk_bytes: np.ndarray
    flush_height: np.ndarray
    flush_minutes: np.ndarray
    keepalive_seconds: np.ndarray
    phase: np.ndarray
    instances: np.ndarray
    nominal_rate_per_second: np.ndarray
    nominal_holding_seconds: np.ndarray
    cpu_cores: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def mean_external_rate(self, minute: np.ndarray) -> np.ndarray:
        """Float[T, S]: the expected requests per second from outside at each minute [T] of the simulation."""
        return self.external_rate_per_second * daily_curve(minute, self.peak_hour, self.daily_depth)


def daily_curve(minute: np.ndarray, peak_hour: np.ndarray, daily_depth: np.ndarray) -> np.ndarray:
    """Float[T, S]: load relative to its daily mean of 1; a working day's broad hump with a second one in it."""
    angle = 2.0 * np.pi * (minute[:, np.newaxis] / MINUTES_PER_DAY - peak_hour / 24.0)
    return 1.0 + daily_depth * (np.cos(angle) + 0.22 * np.cos(2.0 * angle + 0.9))


def group_sizes(num_services: int) -> list[int]:
    """The number of services of each group: at least one, and otherwise by its share (largest remainders first)."""
    spare = num_services - len(groups.GROUPS)
    exact = [spare * group.share for group in groups.GROUPS]
    sizes = [1 + math.floor(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda index: math.floor(exact[index]) - exact[index])
    for index in by_remainder[: num_services - sum(sizes)]:
        sizes[index] += 1
    return sizes


def build_fleet(num_services: int, rng: np.random.Generator) -> Fleet:
    """Draws a fleet: the members of each group, their parameters, the calls between them, and their sizes.

    Guarantees:
      Calls form no cycle and leave no service without load (test:
      `tests/data/microservices/test_fleet.py::test_calls_go_down_the_levels_and_reach_every_service`).
    """
    edge, api, worker, store = group_sizes(num_services)
    deep_api = api // 2  # The APIs that other APIs call.
    order = [groups.GROUPS.index(group) for group in (groups.EDGE, groups.WORKER, groups.API, groups.STORE)]
    membership = np.repeat(order, [edge, worker, api, store])
    bounds = np.cumsum([0, edge + worker, api - deep_api, deep_api, store])
    levels = tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(bounds) if b > a)
    drawn = _draw_parameters(membership, rng)
    calls = _draw_calls(membership, deep_api, rng)
    sized = _size(drawn, calls, levels)
    return Fleet(
        names=_names(membership),
        group=membership,
        levels=levels,
        calls_per_request=calls,
        required_calls=calls * rng.uniform(0.4, 1.0, calls.shape),
        base_error=_log_uniform((4e-4, 1.5e-3), num_services, rng),
        phase=rng.uniform(size=num_services),
        **drawn,
        **sized,
    )


def _log_uniform(bounds: groups.Range, size: int, rng: np.random.Generator) -> np.ndarray:
    return np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]), size)) if bounds[0] > 0.0 else np.zeros(size)


_UNIFORM = frozenset((
    *("peak_hour", "daily_depth", "tick_height", "cpu_share", "slots", "peak_utilization", "base_memory"),
    *("garbage_height", "flush_height"),
))  # fmt: skip


def _draw_parameters(membership: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One array [S] for each range of `groups.Group`, under its name."""
    fields = [field.name for field in dataclasses.fields(groups.Group)]
    drawn = {name: np.zeros(len(membership)) for name in fields if name not in ("name", "service_names", "share")}
    for index, group in enumerate(groups.GROUPS):
        members = np.flatnonzero(membership == index)
        for name, values in drawn.items():
            low, high = getattr(group, name)
            if name in _UNIFORM:
                values[members] = rng.uniform(low, high, len(members))
            else:
                values[members] = _log_uniform((low, high), len(members), rng)
    drawn["slots"] = np.round(drawn["slots"]).astype(int)
    return drawn


def _draw_calls(membership: np.ndarray, deep_api: int, rng: np.random.Generator) -> np.ndarray:
    """Float[S, S]: edges call APIs, some APIs call deeper ones, and APIs and workers call stores."""
    edge, api, worker, store = (np.flatnonzero(membership == index) for index in range(len(groups.GROUPS)))
    front_api, back_api = api[: len(api) - deep_api], api[len(api) - deep_api :]
    calls = np.zeros((len(membership), len(membership)))

    def connect(callers: np.ndarray, callees: np.ndarray, fan_out: int, weight: groups.Range) -> None:
        for caller in callers:
            chosen = rng.choice(callees, size=min(fan_out, len(callees)), replace=False)
            calls[caller, chosen] = rng.uniform(*weight, size=len(chosen))
        for callee in callees[calls[callers][:, callees].sum(axis=0) == 0.0]:
            calls[rng.choice(callers), callee] = rng.uniform(*weight)

    connect(edge, front_api, 3, (0.3, 0.7))
    if deep_api:
        connect(front_api, back_api, 2, (0.3, 0.6))
    connect(api, store, 2, (0.4, 0.9))
    connect(worker, store, 2, (0.6, 1.8))
    return calls


def _size(drawn: dict[str, np.ndarray], calls: np.ndarray, levels: tuple[slice, ...]) -> dict[str, np.ndarray]:
    """Sizes each service, from the stores up, so that its slots are taken to `peak_utilization` at its daily peak."""
    minute = np.arange(0, MINUTES_PER_DAY, _SIZING_STEP_MINUTES)
    external = drawn["external_rate_per_second"] * daily_curve(minute, drawn["peak_hour"], drawn["daily_depth"])
    rate = external @ np.linalg.inv(np.eye(len(calls)) - calls)
    peak_rate = rate.max(axis=0)
    utilization, slots = drawn["peak_utilization"], drawn["slots"]
    wait_probability = queueing.erlang_c(slots, utilization)
    holding = np.zeros(len(calls))
    response = np.zeros(len(calls))
    for level in reversed(levels):
        holding[level] = drawn["service_seconds"][level] + calls[level] @ response
        mean_wait = wait_probability[level] * holding[level] / (slots[level] * (1.0 - utilization[level]))
        response[level] = holding[level] + mean_wait
    instances = np.maximum(3.0, np.ceil(peak_rate * holding / (slots * utilization)))
    busy_cores = peak_rate * drawn["service_seconds"] * drawn["cpu_share"] / instances
    return {
        "instances": instances,
        "nominal_rate_per_second": rate.mean(axis=0),
        "nominal_holding_seconds": holding,
        "cpu_cores": busy_cores / (0.95 * utilization),
    }


def _names(membership: np.ndarray) -> tuple[str, ...]:
    """Names of the services in order; the second time round a group's list, they end in -2, and so on."""
    names = []
    for place, index in enumerate(membership):
        available = groups.GROUPS[index].service_names
        earlier = int(np.count_nonzero(membership[:place] == index))
        suffix = f"-{earlier // len(available) + 1}" if earlier >= len(available) else ""
        names.append(available[earlier % len(available)] + suffix)
    return tuple(names)
