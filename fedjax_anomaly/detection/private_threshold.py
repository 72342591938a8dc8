"""Quantiles of held-out normal scores under differential privacy: a binary search over noisy counts.

Each client answers how many of its scores lie above a value, with noise of its own on every answer; whoever asks adds
the answers up and halves the range. No score leaves a client.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Int

from fedjax_anomaly.detection.threshold import ThresholdScope

SCORE_RANGE = (1e-5, 1e3)
"""Public: errors of standardised values lie in it, and a threshold outside of it comes out as its nearer end."""

SEARCH_STEPS = 8
"""Counts of one search; the 2^8 values it can end at are 7.5 % apart."""

_LEAST_TAIL = 2.0
"""Scores expected above a threshold, in standard deviations of the noise on their count."""


@dataclasses.dataclass(frozen=True)
class PrivateQuantile:
    """The search for a quantile, and what one held-out window of a client can change in it.

    Attributes:
      quantile: of the scores.
      scope: whose scores set a client's threshold.
      noise_multiplier: z of all the answers of a client together, which are one Gaussian release.
      affected_scores: the most scores that one window moves, see `affected_scores`.
    """

    quantile: float
    scope: ThresholdScope
    noise_multiplier: float
    affected_scores: int

    def __post_init__(self) -> None:
        if not 0.0 < self.quantile < 1.0:
            raise ValueError(f"threshold_quantile={self.quantile} must lie in (0, 1).")

    def num_answers(self, num_scores: Int[np.ndarray, " C"], cluster: Int[np.ndarray, " C"]) -> int:
        """How many counts a client gives: one search for each scope that someone's threshold comes from."""
        return SEARCH_STEPS * len(set(self._scopes(num_scores, cluster)))

    def noise_std(self, num_answers: int) -> float:
        """Of the noise on each answer: all of them differ by at most the affected scores, so L2 grows by their root."""
        return self.noise_multiplier * self.affected_scores * math.sqrt(num_answers)

    def borrows(self, num_scores: Int[np.ndarray, " C"], cluster: Int[np.ndarray, " C"]) -> np.ndarray:
        """Bool[C], the clients whose threshold is that of a wider scope than was asked for."""
        return np.array([scope != self.scope for scope in self._scopes(num_scores, cluster)])

    def thresholds(
        self,
        scores: Float[np.ndarray, " N"],
        client: Int[np.ndarray, " N"],
        cluster: Int[np.ndarray, " C"],
        rng: np.random.Generator,
    ) -> Float[np.ndarray, " C"]:
        """One threshold per client.

        Args:
          scores: of held-out normal rows.
          client: the client of each score; how many each has is public.
          cluster: the cluster of each client.
          rng: of the noise.

        Raises:
          ValueError: when the scores of all clients together are too few for the noise.

        Guarantees:
          Close to the true quantile for many scores; each answer has the noise that `noise_std` says (tests:
          `tests/detection/test_private_threshold.py`).
        """
        num_scores = np.bincount(client, minlength=len(cluster))
        scopes = self._scopes(num_scores, cluster)
        std = self.noise_std(self.num_answers(num_scores, cluster))
        sorted_scores = [np.sort(scores[client == c]) for c in range(len(cluster))]
        found: dict[tuple[str, int], float] = {}
        for c, scope in enumerate(scopes):
            group = _group(scope, c, cluster)
            if (scope, group[0]) not in found:
                found[scope, group[0]] = self._search([sorted_scores[member] for member in group], std, rng)
        return np.array([found[scope, _group(scope, c, cluster)[0]] for c, scope in enumerate(scopes)])

    def _search(self, own_scores: list[np.ndarray], std: float, rng: np.random.Generator) -> float:
        """The least value of the grid that too many scores do not exceed, as far as the noise lets one tell."""
        grid = np.geomspace(*SCORE_RANGE, 2**SEARCH_STEPS + 1)
        wanted = (1.0 - self.quantile) * sum(map(len, own_scores))
        low, high = 0, 2**SEARCH_STEPS
        for _ in range(SEARCH_STEPS):
            middle = (low + high) // 2
            answers = [len(own) - np.searchsorted(own, grid[middle], side="right") for own in own_scores]
            total = np.sum(answers + rng.normal(0.0, std, len(answers)))
            low, high = (middle, high) if total > wanted else (low, middle)
        return float(grid[high])

    def _scopes(self, num_scores: np.ndarray, cluster: np.ndarray) -> list[ThresholdScope]:
        """Whose scores set each client's threshold: those asked for, or of a wider scope where they are too few.

        What is too few depends on the noise and this on the number of searches, hence on the scopes: the noise is taken
        for as many searches as there are scopes from the one asked for on.
        """
        wider: tuple[ThresholdScope, ...] = ("client", "cluster", "global")
        allowed = wider[wider.index(self.scope) :]
        std = self.noise_std(SEARCH_STEPS * len(allowed))
        scopes: list[ThresholdScope] = []
        for c in range(len(cluster)):
            for scope in allowed:
                group = _group(scope, c, cluster)
                tail = (1.0 - self.quantile) * num_scores[group].sum()
                if tail >= _LEAST_TAIL * std * math.sqrt(len(group)):
                    scopes.append(scope)
                    break
            else:
                raise ValueError(
                    f"{num_scores.sum()} held-out normal scores leave {tail:.3g} above the threshold, but their count "
                    f"gets noise of standard deviation {std * math.sqrt(len(cluster)):.3g}; give a larger "
                    "--validation_fraction, a lower --threshold_quantile, a larger epsilon, or --dp_preprocessing=none."
                )
        return scopes


def affected_scores(window_length: int, score_smoothing: int) -> int:
    """The most scores that one of the held-out windows, which do not overlap, has a part in.

    Its own rows', and those of the rows after it that are averaged with them.

    Args:
      window_length: T.
      score_smoothing: rows that a score is averaged over.
    """
    return window_length + score_smoothing - 1


def _group(scope: ThresholdScope, client: int, cluster: np.ndarray) -> np.ndarray:
    """The clients whose scores set a client's threshold."""
    everyone = np.arange(len(cluster))
    return {"client": everyone[[client]], "cluster": everyone[cluster == cluster[client]], "global": everyone}[scope]
