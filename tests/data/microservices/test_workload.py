"""The load from outside: its profiles and its randomness."""

import numpy as np

from fedjax_anomaly.data.microservices import workload
from fedjax_anomaly.data.microservices.fleet import MINUTES_PER_DAY, build_fleet

FLEET = build_fleet(20, np.random.default_rng(0))
OUTSIDE = FLEET.external_rate_per_second > 0.0


def load_of(profile: workload.LoadProfile) -> np.ndarray:
    return workload.external_rate(FLEET, profile, 4 * MINUTES_PER_DAY, np.random.default_rng(1))


def test_profiles_order_the_mean_load() -> None:
    low, normal, high = (load_of(profile).mean() for profile in ("low", "normal", "high"))
    assert low < normal < high


def test_the_bursty_profile_varies_more_from_minute_to_minute() -> None:
    def roughness(profile: workload.LoadProfile) -> np.ndarray:
        without_jobs = OUTSIDE & (FLEET.tick_height == 0.0)
        return np.diff(np.log(load_of(profile)[:, without_jobs]), axis=0).std(axis=0)

    assert (roughness("bursty") > 1.3 * roughness("normal")).all()


def test_load_is_positive_outside_and_absent_inside() -> None:
    load = load_of("bursty")
    assert (load[:, OUTSIDE] > 0.0).all()
    assert (load[:, ~OUTSIDE] == 0.0).all()


def test_the_mean_load_keeps_to_the_daily_curve() -> None:
    # Jitter has mean 1; bursts add 6 / 1440 * 0.25 * (8.5 - 2.5) minutes = 0.6 %, and edges have no scheduled jobs.
    edges = FLEET.group == 0
    ratio = load_of("normal")[:, edges].mean() / FLEET.external_rate_per_second[edges].mean()
    assert abs(ratio - 1.006) < 0.05


def test_scheduled_jobs_load_workers_at_the_top_of_the_hour() -> None:
    workers = FLEET.tick_height > 0.0
    load = load_of("low")[:, workers]
    detail = load / workload._leaky_sum(load, 60.0)
    by_minute = detail[MINUTES_PER_DAY:].reshape(-1, 60, workers.sum()).mean(axis=0)
    peak_minute = by_minute.argmax(axis=0)
    np.testing.assert_array_equal(peak_minute, np.round(FLEET.phase[workers] * 10.0))


def test_the_work_drift_stays_around_one() -> None:
    drift = workload.work_drift(FLEET, 4 * MINUTES_PER_DAY, np.random.default_rng(2))
    assert abs(drift.mean() - 1.0) < 0.01
    assert 0.02 < drift.std() < 0.04
