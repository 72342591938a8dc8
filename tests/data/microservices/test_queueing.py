"""The M/M/c queue against closed forms, a published value and a simulation of single requests."""

import heapq

import numpy as np
import pytest

from fedjax_anomaly.data.microservices import queueing


def test_erlang_c_equals_its_closed_forms_for_one_and_two_servers() -> None:
    utilization = np.linspace(0.0, 0.99, 34)
    # One server: a request waits while it is busy. Two servers: 2 rho^2 / (1 + rho), from the balance equations.
    two_servers = 2.0 * utilization**2 / (1.0 + utilization)
    np.testing.assert_allclose(queueing.erlang_c(1, utilization), utilization, rtol=1e-12)
    np.testing.assert_allclose(queueing.erlang_c(2, utilization), two_servers, rtol=1e-12)


def test_erlang_c_equals_the_definition_worked_by_hand() -> None:
    # a = 4 erlang on 5 servers: 4^5 / 5! / (1 - 0.8) = 128/3; sum of 4^k / k! for k < 5 = 103/3; C = 128 / 231.
    assert queueing.erlang_c(5, 0.8) == pytest.approx(128.0 / 231.0, rel=1e-12)


def test_erlang_c_equals_the_published_call_centre_example() -> None:
    # 0.2 calls a second of 240 s make 48 erlang; with 55 agents 23.9 % of callers wait (I. Angus, Erlang C tables).
    assert queueing.erlang_c(55, 48.0 / 55.0) == pytest.approx(0.239, abs=5e-4)


def test_the_table_interpolates_erlang_c() -> None:
    servers, utilization = np.repeat(np.arange(1, 17), 500), np.tile(np.linspace(0.0, 0.98, 500), 16)
    table = queueing.ErlangTable.up_to(16)
    np.testing.assert_allclose(table(servers, utilization), queueing.erlang_c(servers, utilization), atol=1e-3)


@pytest.mark.parametrize("utilization", [0.1, 0.5, 0.93])
def test_one_server_has_the_exponential_sojourn_of_the_textbook(utilization: float) -> None:
    service_rate = np.array([20.0])
    drain_rate = service_rate * (1.0 - utilization)
    for probability in (0.5, 0.95, 0.99):
        quantile = queueing.sojourn_quantile(probability, np.array([utilization]), service_rate, drain_rate)
        # The sojourn in M/M/1 is exponential with rate mu - lambda.
        np.testing.assert_allclose(quantile, -np.log(1.0 - probability) / drain_rate, rtol=1e-6)


@pytest.mark.parametrize("probability", [0.05, 0.5, 0.95, 0.99])
def test_the_quantile_inverts_the_tail(probability: float) -> None:
    rng = np.random.default_rng(0)
    servers, utilization = rng.integers(1, 40, 5000), rng.uniform(0.001, 0.985, 5000)
    service_rate = np.exp(rng.uniform(-3.0, 8.0, 5000))
    mixture = (queueing.erlang_c(servers, utilization), service_rate, servers * service_rate * (1.0 - utilization))
    seconds = queueing.sojourn_quantile(probability, *mixture)
    np.testing.assert_allclose(queueing.sojourn_tail(seconds, *mixture), 1.0 - probability, rtol=1e-9)


def test_the_tail_survives_equal_rates_of_service_and_drain() -> None:
    # 2 servers at rho = 0.5 drain at 2 mu (1 - 0.5) = mu; the limit of the tail is (1 + C mu t) exp(-mu t), C = 1/3.
    tail = queueing.sojourn_tail(2.0, np.array([1.0 / 3.0]), np.array([1.0]), np.array([1.0]))
    np.testing.assert_allclose(tail, (1.0 + 2.0 / 3.0) * np.exp(-2.0), rtol=1e-5)


def test_quantiles_match_a_simulation_of_single_requests() -> None:
    servers, utilization, count = 3, 0.8, 300_000
    rng = np.random.default_rng(1)
    arrivals = np.cumsum(rng.exponential(1.0 / (servers * utilization), count)).tolist()
    services = rng.exponential(1.0, count).tolist()
    free_at = [0.0] * servers
    sojourns = np.empty(count)
    for index, (arrival, service) in enumerate(zip(arrivals, services, strict=True)):
        done = max(arrival, free_at[0]) + service
        heapq.heapreplace(free_at, done)
        sojourns[index] = done - arrival
    mixture = (queueing.erlang_c(servers, np.array([utilization])), np.ones(1), np.array([servers * 0.2]))
    for probability in (0.5, 0.95, 0.99):
        expected = queueing.sojourn_quantile(probability, *mixture)[0]
        assert np.quantile(sojourns, probability) == pytest.approx(expected, rel=0.04)
