"""Alarm rules: what judges the scores of a stream one by one, as pure functions of a state of fixed size."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float

from fedjax_anomaly.detection.threshold import THRESHOLD_FUNCTIONS, ThresholdRule, ThresholdScope, scores_needed
from fedjax_anomaly.types import PyTree


class AlarmRule(NamedTuple):
    """A rule that says of every score of a stream whether it is an alarm.

    Attributes:
      init: scores of held-out normal rows -> the state of a new stream, NumPy arrays, on the host.
      step: (state, score) -> (state, threshold, alarm), of one stream; `threshold` is what the score was compared with.
        Pure and compiled: jit it, scan it over scores, vmap it over streams.
      scores_needed: how many scores `init` needs.
      scope: whose scores these are; None leaves that to the run.
    """

    init: Callable[[Float[np.ndarray, " N"]], PyTree]
    step: Callable[[PyTree, Float[Array, ""]], tuple[PyTree, Float[Array, ""], Bool[Array, ""]]]
    scores_needed: int
    scope: ThresholdScope | None = None


def constant_rule(rule: ThresholdRule, level: float) -> AlarmRule:
    """A threshold set once, from the scores of held-out normal rows.

    Args:
      rule: one of `client_thresholds`.
      level: as there.

    Guarantees:
      Alarms are those of the threshold's own function (test:
      `tests/detection/test_alarm_rules.py::test_constant_rules_alarm_above_the_threshold_of_their_name`).
    """
    compute = THRESHOLD_FUNCTIONS[rule]

    def init(calibration_scores: np.ndarray) -> np.ndarray:
        return np.asarray(compute(calibration_scores, level), np.float32)

    def step(state: Array, score: Array) -> tuple[Array, Array, Array]:
        return state, state, score > state

    return AlarmRule(init, step, scores_needed(rule, level))
