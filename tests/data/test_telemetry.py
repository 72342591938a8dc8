"""The telemetry data set as a user loads it."""

import functools

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from fedjax_anomaly.data import telemetry
from fedjax_anomaly.data.microservices.labels import MATERIAL_CHANGE
from fedjax_anomaly.data.table import Dataset, Table

NUM_SERVICES = 12
TRAIN_MINUTES, TEST_MINUTES = 144, 480


@functools.cache
def default() -> Dataset:
    """The data set as it comes, kept between tests."""
    return telemetry.load(seed=0)


def load_small(seed: int, load_profile: telemetry.LoadProfile = "normal", test_faults: float = 3.0) -> Dataset:
    """A small fleet for a few hours."""
    return telemetry.load(
        seed=seed,
        num_services=NUM_SERVICES,
        load_profile=load_profile,
        train_days=TRAIN_MINUTES / 1440.0,
        test_days=TEST_MINUTES / 1440.0,
        test_faults_per_service_day=test_faults,
    )


small = functools.cache(load_small)


def column(table: Table, name: str) -> np.ndarray:
    return table.numeric[:, table.numeric_names.index(name)].astype(np.float64)


def test_the_tables_are_as_described() -> None:
    dataset = small(0)
    assert (dataset.name, dataset.row_order, dataset.category_columns) == ("telemetry", "time", ("source",))
    assert dataset.normal_groups is not None
    for table, num_minutes in ((dataset.train, TRAIN_MINUTES), (dataset.test, TEST_MINUTES)):
        assert table.time is not None and table.source is not None
        assert len(table) == num_minutes * NUM_SERVICES
        assert table.numeric.dtype == np.float32
        assert set(table.source.names) == set(dataset.normal_groups)
        assert set(dataset.normal_groups.values()) == {0, 1, 2, 3}
        by_source_then_time = np.lexsort((table.time, table.source.strings()))
        np.testing.assert_array_equal(by_source_then_time, np.arange(len(table)))
        assert set(np.diff(table.time.reshape(NUM_SERVICES, -1)).ravel()) == {60.0}


def test_the_test_table_begins_where_the_training_table_ends() -> None:
    dataset = small(0)
    assert dataset.train.time is not None and dataset.test.time is not None
    assert dataset.test.time.min() == dataset.train.time.max() + 60.0
    rate = column(dataset.train, "request_rate_per_second").reshape(NUM_SERVICES, -1)[:, -1]
    next_rate = column(dataset.test, "request_rate_per_second").reshape(NUM_SERVICES, -1)[:, 0]
    np.testing.assert_allclose(next_rate, rate, rtol=0.35)  # Load goes on where it was: no jump between the tables.


def test_the_seed_decides_everything() -> None:
    again = load_small(0)
    np.testing.assert_array_equal(again.test.numeric, small(0).test.numeric)
    np.testing.assert_array_equal(again.test.attack.codes, small(0).test.attack.codes)
    assert not np.allclose(small(1).train.numeric, small(0).train.numeric)


def test_faults_leave_rows_before_the_first_one_as_they_were() -> None:
    np.testing.assert_array_equal(small(0).train.numeric, small(0, test_faults=0.0).train.numeric)


def test_every_kind_of_attack_appears() -> None:
    for dataset in (default(), small(0), small(1)):
        assert set(dataset.test.attack.strings()) == set(telemetry.ATTACK_NAMES)


def test_the_default_training_table_is_mostly_clean_and_the_test_table_has_about_a_tenth_of_anomalies() -> None:
    assert 0.0 < default().train.label.mean() < 0.03
    assert 0.04 < default().test.label.mean() < 0.14


@pytest.mark.parametrize("load_profile", ["normal", "high"])
@pytest.mark.parametrize("seed", range(2))
def test_unlabelled_rows_are_as_without_faults(seed: int, load_profile: telemetry.LoadProfile) -> None:
    # Both tables share all randomness, sampling noise included, so that rows may differ by what faults did only.
    table = small(seed, load_profile).test
    without = small(seed, load_profile, test_faults=0.0).test
    for name, (relative, absolute) in MATERIAL_CHANGE.items():
        change = np.abs(column(table, name) - column(without, name))[~table.label & ~without.label]
        reference = column(without, name)[~table.label & ~without.label]
        # A tenth of slack, as the sampling noise scales with the expected value.
        assert (change <= 1.1 * (relative * reference + absolute)).all(), name


def test_labelled_rows_differ_from_the_run_without_faults() -> None:
    table, without = small(0).test, small(0, test_faults=0.0).test
    difference = np.abs(table.numeric - without.numeric).max(axis=1)
    assert (difference[table.label] > 0.0).mean() > 0.999


def test_profiles_order_the_utilization() -> None:
    low, normal, high = (
        column(small(0, profile).train, "cpu_utilization").mean() for profile in ("low", "normal", "high")
    )
    assert low < normal < high


@pytest.mark.parametrize(("seed", "load_profile"), [(3, "low"), (19, "bursty")])
def test_services_cluster_into_their_latent_groups(seed: int, load_profile: telemetry.LoadProfile) -> None:
    dataset = telemetry.load(seed=seed, load_profile=load_profile, train_days=1.0, test_days=0.05)
    assert dataset.normal_groups is not None and dataset.train.source is not None
    train = dataset.train.take(~dataset.train.label)  # A fault in training would move its service's summary.
    features = np.log1p(train.numeric.astype(np.float64))
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    names = dataset.train.source.names
    rows = [features[dataset.train.source.codes[~dataset.train.label] == code] for code in range(len(names))]
    summary = np.array([np.concatenate([of_one.mean(axis=0), of_one.std(axis=0)]) for of_one in rows])
    clusters = KMeans(4, n_init=10, random_state=0).fit_predict(summary)
    assert adjusted_rand_score([dataset.normal_groups[name] for name in names], clusters) >= 0.8


@pytest.mark.parametrize("num_services", [4, 7, 60])
def test_fleets_of_any_size_work(num_services: int) -> None:
    dataset = telemetry.load(seed=0, num_services=num_services, train_days=0.1, test_days=0.1)
    assert dataset.normal_groups is not None
    assert len(dataset.normal_groups) == num_services
    assert len(dataset.test) == 144 * num_services


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"num_services": 3}, "num_services is 3, but must be at least 4"),
        ({"load_profile": "heavy"}, "load_profile is 'heavy', but must be one of low, normal, high, bursty"),
        ({"train_days": 0.0}, r"train_days is 0.0, but must be within \[0.05, 365.0\]"),
        ({"test_days": float("nan")}, "test_days is nan"),
        ({"train_faults_per_service_day": -0.1}, "train_faults_per_service_day is -0.1"),
        ({"test_faults_per_service_day": 5.0}, "test_faults_per_service_day is 5.0"),
    ],
)
def test_bad_arguments_are_named_with_their_bounds(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        telemetry.load(**({"seed": 0} | arguments))


def test_slow_drift_changes_normal_rows_after_its_start_only() -> None:
    """Against the same days without drift and faults: nothing before, then load grows by 1.5 in 30 days, and work."""
    days = {"seed": 0, "num_services": 4, "train_days": 0.1, "test_days": 2.0}
    no_faults = {"train_faults_per_service_day": 0.0, "test_faults_per_service_day": 0.0}
    drift = telemetry.SlowDrift(0.5, load_growth=0.5, work_growth=0.3, creep_days=0.5, released=0.5, release_days=0.2)
    plain, drifted = (telemetry.load(**days, **no_faults, drift=drift) for drift in (None, drift))
    assert plain.train.numeric.tobytes() == drifted.train.numeric.tobytes()
    assert set(drifted.test.attack.strings()) == {"normal"}
    time = drifted.test.time
    assert time is not None and drifted.test.source is not None
    days_since = time / 86_400.0 - 0.5
    rates = [column(d.test, "request_rate_per_second") for d in (plain, drifted)]
    np.testing.assert_array_equal(rates[0][days_since < 0.0], rates[1][days_since < 0.0])
    last = days_since > 1.3
    assert (
        abs(np.log(rates[1][last] / rates[0][last]).mean() / (np.log(1.5) * days_since[last].mean() / 30.0) - 1) < 0.3
    )
    # Half of the services get the release, and their callers wait for them.
    cpu = [column(d.test, "cpu_utilization") for d in (plain, drifted)]
    more = np.array([(cpu[1] / cpu[0])[last & (drifted.test.source.codes == s)].mean() for s in range(4)])
    assert np.sum(np.abs(more - 1.3) < 0.1) == 2
    with pytest.raises(ValueError, match="creep_days"):
        telemetry.load(**days, drift=drift._replace(creep_days=0.0))
