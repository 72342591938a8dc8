import itertools

import numpy as np
import pytest

from fedjax_anomaly.detection.affiliation import affiliation


def flags(count, *rows):
    flag = np.zeros(count, bool)
    flag[list(rows)] = True
    return flag


def random_flags(rng, count, runs, longest):
    flag = np.zeros(count, bool)
    for start in rng.integers(0, count, runs):
        flag[start : start + rng.integers(1, longest + 1)] = True
    return flag


def integral_of_the_definition(label, alarm, per_row=40):
    """Huet et al.'s survival functions as shares of a fine grid of points; averages as sums over the same grid."""
    points = (np.arange(per_row * len(label)) + 0.5) / per_row
    row = points.astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], label.astype(int), [0]]))).reshape(-1, 2)
    cuts = [0.0, *[(a[1] + b[0]) / 2 for a, b in itertools.pairwise(edges)], float(len(label))]
    precisions, recalls = [], []
    for (start, end), low, high in zip(edges, cuts[:-1], cuts[1:], strict=True):
        zone = points[(low < points) & (points < high)]
        to_event = np.where(zone < start, start - zone, np.where(zone > end, zone - end, 0.0))
        alarms = zone[alarm[zone.astype(int)]]
        if len(alarms):
            own = to_event[alarm[zone.astype(int)]]
            precisions.append(np.mean([(to_event >= distance).mean() for distance in own]))
        chances = []
        for y in points[(start < points) & (points < end) & label[row]]:
            nearest = np.abs(alarms - y).min() if len(alarms) else np.inf
            # An alarm that covers y is at distance 0 and as near as can be.
            chances.append((np.abs(zone - y) >= nearest).mean() if len(alarms) else 0.0)
        recalls.append(np.mean(chances))
    return (np.mean(precisions) if precisions else None), np.mean(recalls)


def test_affiliation_equals_the_integral_of_its_definition():
    rng = np.random.default_rng(0)
    for _ in range(60):
        count = int(rng.integers(8, 26))
        label, alarm = random_flags(rng, count, 3, 4), random_flags(rng, count, 3, 3)
        ours, expected = affiliation(label, alarm), integral_of_the_definition(label, alarm)
        # The grid of 40 points a row is 1/80 of a row off at most on each side, in zones of two rows or more.
        assert ours == pytest.approx(expected, abs=0.02)


def test_one_alarm_beside_one_event_by_hand():
    # The event is [4, 6] in the zone [0, 10], the alarm [8, 9].
    # Precision: at x the distance is d = x - 6 in [2, 3]; nearer than that are the event (2) and d on either side, so
    # the chance is 1 - (2 + 2 d) / 10, on average 1 - 7 / 10.
    # Recall: at y in [4, 6] the alarm is d = 8 - y away; both sides reach that far within the zone (y >= d and
    # 10 - y >= d), so the chance is 1 - 2 (8 - y) / 10, on average 1 - 6 / 10.
    assert affiliation(flags(10, 4, 5), flags(10, 8)) == pytest.approx((0.3, 0.4), abs=1e-12)


def test_a_zone_without_an_alarm_counts_for_recall_only():
    # Events [1, 2] and [8, 10]; the first is met exactly, the second not at all.
    assert affiliation(flags(12, 1, 8, 9), flags(12, 1)) == pytest.approx((1.0, 0.5))


def test_alarms_equal_to_the_labels_score_one():
    rng = np.random.default_rng(1)
    for _ in range(20):
        label = random_flags(rng, 100, 4, 9)
        assert affiliation(label, label) == pytest.approx((1.0, 1.0))


def test_no_alarm_leaves_precision_undefined_and_recall_zero():
    assert affiliation(flags(9, 3), flags(9)) == (None, 0.0)
    assert affiliation(flags(9), flags(9, 3)) == (None, None)


def test_nearer_alarms_score_higher():
    label = flags(60, 29, 30, 31)
    scores = [affiliation(label, flags(60, row)) for row in range(32, 60)]
    assert all(near[0] > far[0] for near, far in itertools.pairwise(scores))
    assert all(near[1] >= far[1] for near, far in itertools.pairwise(scores))


def test_affiliation_is_the_same_in_reversed_time():
    rng = np.random.default_rng(2)
    for _ in range(20):
        label, alarm = random_flags(rng, 80, 3, 7), random_flags(rng, 80, 5, 4)
        assert affiliation(label, alarm) == pytest.approx(affiliation(label[::-1], alarm[::-1]))


def test_random_alarms_have_a_precision_of_about_one_half():
    label = flags(40_000, *range(100, 40_000, 1000))
    alarm = np.random.default_rng(3).random(40_000) < 0.1
    assert affiliation(label, alarm)[0] == pytest.approx(0.5, abs=0.02)
