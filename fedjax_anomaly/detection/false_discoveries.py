"""Control of false discoveries over many streams: of all alarms, a bounded share is false.

A threshold per stream bounds the false alarms of each; with a thousand streams there are a thousand times as many, and
where faults are rare nearly all alarms are false. Here every score becomes a p-value, whatever its stream, and one
procedure (LORD++) decides on them in the order of their coming: alarms that were raised allow more of them, a long time
without any allows fewer.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from fedjax_anomaly.detection.extremes import fit_tail_on_host, tail_probability, tail_quantile

PERIOD = 10_000
"""Tests after which `OnlineDiscoveries` begins anew, unless told otherwise."""

_REMEMBERED = 64
_CHUNK = 64
_GAMMA = 0.07720838
"""Makes the spending sequence of `_gamma` sum to 1."""
_LEVEL = 0.98
_FEWEST_PEAKS = 10


class TailPValues:
    """p-values of scores among held-out normal scores.

    Up to a high level they are conformal, (1 + number of normal scores at least as large) / (N + 1). Beyond it they
    follow the generalised Pareto tail of the normal scores, as none of N scores can tell a p-value below 1 / (N + 1),
    and over many streams smaller ones are asked for.

    Guarantees:
      Uniform under exchangeability, or larger, up to the level, and to the accuracy of the tail beyond it (test:
      `tests/detection/test_false_discoveries.py::test_pvalues_of_normal_scores_are_uniform`).
    """

    def __init__(self, calibration_scores: Float[np.ndarray, " N"]) -> None:
        """Fits the tail.

        Raises:
          ValueError: when there are too few scores for it.
        """
        self._ordered = np.sort(np.asarray(calibration_scores, np.float64))
        if len(self._ordered) < pvalue_scores_needed():
            raise ValueError(
                f"{len(self._ordered)} held-out normal scores are too few for p-values of a tail, which need "
                f"{pvalue_scores_needed()}; give a larger --validation_fraction."
            )
        self._level = float(np.quantile(self._ordered, _LEVEL))
        excesses = self._ordered[self._ordered > self._level] - self._level
        self._share = (1.0 + len(excesses)) / (len(self._ordered) + 1.0)
        self._tail = fit_tail_on_host(excesses)

    def __call__(self, scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The p-value of each score."""
        scores = np.asarray(scores, np.float64)
        count = len(self._ordered)
        conformal = (1.0 + count - np.searchsorted(self._ordered, scores, side="left")) / (count + 1.0)
        beyond = self._share * tail_probability(self._tail, scores - self._level, np)
        return np.where(scores > self._level, beyond, conformal)

    def threshold(self, p_values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The scores that have these p-values, as near as normal scores tell."""
        p_values = np.asarray(p_values, np.float64)
        beyond = self._level + tail_quantile(self._tail, np.minimum(p_values / self._share, 1.0), np)
        rank = np.clip(np.ceil((1.0 - p_values) * (len(self._ordered) + 1.0)).astype(int), 1, len(self._ordered))
        return np.where(p_values < self._share, beyond, self._ordered[rank - 1])


def pvalue_scores_needed() -> int:
    """The least number of scores for `TailPValues`."""
    return math.ceil(_FEWEST_PEAKS / (1.0 - _LEVEL) - 1e-9)


class OnlineDiscoveries:
    """LORD++: p-values of all streams one after the other, and which of them are alarms.

    The level of the next one is a sum over past alarms. Only the last 64 are remembered, which makes levels smaller and
    the bound hold all the more. Without alarms levels go to zero, so that after a long silence not even a fault could
    be told; therefore the procedure begins anew after every period of tests, and what it promises it promises of each.

    Guarantees:
      The expected share of false ones among a period's alarms is at most `rate`, whenever one looks, where p-values of
      normal scores are uniform or larger and independent of each other and of all others. Scores of one stream whose
      windows overlap are not independent, nor are streams that share a cause; what is left of the bound is then a
      matter of measurement (tests: `tests/detection/test_false_discoveries.py`, by simulation, independent and not).

    References:
      Ramdas, Yang, Wainwright and Jordan 2017, "Online control of the false discovery rate with decaying memory",
      NeurIPS (LORD++), with the spending sequence of Javanmard and Montanari 2018, "Online rules for control of false
      discovery rate and false discovery exceedance", Annals of Statistics.
    """

    def __init__(self, rate: float, period: int = PERIOD) -> None:
        """Begins with half of the rate to spend.

        Args:
          rate: of false ones among alarms.
          period: tests after which it begins anew.

        Raises:
          ValueError: when `rate` is not in (0, 1), or `period` is less than 1.
        """
        if not 0.0 < rate < 1.0:
            raise ValueError(f"false_discovery_rate={rate} must lie in (0, 1).")
        if period < 1:
            raise ValueError(f"false_discovery_period={period} must be at least 1.")
        self._rate, self._period = rate, period
        self._num_tests = 0
        self._num_alarms = 0
        self._alarms: list[int] = []

    def judge(self, p_values: Float[np.ndarray, " B"]) -> tuple[Bool[np.ndarray, " B"], Float[np.ndarray, " B"]]:
        """Decides on the next p-values.

        Returns:
          Which are alarms, and the level that each was compared with.
        """
        alarm, level = np.zeros(len(p_values), bool), np.zeros(len(p_values))
        done = 0
        while done < len(p_values):
            if self._num_tests == self._period:
                self._num_tests, self._num_alarms, self._alarms = 0, 0, []
            chunk = p_values[done : done + min(_CHUNK, self._period - self._num_tests)]
            levels = self._levels(len(chunk))
            found = np.flatnonzero(chunk <= levels)
            count = int(found[0]) + 1 if len(found) else len(chunk)
            level[done : done + count] = levels[:count]
            self._num_tests += count
            done += count
            if len(found):
                alarm[done - 1] = True
                self._num_alarms += 1
                self._alarms = [*self._alarms, self._num_tests][-_REMEMBERED:]
        return alarm, level

    def _levels(self, count: int) -> Float[np.ndarray, " count"]:
        """Of the next tests, if none of them is an alarm."""
        test = self._num_tests + 1 + np.arange(count)
        weights = np.full(len(self._alarms), self._rate)
        if self._num_alarms and self._num_alarms == len(self._alarms):
            weights[0] = self._rate / 2.0  # The first alarm of all; the other half was there from the beginning.
        since = test[:, None] - np.array(self._alarms, int)
        return _gamma(test) * self._rate / 2.0 + _gamma(since) @ weights

    def snapshot(self) -> dict[str, Any]:
        """The state, as JSON."""
        return {"num_tests": self._num_tests, "num_alarms": self._num_alarms, "alarms": self._alarms}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a snapshot."""
        self._num_tests, self._num_alarms = state["num_tests"], state["num_alarms"]
        self._alarms = list(state["alarms"])


def _gamma(index: np.ndarray) -> np.ndarray:
    """The share that is spent on a test, by its number from 1 on; decreasing, and 1 in all."""
    logarithm = np.log(np.maximum(index, 2))
    return _GAMMA * logarithm / (index * np.exp(np.sqrt(np.log(np.maximum(index, 1)))))
