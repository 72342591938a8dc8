"""The fleet: its groups, its calls and its sizes."""

import numpy as np
import pytest

from fedjax_anomaly.data.microservices import groups
from fedjax_anomaly.data.microservices.fleet import Fleet, build_fleet, daily_curve, group_sizes

SIZES = (4, 5, 9, 20, 73)


def fleet_of(num_services: int, seed: int = 0) -> Fleet:
    return build_fleet(num_services, np.random.default_rng(seed))


def test_every_group_has_members_and_about_its_share() -> None:
    for num_services in range(4, 201):
        sizes = group_sizes(num_services)
        assert sum(sizes) == num_services
        assert min(sizes) >= 1
    # 96 of the 100 are divided by share after one for each group: 1 + 96 * (0.25, 0.35, 0.2, 0.2), remainders last.
    assert group_sizes(100) == [25, 35, 20, 20]


@pytest.mark.parametrize("num_services", SIZES)
def test_calls_go_down_the_levels_and_reach_every_service(num_services: int) -> None:
    fleet = fleet_of(num_services)
    level_of = np.concatenate([np.full(level.stop - level.start, place) for place, level in enumerate(fleet.levels)])
    assert len(level_of) == num_services
    callers, callees = np.nonzero(fleet.calls_per_request)
    assert (level_of[callers] < level_of[callees]).all()
    assert (fleet.nominal_rate_per_second > 0.0).all()
    assert (fleet.required_calls <= fleet.calls_per_request).all()


def test_only_stores_have_no_load_from_outside_and_call_nobody() -> None:
    fleet = fleet_of(20)
    is_store = fleet.group == groups.GROUPS.index(groups.STORE)
    np.testing.assert_array_equal(fleet.external_rate_per_second == 0.0, is_store)
    np.testing.assert_array_equal(fleet.calls_per_request.sum(axis=1) == 0.0, is_store)


@pytest.mark.parametrize("num_services", SIZES)
def test_names_differ(num_services: int) -> None:
    names = fleet_of(num_services).names
    assert len(set(names)) == num_services


def test_services_of_one_group_differ_in_scale() -> None:
    fleet = fleet_of(40)
    for index in range(len(groups.GROUPS)):
        rates = fleet.nominal_rate_per_second[fleet.group == index]
        assert rates.max() > 1.5 * rates.min()


def test_the_daily_curve_has_mean_one_and_peaks_where_asked() -> None:
    minute = np.arange(1440)
    curve = daily_curve(minute, np.array([15.0]), np.array([0.6]))[:, 0]
    assert curve.mean() == pytest.approx(1.0, abs=1e-9)
    assert curve.min() > 0.0
    assert abs(curve.argmax() / 60.0 - 15.0) < 3.0


def test_another_generator_draws_another_fleet() -> None:
    assert not np.allclose(fleet_of(20, 0).service_seconds, fleet_of(20, 1).service_seconds)
