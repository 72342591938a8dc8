"""SPOT: a threshold from extreme-value theory that goes on learning from the stream."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fedjax_anomaly.detection.alarm_rules import AlarmRule
from fedjax_anomaly.detection.extremes import fit_tail, tail_quantile
from fedjax_anomaly.detection.threshold import check_scores

LEVEL = 0.98
"""Of the paper: peaks are the scores above this quantile of the calibration scores."""

_FEWEST_PEAKS = 10


class SpotState(NamedTuple):
    """What SPOT remembers of a stream, M peaks and D recent scores at most.

    Attributes:
      level: scores above it are peaks.
      peaks: the last M excesses over it, in a ring; -1 in places not yet used.
      limits: the threshold, as an excess, when each of them came; 0 for those of calibration scores.
      num_peaks: of the scores that are counted.
      num_scores: that are counted, all that were no alarm; from time to time both are halved, which keeps their ratio,
        so that it is that of about as many scores as the peaks are of.
      next_peak: the place of the ring that is written next.
      excess: the threshold, as an excess over the level.
      recent: the last D scores that were no alarm, in a ring; the level is above their mean.
      next_recent: the place of that ring that is written next.
    """

    level: Float[Array, ""]
    peaks: Float[Array, " M"]
    limits: Float[Array, " M"]
    num_peaks: Int[Array, ""]
    num_scores: Int[Array, ""]
    next_peak: Int[Array, ""]
    excess: Float[Array, ""]
    recent: Float[Array, " D"]
    next_recent: Int[Array, ""]


def spot_rule(target_fpr: float, *, level: float = LEVEL, num_peaks: int = 256, depth: int = 0) -> AlarmRule:
    """Peaks over threshold on a stream, SPOT, and with a `depth` DSPOT, for streams whose mean wanders.

    A score above the threshold is an alarm, and nothing is learned from it. One between the level and the threshold is
    a peak: it joins the peaks, and the threshold is fitted anew. All others are counted. Only the last peaks are kept,
    so that the state is of one size and the tail follows a slow change.

    The paper fits the peaks as if nothing were missing above them. But normal scores above the threshold are missing,
    so that its tail gets shorter as it learns, and its alarms too many. Here every peak of the stream stands for the
    normal alarms that are to be expected beside it as well, in the fit (of them only is known that they exceeded the
    threshold of that time) and in the counts. Alarms themselves still teach nothing, however many they are.

    Args:
      target_fpr: the probability that a normal score exceeds the threshold, q of the paper.
      level: the quantile of calibration scores above which scores are peaks.
      num_peaks: M, how many are kept.
      depth: D, how many scores the running mean is of that is taken away before; 0 takes none away.

    Returns:
      The rule. Its `step` fits only where the score is a peak, unless it is vmapped, which computes both branches.

    Raises:
      ValueError: when `target_fpr` is not in (0, (1 - level) / 2], or another argument is out of its bounds.

    Guarantees:
      On independent scores of one distribution, alarms come at the target rate, to the accuracy of a tail that was
      estimated from a finite sample; with a depth also where the mean wanders (tests: `tests/detection/test_spot.py`).
      It is no finite-sample guarantee as that of `conformal` is, and a growing scale is followed only in part.

    References:
      Siffer, Fouque, Termier and Largouët 2017, "Anomaly Detection in Streams with Extreme Value Theory", KDD,
      algorithms 1 to 3.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level={level} must lie in (0, 1).")
    most = round((1.0 - level) / 2.0, 9)
    if not 0.0 < target_fpr <= most:
        raise ValueError(
            f"target_fpr={target_fpr} must lie in (0, {most:.3g}], so that half of the scores above the level are "
            "peaks; take the conformal rule for a greater one."
        )
    if num_peaks < _FEWEST_PEAKS:
        raise ValueError(f"num_peaks={num_peaks} must be at least {_FEWEST_PEAKS} for a fit.")
    if depth < 0:
        raise ValueError(f"depth={depth} must not be negative; 0 takes no running mean away.")
    spot = _Spot(target_fpr, level, num_peaks, depth, memory=math.ceil(num_peaks / (1.0 - level) - 1e-9))
    needed = math.ceil(_FEWEST_PEAKS / (1.0 - level) - 1e-9) + depth

    def init(calibration_scores: np.ndarray) -> SpotState:
        scores = np.asarray(calibration_scores, np.float64)
        check_scores(scores, needed, rule="SPOT", way_out="or take the conformal rule")
        return spot.initial(scores)

    return AlarmRule(init, spot.step, needed)


class _Spot(NamedTuple):
    """The settings of SPOT; `memory` is of about how many scores the peaks that are kept are."""

    target_fpr: float
    level: float
    num_peaks: int
    depth: int
    memory: int

    def initial(self, scores: np.ndarray) -> SpotState:
        """The state of a new stream."""
        depth, num_peaks = self.depth, self.num_peaks
        recent = scores[len(scores) - depth :]
        if depth:
            scores = scores[depth:] - np.convolve(scores, np.full(depth, 1.0 / depth), "valid")[:-1]
        initial = np.quantile(scores, self.level)
        excesses = (scores[scores > initial] - initial)[-num_peaks:]
        weight = min(1.0, self.memory / len(scores))
        alarms = self.target_fpr * len(scores)  # Left out of the counts, as they will be on the stream.
        places = num_peaks - len(excesses)
        state = SpotState(
            level=jnp.float32(initial),
            peaks=jnp.asarray(np.pad(excesses, (0, places), constant_values=-1.0), jnp.float32),
            limits=jnp.zeros(num_peaks, jnp.float32),
            num_peaks=jnp.int32(round(weight * ((scores > initial).sum() - alarms))),
            num_scores=jnp.int32(round(weight * (len(scores) - alarms))),
            next_peak=jnp.int32(len(excesses) % num_peaks),
            excess=jnp.float32(0.0),
            recent=jnp.asarray(recent, jnp.float32),
            next_recent=jnp.int32(0),
        )
        return jax.tree.map(np.asarray, _fit(state, self.target_fpr))

    def step(self, state: SpotState, score: jax.Array) -> tuple[SpotState, jax.Array, jax.Array]:
        """Judges a score, and learns from it."""
        base = jnp.mean(state.recent) if self.depth else jnp.zeros_like(score)
        threshold = base + state.level + state.excess
        alarm = score > threshold
        above = score - base - state.level
        is_peak = ~alarm & (above > 0.0)
        learned = self._counted(state, score, alarm, above, is_peak)
        return jax.lax.cond(is_peak, lambda s: _fit(s, self.target_fpr), lambda s: s, learned), threshold, alarm

    def _counted(
        self, state: SpotState, score: jax.Array, alarm: jax.Array, above: jax.Array, is_peak: jax.Array
    ) -> SpotState:
        """The state with one score more, before the threshold is fitted anew."""
        peak, normal = is_peak.astype(jnp.int32), 1 - alarm.astype(jnp.int32)
        state = state._replace(
            peaks=jnp.where(is_peak, state.peaks.at[state.next_peak].set(above), state.peaks),
            limits=jnp.where(is_peak, state.limits.at[state.next_peak].set(state.excess), state.limits),
            num_peaks=state.num_peaks + peak,
            num_scores=state.num_scores + normal,
            next_peak=(state.next_peak + peak) % self.num_peaks,
        )
        if self.depth:
            state = state._replace(
                recent=jnp.where(alarm, state.recent, state.recent.at[state.next_recent].set(score)),
                next_recent=(state.next_recent + normal) % self.depth,
            )
        halve = state.num_scores >= 2 * self.memory
        return state._replace(
            num_peaks=jnp.where(halve, state.num_peaks // 2, state.num_peaks),
            num_scores=jnp.where(halve, state.num_scores // 2, state.num_scores),
        )


@jax.jit
def _fit(state: SpotState, target_fpr: Float[Array, ""]) -> SpotState:
    """The threshold from the peaks that are kept, at the rate of all that were seen."""
    seen = state.num_peaks.astype(jnp.float32) / state.num_scores.astype(jnp.float32)
    share = target_fpr / (seen * (1.0 - target_fpr) + target_fpr)  # Of alarms among the scores above the level.
    tail = fit_tail(state.peaks, state.peaks >= 0.0, state.limits, share / (1.0 - share))
    return state._replace(excess=tail_quantile(tail, share))
