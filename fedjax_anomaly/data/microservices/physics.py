"""The fleet's minute-by-minute physics: load flows down the calls, latency and errors flow up, queues carry over.

Every instance of a service is an M/M/c queue whose servers are its slots. A slot is taken for the service's own work
and for the calls it makes meanwhile: the method of layers. A failed call is tried up to three times. Utilization above
1 leaves a backlog, a fluid queue that delays all requests, loses those that run out of patience, and drains when there
is room again. Callers move gradually to the retries and refusals they meet.

References:
  Rolia, Sevcik: The Method of Layers. IEEE Transactions on Software Engineering 21(8), 1995.
  Whitt: Efficiency-Driven Heavy-Traffic Approximations for Many-Server Queues with Abandonments. Management Science
    50(10), 2004 (the fluid queue with impatience).
  Jones, Hosking, Moss: The Garbage Collection Handbook, 2011 (the cost of collection as live over free memory).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_anomaly.data.microservices import queueing
from fedjax_anomaly.data.microservices.faults import Forcing
from fedjax_anomaly.data.microservices.fleet import Fleet

SECONDS_PER_MINUTE = 60.0

_MAX_UTILIZATION = 0.93  # Beyond it queues of slow jobs need longer than a minute to become stationary.
_MAX_COLLECTION = 0.8
_MAX_MEMORY = 0.985
_MAX_ERROR = 0.999
_CONCURRENCY_MEMORY = 0.12  # Memory of requests in service, as a share of all, when every slot is taken.
_BACKLOG_MEMORY = 0.05  # The same of waiting requests, once they wait as long as their patience.
_RETRY_ADAPTATION = 0.5  # How far callers move within a minute to the retries that they now need.
_THROTTLE_ADAPTATION = 0.08  # The same for the calls that a refusing service no longer makes; slow, as breakers are.
_PATIENCE = 0.12  # Mean wait after which a request gives up its place, as a share of the timeout.


@dataclasses.dataclass(frozen=True)
class Trace:
    """Expected values of a simulation of R runs; every array is Float[T, S, R], rates per second, times in seconds.

    Attributes:
      arrival_rate: requests of customers and callers, retries among them.
      hostile_rate: requests of attackers.
      admitted: the share of requests that does not give up waiting.
      served: requests served over requests that arrive; above 1 while a backlog drains.
      attempts: tries that callers make for one call to this service.
      holding_seconds: mean time for which a request takes a slot.
      wait_probability: of finding all slots of an instance taken.
      utilization: share of an instance's free slots taken, at most 0.93.
      free_slots: slots of an instance that no attacker holds.
      backlog_seconds: delay by the backlog.
      late: the share of admitted requests that stays longer than the timeout.
      error: the share of arriving requests (hostile ones aside) that fails.
      live_memory: utilization of memory without garbage.
      collection: share of time spent collecting garbage.
      cpu_demand: work on the processor over what its cores can do; above 1 it slows down.
    """

    arrival_rate: np.ndarray
    hostile_rate: np.ndarray
    admitted: np.ndarray
    served: np.ndarray
    attempts: np.ndarray
    holding_seconds: np.ndarray
    wait_probability: np.ndarray
    utilization: np.ndarray
    free_slots: np.ndarray
    backlog_seconds: np.ndarray
    late: np.ndarray
    error: np.ndarray
    live_memory: np.ndarray
    collection: np.ndarray
    cpu_demand: np.ndarray

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> "Trace":
        """An unwritten trace."""
        return cls(**{field.name: np.empty(shape) for field in dataclasses.fields(cls)})

    def at(self, minute: int) -> "Trace":
        """Views of one minute, Float[S, R]; writing to them writes to the trace."""
        return Trace(**{name: array[minute] for name, array in vars(self).items()})

    def run(self, index: int) -> "Trace":
        """The trace of one run; arrays are Float[T, S]."""
        return Trace(**{name: array[..., index] for name, array in vars(self).items()})


def simulate(fleet: Fleet, external_rate: np.ndarray, work_drift: np.ndarray, forcings: Sequence[Forcing]) -> Trace:
    """Simulates R runs that share all randomness and differ in their faults.

    Args:
      fleet: the S services.
      external_rate: Float[T, S], requests per second from outside.
      work_drift: Float[T, S], factor on the work of a request.
      forcings: R forcings of shape [T, S].

    Returns:
      The trace of shape [T, S, R].

    Guarantees:
      Requests are conserved down the calls, and runs do not touch each other (tests:
      `tests/data/microservices/test_physics.py::test_load_is_conserved_down_the_calls`,
      `tests/data/microservices/test_physics.py::test_runs_simulated_together_equal_runs_simulated_alone`).
    """
    joint = Forcing(**{name: np.stack([getattr(f, name) for f in forcings], axis=-1) for name in vars(forcings[0])})
    trace = Trace.empty(joint.arrival_factor.shape)
    state = _State.at_rest(trace.error.shape[1:])
    columns, levels = _as_columns(fleet), _levels(fleet)
    erlang_table = queueing.ErlangTable.up_to(int(fleet.slots.max()))
    for minute in range(len(external_rate)):
        forcing, now = joint.at(minute), trace.at(minute)
        np.multiply(forcing.hostile_rate, columns.nominal_rate_per_second, out=now.hostile_rate)
        _flow_down(levels, external_rate[minute, :, np.newaxis], forcing, state, now)
        work = _work_seconds(columns, work_drift[minute, :, np.newaxis], forcing, state, now)
        holding = _hold(columns, levels, work, forcing, state)
        _queue(columns, work, holding, forcing, state, now, erlang_table)
        _fail(columns, levels, now)
        _adapt(state, now)
    return trace


@dataclasses.dataclass
class _State:
    """What one minute leaves to the next; arrays are Float[S, R].

    Attributes:
      backlog: requests that wait because more arrive than the slots can serve.
      waiting_seconds: mean wait before service, backlog included.
      admitted, served, attempts: as in `Trace`, but as callers and callees have adapted to them.
      working_share: share of taken slots that do the service's own work and do not wait for an answer.
      utilization: as in `Trace`.
    """

    backlog: np.ndarray
    waiting_seconds: np.ndarray
    admitted: np.ndarray
    served: np.ndarray
    attempts: np.ndarray
    utilization: np.ndarray
    working_share: np.ndarray

    @classmethod
    def at_rest(cls, shape: tuple[int, int]) -> "_State":
        """Empty queues and no failures."""
        empty = {"backlog", "waiting_seconds", "utilization"}
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: np.zeros(shape) if name in empty else np.ones(shape) for name in names})


class _Level(NamedTuple):
    """Services that do not call each other, and their calls.

    Attributes:
      here, above, below: the places of these services, of all their callers, and of all whom they call.
      calls_received: mean calls from those above (column) to these services (row), per request.
      calls_made: mean calls of these services (row) to those below (column), per request.
      required_calls: the part of `calls_made` whose failure fails the request.
    """

    here: slice
    above: slice
    below: slice
    calls_received: np.ndarray
    calls_made: np.ndarray
    required_calls: np.ndarray


def _levels(fleet: Fleet) -> list[_Level]:
    """The fleet's levels from the front ends down, with contiguous matrices."""
    levels = []
    for here in fleet.levels:
        above, below = slice(0, here.start), slice(here.stop, len(fleet))
        received = np.ascontiguousarray(fleet.calls_per_request[above, here].T)
        made = np.ascontiguousarray(fleet.calls_per_request[here, below])
        required = np.ascontiguousarray(fleet.required_calls[here, below])
        levels.append(_Level(here, above, below, received, made, required))
    return levels


def _as_columns(fleet: Fleet) -> Fleet:
    """The fleet with every parameter [S] as a column [S, 1], to broadcast against [S, R]."""
    columns: dict[str, Any] = {
        name: value[:, np.newaxis]
        for name, value in vars(fleet).items()
        if isinstance(value, np.ndarray) and value.ndim == 1
    }
    return dataclasses.replace(fleet, **columns)


def _flow_down(levels: list[_Level], external_rate: np.ndarray, forcing: Forcing, state: _State, now: Trace) -> None:
    """Writes the customers' requests that arrive at each service, from the front ends to the stores."""
    arrival_rate = now.arrival_rate
    arrival_rate[:] = external_rate
    sent = np.zeros_like(arrival_rate)
    for level in levels:
        calls = level.calls_received @ sent[level.above]
        arriving = (arrival_rate[level.here] + calls * state.attempts[level.here]) * forcing.arrival_factor[level.here]
        arrival_rate[level.here] = arriving
        sent[level.here] = arriving * state.served[level.here]


def _work_seconds(columns: Fleet, work_drift: np.ndarray, forcing: Forcing, state: _State, now: Trace) -> np.ndarray:
    """Float[S, R]: time for a request's own work, slowed down by garbage collection and by a saturated processor."""
    occupancy = forcing.held_slots + (1.0 - forcing.held_slots) * state.utilization
    waiting = np.minimum(1.0, state.waiting_seconds / (_PATIENCE * columns.timeout_seconds))
    live = columns.base_memory + forcing.leaked_memory * (1.0 - columns.base_memory)
    live += _CONCURRENCY_MEMORY * occupancy + _BACKLOG_MEMORY * waiting
    now.live_memory[:] = np.minimum(live, _MAX_MEMORY)
    collection = columns.collection_cost * state.utilization * now.live_memory / (1.0 - now.live_memory)
    now.collection[:] = np.minimum(collection, _MAX_COLLECTION)
    work = columns.service_seconds * work_drift / (1.0 - now.collection)
    np.maximum(1.0, np.floor(columns.slots * (1.0 - forcing.held_slots)), out=now.free_slots)
    offered = (now.arrival_rate + now.hostile_rate * forcing.hostile_work) * work
    instances = columns.instances * forcing.capacity_factor
    working = np.minimum(offered, instances * now.free_slots * state.working_share)
    now.cpu_demand[:] = working * columns.cpu_share / (instances * columns.cpu_cores)
    return work * np.maximum(1.0, now.cpu_demand)


def _hold(columns: Fleet, levels: list[_Level], work: np.ndarray, forcing: Forcing, state: _State) -> np.ndarray:
    """Float[S, R]: time for which a customer's request takes a slot: own work, then the calls it waits for.

    Callees answer with the queues that the last minute left them, so that a slow store holds up the whole chain of
    its callers within the minute, while the queues that this makes among them form in the next.
    """
    holding = work + forcing.added_holding * columns.nominal_holding_seconds
    answers = np.zeros_like(holding)
    tries = state.admitted * state.attempts
    for level in reversed(levels):
        held = holding[level.here] + level.calls_made @ answers[level.below]
        response = np.minimum(state.waiting_seconds[level.here] + held, columns.timeout_seconds[level.here])
        holding[level.here] = held
        answers[level.here] = response * tries[level.here]
    return holding


def _queue(
    columns: Fleet,
    work: np.ndarray,
    holding: np.ndarray,
    forcing: Forcing,
    state: _State,
    now: Trace,
    erlang_table: queueing.ErlangTable,
) -> None:
    """One minute of every queue: writes backlog, refusals, waits and the share of requests that come too late."""
    rate = now.arrival_rate + now.hostile_rate
    taken = now.arrival_rate * holding + now.hostile_rate * forcing.hostile_work * work
    np.divide((now.arrival_rate + now.hostile_rate * forcing.hostile_work) * work, taken, out=state.working_share)
    all_slots = columns.instances * forcing.capacity_factor * now.free_slots
    np.divide(taken, rate, out=now.holding_seconds)
    capacity = all_slots / now.holding_seconds

    # A fluid queue whose waiting requests give up at rate 1 / patience: dq/dt = rate - capacity - q / patience.
    patience = _PATIENCE * columns.timeout_seconds
    surplus = rate - capacity
    settled = surplus * patience
    backlog = np.maximum(0.0, settled + (state.backlog - settled) * np.exp(-SECONDS_PER_MINUTE / patience))
    queued = (backlog - state.backlog) / SECONDS_PER_MINUTE
    given_up = np.maximum(0.0, surplus - queued)
    np.maximum(0.0, 1.0 - given_up / rate, out=now.admitted)
    np.maximum(0.0, now.admitted - queued / rate, out=now.served)
    delay = patience * np.log1p(backlog / (capacity * patience))
    np.minimum(delay, columns.timeout_seconds, out=now.backlog_seconds)
    state.backlog[:] = backlog

    np.minimum(taken / all_slots, _MAX_UTILIZATION, out=now.utilization)
    now.wait_probability[:] = erlang_table(now.free_slots.astype(np.int64), now.utilization)
    service_rate = 1.0 / now.holding_seconds
    drain_rate = now.free_slots * service_rate * (1.0 - now.utilization)
    time_left = columns.timeout_seconds - now.backlog_seconds
    now.late[:] = queueing.sojourn_tail(time_left, now.wait_probability, service_rate, drain_rate)
    np.add(now.backlog_seconds, now.wait_probability / drain_rate, out=state.waiting_seconds)


def _fail(columns: Fleet, levels: list[_Level], now: Trace) -> None:
    """Writes the share of failing requests: refused, too late, or failed by a call that was tried in vain."""
    own_success = (1.0 - columns.base_error) * now.admitted * (1.0 - now.late)
    calls_succeed = np.zeros_like(own_success)  # Logarithm of the probability that a call succeeds at last.
    for level in reversed(levels):
        success = own_success[level.here] * np.exp(level.required_calls @ calls_succeed[level.below])
        error = np.minimum(1.0 - success, _MAX_ERROR)
        calls_succeed[level.here] = np.log1p(-error * error * error)  # Failed in all three tries.
        now.error[level.here] = error


def _adapt(state: _State, now: Trace) -> None:
    """Callers move part of the way to the retries and refusals that they meet."""
    attempts = 1.0 + now.error + now.error**2  # The mean of at most three tries that fail independently.
    state.attempts += _RETRY_ADAPTATION * (attempts - state.attempts)
    state.admitted += _THROTTLE_ADAPTATION * (now.admitted - state.admitted)
    state.served += _THROTTLE_ADAPTATION * (now.served - state.served)
    state.utilization[:] = now.utilization
    now.attempts[:] = state.attempts
