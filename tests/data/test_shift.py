import dataclasses

import numpy as np
import pytest

from fedjax_anomaly.data.differences import with_differences
from fedjax_anomaly.data.partition import partition
from fedjax_anomaly.data.shift import MIN_TOLERATED_ROWS, shift
from fedjax_anomaly.data.table import Categorical
from tests.fleet import dataset, table

KINDS = ("flood", "normal", "rare", "scan", "worm")


def attacked(num_rows: int = 4000, test_kinds: tuple[str, ...] = KINDS, **settings):
    """`rare` has so few training rows that no client of four holds ten."""
    rng = np.random.default_rng(5)
    train = rng.choice(KINDS, size=num_rows, p=[0.1, 0.69, 0.005, 0.1, 0.105]).tolist()
    test = rng.choice(test_kinds, size=num_rows // 2).tolist()
    return dataset(
        table(num_rows, attack=train, **settings), table(num_rows // 2, seed=1, attack=test, **settings), "none"
    )


def shifted(data, scheme, num_clients=4, seed=0, **settings):
    clients = partition(data, scheme, num_clients, seed=seed)
    return shift(data, scheme, *clients, seed=seed, **settings), clients


def ratios(after, before, client, num_clients):
    """Float[C, P], by how much each client's columns were multiplied; the same for all of its rows."""
    own = [after.numeric[client == c] / before.numeric[client == c] for c in range(num_clients)]
    for ratio in own:
        np.testing.assert_allclose(ratio, np.broadcast_to(ratio[0], ratio.shape), rtol=1e-5)
    return np.stack([ratio[0] for ratio in own])


@pytest.mark.parametrize("scheme", ["iid", "dirichlet", "shards"])
def test_other_schemes_change_nothing(scheme):
    data = attacked()
    assert shifted(data, scheme)[0] is data


def test_each_client_measures_training_and_test_rows_with_one_gain_per_column():
    data = attacked()
    after, (train_client, test_client) = shifted(data, "feature_shift")
    gains = ratios(after.train, data.train, train_client, 4)
    np.testing.assert_allclose(gains, ratios(after.test, data.test, test_client, 4), rtol=1e-5)
    assert len(np.unique(gains.round(4))) == 8
    assert after.train.categorical == data.train.categorical
    assert after.train.attack is data.train.attack


def test_gains_are_log_normal_of_the_given_strength():
    rows = table(4000)
    columns = {"numeric": np.ones((4000, 300), np.float32), "numeric_names": tuple(f"c{i}" for i in range(300))}
    data = dataset(dataclasses.replace(rows, **columns), dataclasses.replace(rows, **columns))
    after, (train_client, _) = shifted(data, "feature_shift", 20, strength=0.7)
    logs = np.log(ratios(after.train, data.train, train_client, 20))
    # 6000 draws: the mean is off by 0.7 / sqrt(6000) = 0.009 and the deviation by 0.7 / sqrt(12000) = 0.006, typically.
    np.testing.assert_allclose(logs.mean(), 0.0, atol=0.036)
    np.testing.assert_allclose(logs.std(), 0.7, atol=0.026)


def test_no_strength_is_iid_and_the_seed_decides():
    data = attacked()
    np.testing.assert_array_equal(shifted(data, "feature_shift", strength=0.0)[0].train.numeric, data.train.numeric)
    one, again = (shifted(data, "feature_shift", seed=3)[0].train.numeric for _ in range(2))
    np.testing.assert_array_equal(one, again)
    clients = partition(data, "feature_shift", 4, seed=3)
    assert (shift(data, "feature_shift", *clients, seed=4).train.numeric != one).mean() > 0.99


def test_differences_stay_the_changes_of_their_column():
    rows = table(400, source=["one"] * 400)
    data = with_differences(dataset(rows, rows, "time"))
    after, (train_client, _) = shifted(data, "feature_shift", 2)
    for client in (0, 1):
        own = after.train.numeric[train_client == client]
        before = data.train.numeric[train_client == client]
        np.testing.assert_allclose(own[:, 2:] * before[:, :2], before[:, 2:] * own[:, :2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("test_kinds", [KINDS, ("flood", "other", "scan")])
def test_each_client_tolerates_one_kind_wholly_and_no_other(test_kinds):
    data = attacked(test_kinds=test_kinds)
    after, (train_client, test_client) = shifted(data, "concept_shift")
    tolerated = []
    for client in range(4):
        before = data.train.attack.strings()[train_client == client]
        now = after.train.attack.strings()[train_client == client]
        (kind,) = set(before[before != now])
        np.testing.assert_array_equal(now, np.where(before == kind, "normal", before))
        assert np.count_nonzero(before == kind) >= MIN_TOLERATED_ROWS
        before = data.test.attack.strings()[test_client == client]
        now = after.test.attack.strings()[test_client == client]
        np.testing.assert_array_equal(now, np.where(before == kind, "normal", before))
        tolerated.append(kind)
    # Four clients and three kinds that occur often enough: each is tolerated once or twice.
    assert set(tolerated) == {"flood", "scan", "worm"}
    np.testing.assert_array_equal(after.train.label, after.train.attack.strings() != "normal")
    np.testing.assert_array_equal(after.train.numeric, data.train.numeric)


@pytest.mark.parametrize("seed", range(3))
def test_kinds_are_tolerated_by_equally_many_clients(seed):
    data = attacked()
    after, (train_client, _) = shifted(data, "concept_shift", 6, seed)
    changed = data.train.attack.codes != after.train.attack.codes
    pairs = set(zip(train_client[changed], data.train.attack.take(changed).strings(), strict=True))
    assert sorted(kind for _, kind in pairs) == ["flood"] * 2 + ["scan"] * 2 + ["worm"] * 2


def test_kinds_follow_the_seed_and_are_told():
    data = attacked()
    clients = partition(data, "concept_shift", 4, seed=0)
    notes = [shift(data, "concept_shift", *clients, seed=seed).notes[-1] for seed in (0, 0, 1, 2, 3)]
    assert notes[0] == notes[1]
    assert len(set(notes)) > 2
    after = shift(data, "concept_shift", *clients, seed=0)
    rows = [np.count_nonzero(b.label & ~a.label) for a, b in ((after.train, data.train), (after.test, data.test))]
    assert f"({rows[0]} training and {rows[1]} test rows)" in notes[0]
    for client in range(4):
        chosen = (clients[0] == client) & (data.train.attack.codes != after.train.attack.codes)
        (kind,) = set(data.train.attack.take(chosen).strings())
        told = next(part for part in notes[0].split(": ")[-1].rstrip(".").split("; ") if part.startswith(kind))
        assert str(client) in told.split(" at client ")[1].split(", ")


def test_a_client_without_attacks_tolerates_nothing():
    data = attacked(400)
    names = np.array(["normal"] * 400, dtype="<U6")
    names[:20] = "flood"
    data = dataclasses.replace(data, train=dataclasses.replace(data.train, attack=Categorical.from_strings(names)))
    train_client = (np.arange(400) >= 200).astype(int)
    after = shift(data, "concept_shift", train_client, np.arange(200) % 2, seed=0)
    assert not after.train.label.any()
    was_flood, at_first = data.test.attack.is_name("flood"), np.arange(200) % 2 == 0
    np.testing.assert_array_equal(after.test.label, data.test.label & ~(was_flood & at_first))
    assert "flood at client 0; nothing at client 1." in after.notes[-1]


@pytest.mark.parametrize("attack", ["normal", "flood"])
def test_without_attacks_to_disagree_on_a_concept_shift_is_refused(attack):
    rows = table(200, attack=["normal", attack] * 100)
    reason = {"normal": "has none with at least 10", "flood": "has flood with at least 10"}[attack]
    with pytest.raises(ValueError, match=f"clients that tolerate different attacks, but 'tiny' over 2 .* {reason}"):
        shifted(dataset(rows, rows), "concept_shift", 2)


@pytest.mark.parametrize("strength", [-0.1, 11.0, float("nan")])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(ValueError, match=f"shift_strength={strength} must lie in \\[0, 10\\]"):
        shifted(attacked(), "feature_shift", strength=strength)
