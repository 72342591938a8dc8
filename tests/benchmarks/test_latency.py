"""What latency.py counts as the latency of an event, and its ratios."""

import time

import latency
import numpy as np
import pytest
from rivals import live_ours, live_protocol

STALL_SECONDS, STEP_SECONDS = 0.05, 0.005


@pytest.fixture
def events():
    """One event that is not timed, and ten that come every 5 ms."""
    due = np.concatenate([[-1.0], STEP_SECONDS * np.arange(10)])
    zeros = np.zeros(11, int)
    return live_protocol.Events(np.zeros((11, 1)), zeros, np.arange(11.0), due, np.zeros(1, int), ["only"])


class Stalls:
    """A detector that stalls at the first event that is timed, and then takes no time."""

    def __init__(self):
        self.calls = []

    def decide(self, first, last):
        self.calls.append((first, last))
        if first == 1:
            time.sleep(STALL_SECONDS)
        return np.arange(first, last)


def stalled(latency_seconds: np.ndarray) -> None:
    """Events that came during the stall waited for its end; those after it did not."""
    assert latency_seconds[0] >= STALL_SECONDS
    assert latency_seconds[4] >= STALL_SECONDS - 4 * STEP_SECONDS
    assert latency_seconds[4] < latency_seconds[0] - 3 * STEP_SECONDS


def test_a_replayed_event_that_has_to_wait_counts_its_waiting(events):
    detector = Stalls()
    measured = live_protocol.drive(detector, events, "replay", 10)
    stalled(measured.latency_seconds)
    assert detector.calls[:2] == [(0, 1), (1, 2)]
    assert np.array_equal(measured.score, np.arange(1, 11))


def test_our_detector_is_measured_in_the_same_way(events):
    record = [live_ours.Record(i, "", {}) for i in range(11)]
    replay = live_ours.Replay(record, events, "replay", 10)
    detector = Stalls()
    while (records := replay.read(256, 0.2)) is not None:
        if records:
            scores = detector.decide(records[0].position, records[-1].position + 1)
            decided = zip(records, scores, strict=True)
            replay.scored([live_ours.ScoredEvent("", 0, 0.0, r.position, s, 0.0, False, None) for r, s in decided])
    stalled(replay.latency)
    assert np.array_equal(replay.score, np.arange(1, 11))


def test_ratios_are_above_one_where_ours_is_better_and_leave_out_an_overloaded_rival():
    workload = latency.WORKLOADS[0]

    def rows(mode, name, seconds, elapsed):
        return latency.summary(
            workload, mode, name, [{"latency_seconds": np.full(100, seconds), "elapsed_seconds": np.float64(elapsed)}]
        )

    table = [
        rows("sustained", "ours", 1e-3, 1.0),
        rows("sustained", "torch", 1e-3, 4.0),
        rows("replay", "ours", 1e-3, 0.5),
        rows("replay", "torch", 3e-3, 0.5),
        rows("replay", "river", 9.0, 50.0),
    ]
    assert latency.ratios(table) == pytest.approx(
        {
            "1_normal_sustained_vs_torch": 4.0,
            "paper_vs_1_normal_replay_p99": 105.0,
            "torch_vs_1_normal_replay_p50": 3.0,
            "torch_vs_1_normal_replay_p99": 3.0,
        }
    )
