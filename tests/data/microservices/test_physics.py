"""The fleet's physics: conservation, spreading, queues that carry over, leaks."""

import numpy as np
import pytest

from fedjax_anomaly.data.microservices import groups, physics, queueing
from fedjax_anomaly.data.microservices.faults import KINDS, Fault, Forcing, force
from fedjax_anomaly.data.microservices.fleet import build_fleet

NUM_MINUTES = 240
FLEET = build_fleet(12, np.random.default_rng(3))
BY_GROUP = {group.name: np.flatnonzero(FLEET.group == index) for index, group in enumerate(groups.GROUPS)}
CALM = Forcing.none(NUM_MINUTES, len(FLEET))


def simulate(*faults: Fault, load: float = 1.0) -> tuple[physics.Trace, physics.Trace]:
    """Traces with and without the faults, under a constant load relative to the daily mean."""
    rate = np.tile(load * FLEET.external_rate_per_second, (NUM_MINUTES, 1))
    forcing = force(faults, NUM_MINUTES, len(FLEET))
    trace = physics.simulate(FLEET, rate, np.ones_like(rate), [forcing, CALM])
    return trace.run(0), trace.run(1)


def test_load_is_conserved_down_the_calls() -> None:
    calm, _ = simulate()
    last = calm.arrival_rate[-1]
    # What arrives = from outside + calls of the callers' requests, tried again as often as they fail (under 1 %).
    expected = FLEET.external_rate_per_second + last @ FLEET.calls_per_request
    np.testing.assert_allclose(last, expected, rtol=0.01)
    np.testing.assert_allclose(last, FLEET.nominal_rate_per_second, rtol=0.01)


def test_a_store_at_rest_waits_as_the_queue_of_the_textbook() -> None:
    calm, _ = simulate()
    for store in BY_GROUP["store"]:
        servers, load = int(FLEET.slots[store]), calm.arrival_rate[-1, store] / FLEET.instances[store]
        utilization = load * calm.holding_seconds[-1, store] / servers
        assert calm.utilization[-1, store] == pytest.approx(utilization, rel=1e-9)
        assert calm.wait_probability[-1, store] == pytest.approx(queueing.erlang_c(servers, utilization), abs=1e-3)


def test_runs_simulated_together_equal_runs_simulated_alone() -> None:
    rate = np.tile(FLEET.external_rate_per_second, (60, 1))
    forcing = force([Fault("outage", int(BY_GROUP["store"][0]), 10, 40, 0.02)], 60, len(FLEET))
    calm = Forcing.none(60, len(FLEET))
    together = physics.simulate(FLEET, rate, np.ones_like(rate), [forcing, calm])
    for index, alone in enumerate((forcing, calm)):
        single = physics.simulate(FLEET, rate, np.ones_like(rate), [alone]).run(0)
        np.testing.assert_allclose(together.run(index).error, single.error, rtol=1e-9)
        np.testing.assert_allclose(together.run(index).holding_seconds, single.holding_seconds, rtol=1e-9)


def test_a_store_outage_slows_or_fails_its_callers() -> None:
    store = int(BY_GROUP["store"][0])
    struck, calm = simulate(Fault("outage", store, 60, 90, 0.02))
    callers = np.flatnonzero(FLEET.calls_per_request[:, store])
    assert len(callers) > 0
    slower = struck.holding_seconds[75, callers] > 1.25 * calm.holding_seconds[75, callers]
    failing = struck.error[75, callers] > calm.error[75, callers] + 0.01
    assert (slower | failing).all()
    # Its callers try again, so that more calls arrive than before.
    assert struck.attempts[75, store] > 1.5


def test_a_slot_is_held_for_own_work_and_for_every_call() -> None:
    store = int(BY_GROUP["store"][0])
    slow, calm = simulate(Fault("latency_deviation", store, 60, 200, 1.0), load=0.5)
    for trace in (slow, calm):
        drain_rate = trace.free_slots[190] / trace.holding_seconds[190] * (1.0 - trace.utilization[190])
        response = trace.holding_seconds[190] + trace.wait_probability[190] / drain_rate + trace.backlog_seconds[190]
        own_work = FLEET.service_seconds / (1.0 - trace.collection[190])
        expected = own_work + FLEET.calls_per_request @ (response * trace.attempts[190])
        callers = np.delete(np.arange(len(FLEET)), store)  # The store itself also holds the added delay.
        np.testing.assert_allclose(trace.holding_seconds[190, callers], expected[callers], rtol=1e-3)
    direct = np.flatnonzero(FLEET.calls_per_request[:, store])
    assert (slow.holding_seconds[190, direct] > calm.holding_seconds[190, direct]).all()


def test_services_off_the_path_of_a_fault_do_not_notice() -> None:
    edge = int(BY_GROUP["edge"][0])
    struck, calm = simulate(Fault("latency_deviation", edge, 60, 90, 4.0))
    others = np.delete(np.arange(len(FLEET)), edge)
    np.testing.assert_allclose(struck.holding_seconds[:, others], calm.holding_seconds[:, others], rtol=0.1)


def test_a_workers_backlog_outlasts_the_overload_and_drains() -> None:
    worker = int(BY_GROUP["worker"][0])
    struck, _ = simulate(Fault("outage", worker, 60, 90, 0.1), load=1.5)
    backlog = struck.backlog_seconds[:, worker]
    assert backlog[59] == 0.0
    assert (np.diff(backlog[60:90]) > 0.0).all()
    assert backlog[95] > 0.0
    assert backlog[-1] == 0.0


def test_a_leak_ends_in_garbage_collection_that_slows_the_service() -> None:
    api = int(BY_GROUP["api"][0])
    struck, calm = simulate(Fault("slow_leak", api, 20, 200, 0.95), load=1.5)
    assert struck.collection[199, api] > 5.0 * calm.collection[199, api]
    assert struck.holding_seconds[199, api] > 1.02 * calm.holding_seconds[199, api]
    assert struck.live_memory[205, api] < 0.8  # The restart gives the memory back.


def test_slow_requests_take_slots_with_little_traffic() -> None:
    edge = int(BY_GROUP["edge"][0])
    struck, calm = simulate(Fault("slow_rate", edge, 60, 120, 0.9))
    assert struck.free_slots[100, edge] < 0.25 * calm.free_slots[100, edge]
    assert struck.arrival_rate[100, edge] == pytest.approx(calm.arrival_rate[100, edge], rel=0.01)
    assert struck.utilization[100, edge] > calm.utilization[100, edge]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("extreme", [0, 1])
def test_every_quantity_stays_finite_under_every_fault(kind: str, extreme: int) -> None:
    severity = KINDS[kind].severity[extreme]
    struck, _ = simulate(*(Fault(kind, service, 60, 180, severity) for service in range(len(FLEET))), load=1.8)
    for name, values in vars(struck).items():
        assert np.isfinite(values).all(), name
        assert (values >= 0.0).all(), name
    assert (struck.error < 1.0).all()
    assert (struck.admitted <= 1.0).all()
