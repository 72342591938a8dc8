"""Faults: their schedule and what they force."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest

from fedjax_anomaly.data.microservices.faults import KINDS, Fault, Forcing, force, schedule_faults


@pytest.mark.parametrize("seed", range(5))
def test_services_and_kinds_take_turns(seed: int) -> None:
    faults = schedule_faults(100, 2880, 10, 45, np.random.default_rng(seed))
    by_service = Counter(fault.service for fault in faults)
    # 45 faults are 4 full turns of 10 services and 5 more, and 5 full turns of the 9 kinds.
    assert sorted(by_service.values()) == [4] * 5 + [5] * 5
    assert Counter(fault.kind for fault in faults) == dict.fromkeys(KINDS, 5)


@pytest.mark.parametrize("num_services", [4, 20])
@pytest.mark.parametrize("num_minutes", [144, 2880])
def test_faults_of_one_service_are_apart(num_services: int, num_minutes: int) -> None:
    for seed in range(20):
        num_faults = 4 * num_services * num_minutes // 1440
        faults = schedule_faults(60, num_minutes, num_services, num_faults, np.random.default_rng(seed))
        for service in range(num_services):
            own = sorted((fault.start, fault.end) for fault in faults if fault.service == service)
            assert all(earlier[1] < later[0] for earlier, later in itertools.pairwise(own))


def test_crowded_faults_are_shortened_to_stay_apart() -> None:
    # 40 faults in 600 minutes give each of 5 services one every 75 minutes, less than many would last.
    for seed in range(20):
        faults = schedule_faults(0, 600, 5, 40, np.random.default_rng(seed))
        for service in range(5):
            own = sorted((fault.start, fault.end) for fault in faults if fault.service == service)
            assert all(earlier[1] < later[0] for earlier, later in itertools.pairwise(own))


def test_faults_stay_within_their_span_and_ranges() -> None:
    for seed in range(20):
        for fault in schedule_faults(60, 2880, 20, 32, np.random.default_rng(seed)):
            kind = KINDS[fault.kind]
            assert 60 <= fault.start < fault.end <= 60 + 2880
            assert 5 <= fault.end - fault.start <= 180
            assert kind.severity[0] <= fault.severity <= kind.severity[1]


def test_no_faults_force_nothing() -> None:
    assert schedule_faults(0, 100, 4, 0, np.random.default_rng(0)) == []
    for name, array in vars(force([], 100, 4)).items():
        np.testing.assert_array_equal(array, getattr(Forcing.none(100, 4), name))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_acts_on_its_service_and_its_minutes_only(kind: str) -> None:
    forcing = force([Fault(kind, service=2, start=30, end=90, severity=KINDS[kind].severity[1])], 120, 4)
    neutral = Forcing.none(120, 4)
    changed = np.zeros((120, 4), dtype=bool)
    for field in dataclasses.fields(Forcing):
        changed |= getattr(forcing, field.name) != getattr(neutral, field.name)
    expected = np.zeros((120, 4), dtype=bool)
    expected[30:90, 2] = True
    np.testing.assert_array_equal(changed, expected)


def test_a_leak_grows_until_its_end_and_an_outage_is_sudden() -> None:
    leak = force([Fault("slow_leak", 0, 0, 100, 0.9)], 100, 1).leaked_memory[:, 0]
    np.testing.assert_allclose(leak, 0.9 * np.arange(1, 101) / 100.0)
    outage = force([Fault("outage", 0, 10, 20, 0.1)], 30, 1).capacity_factor[:, 0]
    np.testing.assert_allclose(outage, np.where((np.arange(30) >= 10) & (np.arange(30) < 20), 0.1, 1.0))
