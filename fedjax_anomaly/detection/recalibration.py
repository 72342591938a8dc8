"""New calibration scores from those of a live stream, where alarms hide what normal scores are beyond the threshold."""

import numpy as np
from jaxtyping import Bool, Float

from fedjax_anomaly.detection.extremes import fit_tail_on_host, tail_quantile

MOST_ALARMED = 0.2
"""Of the scores: where more are alarms, no threshold is set from them."""

_TAIL = 0.25


def without_outliers(
    scores: Float[np.ndarray, " N"], alarm: Bool[np.ndarray, " N"], threshold: float
) -> Float[np.ndarray, " N"]:
    """Scores of a stream with those of alarms replaced by what normal scores above the threshold are likely to be.

    Leaving alarms out would make every new threshold lower than the one before it; taking them as they are would let a
    single fault set it. So of an alarm only is used that it exceeded the threshold: a tail is fitted to the greatest
    quarter of scores, alarms censored, and alarms become its quantiles.

    Args:
      scores: of a stream, since it changed.
      alarm: which were alarms.
      threshold: that these exceeded.

    Returns:
      The scores that were no alarm as they are, and new ones for the rest, all above the threshold.

    Raises:
      ValueError: when more than `MOST_ALARMED` of the scores are alarms, or there are none.

    Guarantees:
      Scores of a distribution that has become wider get its quantiles back, whatever the alarms' own values (test:
      `tests/detection/test_recalibration.py::test_the_quantile_of_a_wider_distribution_comes_back`).
    """
    num_alarms = int(np.count_nonzero(alarm))
    if not num_alarms <= MOST_ALARMED * len(scores) or not len(scores):
        raise ValueError(
            f"{num_alarms} of {len(scores)} scores are alarms; a threshold is set from at most {MOST_ALARMED:.0%}, "
            "beyond which the stream is ill or the model too old: train anew."
        )
    normal = np.asarray(scores, np.float64)[~alarm]
    if not num_alarms:
        return normal
    level = np.quantile(normal, (1.0 - _TAIL) * len(scores) / len(normal))
    excesses = normal[normal > level] - level
    tail = fit_tail_on_host(excesses, max(threshold - level, 0.0), num_alarms)
    ratios = (np.arange(num_alarms) + 0.5) / (len(excesses) + num_alarms)
    likely = level + tail_quantile(tail, ratios, np)
    return np.concatenate([normal, np.maximum(likely, threshold)])
