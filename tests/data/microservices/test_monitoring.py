"""The recorded metrics: expected values and the sample of a minute."""

import numpy as np

from fedjax_anomaly.data.microservices import monitoring, physics, workload
from fedjax_anomaly.data.microservices.faults import Forcing
from fedjax_anomaly.data.microservices.fleet import build_fleet

NUM_MINUTES = 600
FLEET = build_fleet(8, np.random.default_rng(0))
FORCING = Forcing.none(NUM_MINUTES, 8)
LOAD = workload.external_rate(FLEET, "normal", NUM_MINUTES, np.random.default_rng(1))
TRACE = physics.simulate(FLEET, LOAD, np.ones((NUM_MINUTES, 8)), [FORCING]).run(0)
EXPECTED = monitoring.expected_metrics(FLEET, TRACE, FORCING)


def test_metrics_are_complete_finite_and_not_negative() -> None:
    observed = monitoring.observed_metrics(FLEET, EXPECTED, np.random.default_rng(2))
    for metrics in (EXPECTED, observed):
        assert set(metrics) == set(monitoring.METRICS)
        for values in metrics.values():
            assert np.isfinite(values).all()
            assert (values >= 0.0).all()


def test_percentiles_are_in_order_and_utilizations_are_shares() -> None:
    observed = monitoring.observed_metrics(FLEET, EXPECTED, np.random.default_rng(2))
    assert (observed["latency_p50_ms"] <= observed["latency_p95_ms"]).all()
    assert (observed["latency_p95_ms"] <= observed["latency_p99_ms"]).all()
    for name in ("error_rate", "cpu_utilization", "memory_utilization", "gc_time_fraction"):
        assert (observed[name] <= 1.0).all()


def test_open_connections_obey_littles_law() -> None:
    # Requests in the system = rate * (holding + mean wait); connections linger for `keepalive_seconds` besides.
    drain_rate = TRACE.free_slots / TRACE.holding_seconds * (1.0 - TRACE.utilization)
    calm = (TRACE.backlog_seconds == 0.0) & (TRACE.utilization < 0.9)
    stay = TRACE.holding_seconds + TRACE.wait_probability / drain_rate + FLEET.keepalive_seconds
    np.testing.assert_allclose(EXPECTED["open_connections"][calm], (TRACE.arrival_rate * stay)[calm], rtol=1e-9)


def test_counts_scatter_as_poisson_counts() -> None:
    normal = np.random.default_rng(3).standard_normal(200_000)
    for mean in (4.0, 50.0, 1000.0):
        counts = monitoring._count(np.full(normal.shape, mean), normal)
        # A Poisson variable has variance = mean; rounding adds 1/12; three standard errors of the mean.
        assert abs(counts.mean() - mean) < 3.0 * np.sqrt(mean / len(normal)) + 0.03
        assert abs(counts.var() / mean - 1.0) < 0.05
    assert (monitoring._count(np.zeros(1000), normal[:1000]) == 0.0).all()


def test_the_sample_of_a_row_does_not_depend_on_the_others() -> None:
    changed = {name: values.copy() for name, values in EXPECTED.items()}
    changed["request_rate_per_second"][100:, 3] *= 7.0
    before = monitoring.observed_metrics(FLEET, EXPECTED, np.random.default_rng(4))
    after = monitoring.observed_metrics(FLEET, changed, np.random.default_rng(4))
    for name in monitoring.METRICS:
        np.testing.assert_array_equal(np.delete(before[name], 3, axis=1), np.delete(after[name], 3, axis=1))
        np.testing.assert_array_equal(before[name][:100], after[name][:100])
