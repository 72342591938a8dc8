import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from fedjax_anomaly.detection.vus import vus_pr


def with_events(count, events, seed=0):
    rng = np.random.default_rng(seed)
    label = np.zeros(count, bool)
    for start, length in events:
        label[start : start + length] = True
    return label, rng.normal(size=count) + label


def loop_vus_pr(label, score, max_buffer, num_thresholds):
    """Buffers, thresholds and rows one after the other."""
    count = len(label)
    starts = [i for i in range(count) if label[i] and (i == 0 or not label[i - 1])]
    lasts = [i for i in range(count) if label[i] and (i == count - 1 or not label[i + 1])]
    ordered = sorted(score, reverse=True)
    areas = []
    for w in range(max_buffer + 1):
        reach = w // 2
        credit = [float(flag) for flag in label]
        for i in range(count):
            for start, last in zip(starts, lasts, strict=True):
                distance = start - i if i < start else i - last
                if 1 <= distance <= reach:
                    credit[i] += (1.0 - distance / w) ** 0.5
            credit[i] = min(credit[i], 1.0)
        regions = []
        for start, last in zip(starts, lasts, strict=True):
            if regions and regions[-1][1] >= start - reach:
                regions[-1][1] = last + reach
            else:
                regions.append([start - reach, last + reach])
        area = previous = 0.0
        for rank in np.linspace(0, count - 1, num_thresholds).astype(int):
            predicted = [i for i in range(count) if score[i] >= ordered[rank]]
            hits = sum(credit[i] for i in predicted)
            wanted = (sum(label) + sum(label) + sum(credit[i] for i in predicted if not label[i])) / 2.0
            found = sum(any(a <= i <= b for i in predicted) for a, b in regions) / len(regions)
            recall = min(hits / wanted, 1.0) * found
            area += (recall - previous) * hits / len(predicted)
            previous = recall
        areas.append(area)
    return sum(areas) / len(areas)


@pytest.mark.parametrize(
    ("events", "max_buffer"),
    [([(10, 4), (30, 6)], 9), ([(0, 3), (20, 1), (23, 2), (47, 3)], 12), ([(12, 8)], 0), ([(5, 2), (40, 2)], 80)],
    ids=["apart", "at the ends and close together", "no buffer", "buffers larger than the series"],
)
def test_vus_equals_a_plain_loop(events, max_buffer):
    label, score = with_events(50, events)
    for rounded in (score, np.round(score)):
        expected = loop_vus_pr(label, rounded, max_buffer, 20)
        assert vus_pr(label, rounded, max_buffer=max_buffer, num_thresholds=20) == pytest.approx(expected, abs=1e-12)


def test_an_alarm_beside_the_event_by_hand():
    # The event is row 2 of 6, the only alarm row 3. Buffers of 0 and 1 reach no row: the first threshold hits nothing,
    # the last one predicts all, with precision 1/6. A buffer of 2 gives row 3 the credit c = sqrt(1 - 1/2): precision c
    # at a recall of c / (1 + c/2); then all rows, recall 1 and precision (1 + 2c) / 6.
    c = 0.5**0.5
    recall = c / (1.0 + c / 2.0)
    wide = recall * c + (1.0 - recall) * (1.0 + 2.0 * c) / 6.0
    label, score = np.arange(6) == 2, (np.arange(6) == 3).astype(float)
    assert vus_pr(label, score, max_buffer=2) == pytest.approx((1 / 6 + 1 / 6 + wide) / 3.0)


def test_one_event_without_a_buffer_gives_average_precision():
    label, score = with_events(300, [(100, 60)])
    ours = vus_pr(label, score, max_buffer=0, num_thresholds=300)
    assert ours == pytest.approx(average_precision_score(label, score))


def test_scores_equal_to_the_labels_reach_one():
    label, _ = with_events(500, [(0, 7), (100, 40), (160, 3), (495, 5)])
    assert vus_pr(label, label.astype(float)) == pytest.approx(1.0)


def test_random_scores_reach_the_base_rate_and_buffers_add_their_rows():
    label, _ = with_events(50_000, [(start, 100) for start in range(500, 50_000, 1000)])
    score = np.random.default_rng(0).normal(size=50_000)
    # One row in ten is anomalous; buffers of up to 50 rows on either side at most double that share.
    assert vus_pr(label, score, max_buffer=0) == pytest.approx(0.1, abs=0.01)
    assert 0.1 < vus_pr(label, score) < 0.2


def test_a_shifted_detection_loses_less_with_a_buffer():
    label, _ = with_events(1000, [(500, 20)])
    shifted = np.roll(label, 15).astype(float)
    # With every buffer length, the 5 rows of overlap count in full; only a buffer credits the other 15.
    assert vus_pr(label, shifted, max_buffer=0) < vus_pr(label, shifted, max_buffer=100) < 1.0


def test_vus_depends_on_the_order_of_the_scores_only():
    label, score = with_events(400, [(50, 20), (200, 50)])
    assert vus_pr(label, np.exp(3.0 * score)) == vus_pr(label, score)


def test_no_event_has_no_volume():
    assert vus_pr(np.zeros(10, bool), np.arange(10.0)) is None
