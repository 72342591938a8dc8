"""Client-level privacy by the server's noise: its release, its aggregator, and what was done in words."""

from typing import Any

import jax

from fedjax_anomaly.config import Config
from fedjax_anomaly.federated.adaptive_clipping import adaptively_private
from fedjax_anomaly.federated.aggregation import private, private_over_rounds
from fedjax_anomaly.federated.algorithm import Aggregator
from fedjax_anomaly.privacy.accounting import ClientLevelRelease
from fedjax_anomaly.privacy.adaptive_clipping import AdaptiveClip, split_noise
from fedjax_anomaly.privacy.correlated_noise import (
    CorrelatedRelease,
    correlated_gaussian,
    noise_growth,
    optimal_strategy,
)
from fedjax_anomaly.privacy.mechanisms import gaussian


def client_release(config: Config) -> ClientLevelRelease:
    """What a run of `dp_unit=client` releases.

    Args:
      config: the settings, with the number of clients as it turned out.

    Raises:
      ValueError: for correlated noise where every client is in every round.
    """
    release = ClientLevelRelease(config.num_rounds, config.num_clients, config.cohort_size, config.sampling)
    if config.dp_mechanism != "correlated":
        return release
    if release.min_separation == 1:
        raise ValueError(
            "dp_mechanism=correlated would have no effect: where every client is in every round, no correlation makes "
            "the sum over all rounds more exact than independent noise; give --client_sampling=cyclic with "
            "--clients_per_round, or --dp_mechanism=gaussian."
        )
    strategy = optimal_strategy(config.num_rounds, release.min_separation)
    return CorrelatedRelease(config.num_rounds, config.num_clients, config.cohort_size, config.sampling, strategy)


def private_aggregator(
    config: Config, inner: Aggregator, noise_multiplier: float | jax.Array, num_clusters: int
) -> Aggregator:
    """The aggregator that a config of `dp_unit=client` names.

    Args:
      config: the settings, with the number of clients as it turned out.
      inner: sums; in the clear or securely.
      noise_multiplier: z; it may be traced.
      num_clusters: K.
    """
    divisor = config.cohort_size / num_clusters
    if config.clip_quantile:
        clip = AdaptiveClip(config.clip_norm, config.clip_quantile, config.clip_learning_rate)
        return adaptively_private(inner, clip, noise_multiplier, divisor)
    release = client_release(config)
    if isinstance(release, CorrelatedRelease):
        mechanism = correlated_gaussian(config.clip_norm, noise_multiplier, release.strategy)
        return private_over_rounds(inner, mechanism, divisor)
    return private(inner, gaussian(config.clip_norm, noise_multiplier), divisor)


def update_noise_multiplier(
    config: Config, release: ClientLevelRelease, noise_multiplier: float, per_sum: float
) -> float:
    """Deviation of the noise on a round's sum of updates, in units of the clip norm.

    Args:
      config: the settings.
      release: from `client_release`.
      noise_multiplier: z.
      per_sum: clients expected in a sum.
    """
    if config.clip_quantile:
        return float(split_noise(noise_multiplier, per_sum).update_multiplier)
    if isinstance(release, CorrelatedRelease):
        return noise_multiplier * noise_growth(release.strategy, release.num_rounds)
    return noise_multiplier


def client_mechanisms(
    config: Config, release: ClientLevelRelease, noise_multiplier: float, num_clusters: int
) -> list[dict[str, Any]]:
    """Every mechanism of a run of `dp_unit=client`, with its noise, its uses and a sentence.

    Args:
      config: the settings.
      release: of the rounds that were done.
      noise_multiplier: z.
      num_clusters: K.
    """
    per_sum = config.cohort_size / num_clusters
    noise_std = update_noise_multiplier(config, release, noise_multiplier, per_sum) * config.clip_norm
    uses = {
        "sums": release.num_rounds,
        "participations": release.participations,
        "sampling_rate": None if release.sampling == "cyclic" else release.clients_per_round / release.num_clients,
    }
    of_updates = {"mechanism": "gaussian", "on": "sum of client updates", **uses, "noise_std": noise_std}
    if config.clip_quantile:
        split = split_noise(noise_multiplier, per_sum)
        words = (
            f"Gaussian noise of {split.update_multiplier:.3g} clip norms on the sum of updates, each clipped to a norm "
            f"that starts at {config.clip_norm:g} and moves toward the {config.clip_quantile:g} quantile of all "
            f"updates' norms, in each of {_turns(release)}"
        )
        return [of_updates | {"in_words": words}, uses | _count(float(split.count_std), noise_multiplier)]
    if isinstance(release, CorrelatedRelease):
        return [of_updates | _correlated(config, release, noise_multiplier)]
    words = (
        f"Gaussian noise of standard deviation {noise_std:.3g} on the sum of updates, each clipped to norm "
        f"{config.clip_norm:g}, in each of {_turns(release)}"
    )
    return [of_updates | {"in_words": words}]


def _count(noise_std: float, noise_multiplier: float) -> dict[str, Any]:
    words = (
        f"Gaussian noise of standard deviation {noise_std:.3g} on the number of clients whose update is within the "
        "clip norm, less half of all, in the same rounds; with the noise on the sum of updates it costs what a "
        f"multiplier of {noise_multiplier:.3g} on that sum alone would cost, and epsilon is that of both"
    )
    on = "count of clients within the clip norm"
    return {"mechanism": "gaussian", "on": on, "noise_std": noise_std, "in_words": words}


def _correlated(config: Config, release: CorrelatedRelease, noise_multiplier: float) -> dict[str, Any]:
    bands, sensitivity = len(release.strategy), release.sensitivity
    words = (
        f"Gaussian noise of standard deviation {noise_multiplier * config.clip_norm:.3g}, correlated over rounds by "
        f"the inverse of a Toeplitz matrix of {bands} bands, on the sum of updates, each clipped to norm "
        f"{config.clip_norm:g}, in each of {_turns(release)}; that matrix times the sums moves by at most "
        f"{sensitivity:.3g} clip norms with all turns of one client, which is accounted as one Gaussian mechanism"
    )
    return {"mechanism": "correlated gaussian", "bands": bands, "sensitivity": sensitivity, "in_words": words}


def _turns(release: ClientLevelRelease) -> str:
    """How many rounds, and with whom."""
    clients, cohort = release.num_clients, release.clients_per_round
    who = {
        "full": "every client",
        "fixed_size": f"exactly {cohort} of {clients} clients",
        "poisson": f"each of {clients} clients with probability {cohort / clients:.3g}",
        "cyclic": f"{cohort} of {clients} clients in a fixed order, each at most {release.participations} times",
    }[release.sampling]
    return f"{release.num_rounds} rounds with {who}"
