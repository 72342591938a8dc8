"""A reader is warned of what makes a result doubtful, and of nothing else."""

import copy
from typing import Any

import pytest

from fedjax_anomaly.reporting.warning_signs import noise_warning, shared_warning_signs, warning_signs
from tests.reporting.test_report import RESULT

SOUND: dict[str, Any] = copy.deepcopy(RESULT)
SOUND["dataset"]["notes"] = []
SECURE = {"clipped_values": 0, "bare_sums": 0}
SOUND["communication"]["secure_aggregation"] = SECURE


def test_a_sound_run_has_no_warning() -> None:
    assert warning_signs(SOUND, num_rounds=100) == []


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"method": {"name": "rbf_svm", "saw_attack_labels": True}}, "rbf_svm saw attack labels in training"),
        ({"test": None}, "carry no labels"),
        ({"privacy": SOUND["privacy"] | {"noise_to_clip_ratio": 37.94}}, "about 37.9 times the clip norm"),
        ({"privacy": SOUND["privacy"] | {"epsilon": None}}, "too small for a privacy guarantee"),
        ({"communication": {"secure_aggregation": SECURE | {"clipped_values": 1234}}}, "clipped 1,234 values of the"),
        (
            {"communication": {"secure_aggregation": SECURE | {"bare_sums": 2}}},
            "2 sums of secure aggregation were",
        ),
        ({"timing": SOUND["timing"] | {"convergence_round": None}}, "did not decrease"),
        ({"timing": SOUND["timing"] | {"convergence_round": 91}}, "still falling in the last tenth of the 100 rounds"),
        (
            {"alarms": {"clients_with_borrowed_threshold": [1], "per_client": [{}, {}, {}]}},
            "1 of 3 clients have too few held-out rows for a threshold of their own and take that of a wider scope: 1.",
        ),
        ({"dataset": SOUND["dataset"] | {"notes": ["one half only"]}}, "Data: one half only"),
    ],
)
def test_each_sign_is_warned_of_alone(change: dict[str, Any], warning: str) -> None:
    (sign,) = warning_signs(SOUND | change, num_rounds=100)
    assert warning in sign


def test_rounds_that_end_at_nine_tenths_are_enough() -> None:
    timing = SOUND["timing"] | {"convergence_round": 90}
    assert warning_signs(SOUND | {"timing": timing}, num_rounds=100) == []


def test_a_method_without_rounds_is_not_told_to_converge() -> None:
    timing = SOUND["timing"] | {"rounds_per_second": None, "convergence_round": None}
    assert warning_signs(SOUND | {"timing": timing}, num_rounds=100) == []


def test_noise_up_to_the_clip_norm_is_no_warning() -> None:
    assert noise_warning(1.0, "client") is None
    assert noise_warning(1.2, "client") is not None
    assert "larger batches" in noise_warning(1.2, "example")


def test_signs_of_some_runs_are_counted() -> None:
    slow = SOUND | {"timing": SOUND["timing"] | {"convergence_round": 99}}
    noted = [one | {"dataset": {"notes": ["half"]}} for one in (slow, SOUND, slow)]
    slow_sign, note = sorted(shared_warning_signs(noted, num_rounds=100))
    assert slow_sign.startswith("2 of 3 runs: The loss")
    assert note == "Data: half"
