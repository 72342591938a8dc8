"""Privacy of what is learned from data beside the training: the encoding, the summaries of clusters, the thresholds."""

import dataclasses
import math
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from fedjax_anomaly.config import Config
from fedjax_anomaly.data.clients import Federation
from fedjax_anomaly.data.private_encoding import EncodingNoise, histogram_sensitivity, moments_sensitivity
from fedjax_anomaly.detection.private_threshold import PrivateQuantile, affected_scores
from fedjax_anomaly.federated.clustering import data_summaries
from fedjax_anomaly.federated.private_summaries import SUMMARY_BOUND, private_data_summaries, summary_sensitivity
from fedjax_anomaly.privacy.accounting import Accountant
from fedjax_anomaly.privacy.example_accounting import ExampleLevelRelease

_DELTA_SHARE = 0.1
"""Of the run's delta, for names of categories."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Noise on what is learned beside the training. A record is in a training window or held out, never both.

    Attributes:
      releases: what each training window is in once.
      noise_multiplier: of each of them.
      vocabulary_delta: see `data.EncodingNoise`.
      quantile_noise_multiplier: of all the counts that a held-out window is in, together.
      given_categories: whether the categories with a bucket are not those of the run's own releases.
    """

    releases: tuple[str, ...]
    noise_multiplier: float
    vocabulary_delta: float
    quantile_noise_multiplier: float
    given_categories: bool

    def before(self, training: ExampleLevelRelease) -> ExampleLevelRelease:
        """The steps of the training, and the releases before them on the same windows."""
        releases = (self.noise_multiplier,) * len(self.releases)
        return dataclasses.replace(training, preprocessing=releases, preprocessing_delta=self.vocabulary_delta)

    def own_epsilon(self, delta: float, accountant: Accountant = "PLD") -> float:
        """That of one of the releases on training windows, by itself."""
        return _releases(1).epsilon(self.noise_multiplier, delta, accountant)

    def held_out_epsilon(self, delta: float, accountant: Accountant = "PLD") -> float:
        """That of a held-out window, which is in nothing but the counts for the thresholds."""
        return _releases(1).epsilon(self.quantile_noise_multiplier, delta, accountant)


def plan_preprocessing(config: Config, *, given_categories: bool = False) -> Preprocessing | None:
    """The noise that a config asks for; None without private preprocessing.

    The releases on training windows have `config.preprocessing_epsilon` together. Held-out windows are others, so the
    thresholds may take all of `dp_epsilon`; where only the noise of the training is given, they take the same as the
    releases.
    """
    if config.dp_preprocessing == "none":
        return None
    releases = ("ranges", "categories", "moments", *(["summaries"] if _clusters_by_summaries(config) else []))
    vocabulary_delta = _DELTA_SHARE * config.dp_delta
    noise = _releases(len(releases), vocabulary_delta).calibrate(config.preprocessing_epsilon, config.dp_delta)
    of_quantile = _releases(1).calibrate(config.dp_epsilon or config.preprocessing_epsilon, config.dp_delta)
    return Preprocessing(releases, noise, vocabulary_delta, of_quantile, given_categories)


def encoding_noise(config: Config, plan: Preprocessing | None, window_length: int) -> EncodingNoise | None:
    """What `data.federate` adds to the encoding."""
    if plan is None:
        return None
    return EncodingNoise(plan.noise_multiplier, plan.vocabulary_delta, window_length, config.seed)


def summaries(config: Config, plan: Preprocessing | None, federation: Federation) -> np.ndarray:
    """Float[C, 2F], what clients are clustered by; with noise where it decides anything."""
    if plan is None or "summaries" not in plan.releases:
        return data_summaries(federation.train)
    rng = np.random.default_rng(np.random.SeedSequence([config.seed, 0x5099]))
    bound = min(config.encoding_clip, SUMMARY_BOUND)
    return private_data_summaries(federation.train, federation.encoder.layout, bound, plan.noise_multiplier, rng)


def private_quantile(config: Config, plan: Preprocessing, window_length: int) -> PrivateQuantile:
    """The search for the thresholds."""
    affected = affected_scores(window_length, config.score_smoothing)
    return PrivateQuantile(config.threshold_quantile, config.threshold_scope, plan.quantile_noise_multiplier, affected)


def check_held_out(config: Config, plan: Preprocessing | None, federation: Federation) -> None:
    """Refuses held-out scores too few for the noise before anything is trained.

    Raises:
      ValueError: see `PrivateQuantile.thresholds`.
    """
    if plan is not None:
        num_scores = np.bincount(federation.validation.client, minlength=federation.num_clients)
        everyone = np.zeros(federation.num_clients, np.int32)
        private_quantile(config, plan, federation.window_length).borrows(num_scores, everyone)


def threshold_rng(config: Config) -> np.random.Generator:
    """Where the noise on the counts for the thresholds comes from."""
    return np.random.default_rng(np.random.SeedSequence([config.seed, 0x7E57]))


def mechanisms(
    config: Config, plan: Preprocessing, federation: Federation, cluster: Int[np.ndarray, " C"]
) -> list[dict[str, Any]]:
    """Every release beside the training, for the ledger.

    Args:
      config: the settings.
      plan: from `plan_preprocessing`.
      federation: the clients' data.
      cluster: the model of each client.
    """
    layout, length = federation.encoder.layout, federation.window_length
    told = (
        "a client's counts of categories, which pick those with a bucket; a category that one window alone holds is "
        f"told with probability at most {plan.vocabulary_delta:g}, which is taken off delta"
    )
    on_training = {
        "ranges": (
            "a client's histograms of numeric columns, which pick the ranges of values",
            histogram_sensitivity(layout.num_numeric, length),
        ),
        "categories": (told, histogram_sensitivity(len(layout.block_sizes), length)),
        "moments": (
            "a client's sums and squares of numeric columns, which standardise them",
            moments_sensitivity(layout.num_numeric, length),
        ),
        "summaries": ("a client's sums and squares of features, which it is clustered by", summary_sensitivity(layout)),
    }
    epsilon = plan.own_epsilon(config.dp_delta)
    search = private_quantile(config, plan, length)
    num_scores = np.bincount(federation.validation.client, minlength=federation.num_clients)
    answers = search.num_answers(num_scores, cluster)
    counts = f"a client's {answers} counts of held-out scores above a value, in the search for a threshold"
    moved = search.affected_scores * math.sqrt(answers)
    return [
        *(_mechanism(*on_training[name], plan.noise_multiplier, epsilon, "training") for name in plan.releases),
        _mechanism(counts, moved, plan.quantile_noise_multiplier, plan.held_out_epsilon(config.dp_delta), "held-out"),
    ]


def _mechanism(
    on: str, sensitivity: float, noise_multiplier: float, epsilon: float, windows: Literal["training", "held-out"]
) -> dict[str, Any]:
    std = noise_multiplier * sensitivity
    return {
        "mechanism": "gaussian",
        "on": on,
        "windows": windows,
        "sensitivity": sensitivity,
        "noise_multiplier": noise_multiplier,
        "noise_std": std,
        "epsilon": epsilon,
        "in_words": f"Gaussian noise of standard deviation {std:.3g} on each of {on}; one {windows} window moves them "
        f"by at most {sensitivity:.3g} together (L2): epsilon {epsilon:.3g} by itself",
    }


def _clusters_by_summaries(config: Config) -> bool:
    return config.method == "federated" and config.num_clusters != "1" and config.clustering == "similarity"


def _releases(number: int, delta: float = 0.0) -> ExampleLevelRelease:
    """So many Gaussian releases that have a window in them: as steps are that take every window."""
    return ExampleLevelRelease(number, num_windows=(1,), batch_size=1, local_epochs=1, preprocessing_delta=delta)
