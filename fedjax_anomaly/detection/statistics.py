"""What a few seeds say: intervals of a mean, and whether two methods differ."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

_RESAMPLES = 10_000


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float] | None:
    """The bootstrap interval of the mean over seeds.

    It is the bias-corrected and accelerated (BCa) interval, or the percentile interval where BCa is undefined (equal
    values). With fewer than about ten values it is too narrow: its true coverage is below `confidence`.

    Args:
      values: [S], one per seed.
      confidence: in (0, 1).
      seed: of the resampling.

    Returns:
      (low, high), or None for a single value, which says nothing about the spread.

    Raises:
      ValueError: when there is no value or `confidence` is not in (0, 1).

    References:
      Efron 1987, "Better bootstrap confidence intervals", sections 2 and 6.
    """
    if len(values) == 0:
        raise ValueError("values is empty; give one value per seed.")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence} must lie in (0, 1).")
    if len(values) == 1:
        return None
    low, high = _bootstrap(values, confidence, seed, "BCa")
    if not np.isfinite([low, high]).all():
        low, high = _bootstrap(values, confidence, seed, "percentile")
    return low, high


def _bootstrap(values: Sequence[float] | np.ndarray, confidence: float, seed: int, method: Any) -> tuple[float, float]:
    from scipy import stats  # Slow to import, and not needed before the first round.

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        interval = stats.bootstrap(
            (np.asarray(values, dtype=float),),
            np.mean,
            n_resamples=_RESAMPLES,
            confidence_level=confidence,
            method=method,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return float(interval.low), float(interval.high)


def summary(values: Sequence[float | None]) -> dict[str, Any] | None:
    """The mean of a metric over seeds, with its spread.

    Args:
      values: [S], one per seed; None where the metric is undefined, which is left out of all but `values`.

    Returns:
      `mean`; `std`, the sample standard deviation (S - 1 in the denominator); `low` and `high` of
      `bootstrap_interval`; `values` as given. `std`, `low` and `high` are None for a single value. None when all values
      are None.
    """
    known = np.array([value for value in values if value is not None], dtype=float)
    if len(known) == 0:
        return None
    low, high = bootstrap_interval(known) or (None, None)
    std = float(known.std(ddof=1)) if len(known) > 1 else None
    return {"mean": float(known.mean()), "std": std, "low": low, "high": high, "values": list(values)}


def paired_test(a: Sequence[float | None], b: Sequence[float | None], seed: int = 0) -> dict[str, Any] | None:
    """The two-sided sign-flip permutation test of the mean difference between two methods on the same seeds.

    Under the hypothesis that the methods are exchangeable on every seed, each difference is as likely to have the
    opposite sign. All 2^S sign patterns are enumerated for S <= 13 pairs, so that the p-value is exact; above, 10,000
    are drawn. S pairs allow no p-value below 2 / 2^S: 0.0625 for 5 seeds, 0.03125 for 6, 0.002 for 10. With 5 seeds
    or fewer no difference, however large, is significant at 0.05.

    Args:
      a: [S], a metric of one method per seed.
      b: [S], of the other method, same seeds in the same order.
      seed: of the interval's resampling and, for S > 13, of the sign patterns.

    Returns:
      `mean_difference` (a - b) with `low` and `high` of `bootstrap_interval` (None for one pair); `p_value`;
      `num_pairs`; `wins`, the pairs with a > b. A pair with a None is left out; None when no pair is left.

    Raises:
      ValueError: when `a` and `b` differ in length.

    References:
      Fisher 1935, "The design of experiments", section 21.
    """
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} values, but b has {len(b)}; give both for the same seeds.")
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    if not pairs:
        return None
    difference = np.array([x - y for x, y in pairs])
    low, high = bootstrap_interval(difference, seed=seed) or (None, None)
    return {
        "mean_difference": float(difference.mean()),
        "low": low,
        "high": high,
        "p_value": _sign_flip_p_value(difference, seed),
        "num_pairs": len(pairs),
        "wins": int((difference > 0.0).sum()),
    }


def _sign_flip_p_value(difference: np.ndarray, seed: int) -> float:
    if len(difference) == 1:
        return 1.0
    from scipy import stats

    test = stats.permutation_test(
        (difference,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_RESAMPLES,
        alternative="two-sided",
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)
