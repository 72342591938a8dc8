"""Labels from faults and material changes, on examples worked out by hand."""

import numpy as np

from fedjax_anomaly.data.microservices import monitoring, physics
from fedjax_anomaly.data.microservices.faults import Fault, Forcing, force
from fedjax_anomaly.data.microservices.fleet import build_fleet
from fedjax_anomaly.data.microservices.labels import MATERIAL_CHANGE, attack_codes, material_change

NAMES = ("normal", "slow_leak", "outage", "spread")


def names_of(faults: list[Fault], material: np.ndarray) -> list[list[str]]:
    """The names of each service's rows."""
    return [[NAMES[code] for code in column] for column in attack_codes(faults, material, NAMES).T]


def test_a_fault_names_its_rows_from_its_first_effect_until_the_change_has_gone() -> None:
    # Minutes 1 to 5 hold the fault; 1 is harmless, 3 flickers within it, 6 still drains, 7 is well, 8 is another's.
    material = np.array([0, 0, 1, 0, 1, 1, 1, 0, 1, 0], dtype=bool)[:, np.newaxis]
    assert names_of([Fault("slow_leak", 0, 1, 6, 0.9)], material) == [
        ["normal"] * 2 + ["slow_leak"] * 5 + ["normal", "spread", "normal"]
    ]


def test_a_fault_without_effect_names_nothing() -> None:
    assert names_of([Fault("outage", 0, 1, 3, 0.1)], np.zeros((4, 1), dtype=bool)) == [["normal"] * 4]


def test_a_change_that_outlives_the_table_is_named_to_its_end() -> None:
    assert names_of([Fault("outage", 0, 1, 2, 0.1)], np.ones((4, 1), dtype=bool)) == [["spread"] + ["outage"] * 3]


def test_other_services_that_change_are_spread() -> None:
    material = np.array([[0, 0], [1, 1], [1, 0]], dtype=bool)
    assert names_of([Fault("outage", 1, 1, 3, 0.1)], material) == [
        ["normal", "spread", "spread"],
        ["normal", "outage", "outage"],
    ]


def test_every_material_row_is_labelled() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        material = rng.uniform(size=(60, 3)) < 0.3
        faults = [Fault("outage", service, 10 * service + 5, 10 * service + 20, 0.1) for service in range(3)]
        assert (attack_codes(faults, material, NAMES)[material] != 0).all()


def test_a_change_is_material_beyond_its_bound_in_either_direction() -> None:
    without = {name: np.full((1, 4), 8.0) for name in MATERIAL_CHANGE}
    # The bound on the request rate is 0.25 * 8 + 0.5 = 2.5.
    rate = np.array([[8.0 + 2.4, 8.0 + 2.6, 8.0 - 2.4, 8.0 - 2.6]])
    changed = material_change(without | {"request_rate_per_second": rate}, without)
    np.testing.assert_array_equal(changed, [[False, True, False, True]])


def test_callers_of_a_store_in_an_outage_are_labelled_spread() -> None:
    fleet = build_fleet(12, np.random.default_rng(3))
    store = len(fleet) - 1
    faults = [Fault("outage", store, 60, 90, 0.02)]
    forcings = [force(faults, 120, len(fleet)), Forcing.none(120, len(fleet))]
    rate = np.tile(fleet.external_rate_per_second, (120, 1))
    trace = physics.simulate(fleet, rate, np.ones_like(rate), forcings)
    expected = [monitoring.expected_metrics(fleet, trace.run(run), forcings[run]) for run in range(2)]
    codes = attack_codes(faults, material_change(*expected), NAMES)
    callers = np.flatnonzero(fleet.calls_per_request[:, store])
    assert len(callers) > 0
    assert (codes[75, callers] == NAMES.index("spread")).all()
    assert (codes[60:90, store] == NAMES.index("outage")).all()
    assert (codes[:60] == NAMES.index("normal")).all()
