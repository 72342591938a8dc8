"""Who adds the noise of client-level privacy when it is not the server: what is accounted, and what is said of it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from fedjax_anomaly.config import Config
from fedjax_anomaly.experiment.secure import server_sees
from fedjax_anomaly.federated.aggregation import divided_by, weighted_sum
from fedjax_anomaly.federated.algorithm import Aggregator
from fedjax_anomaly.federated.distributed_noise import distributed_noise
from fedjax_anomaly.privacy.distributed_accounting import DistributedRelease, least_noise_multiplier
from fedjax_anomaly.privacy.local_accounting import LocalRelease


def release_of_clients(
    config: Config, num_parameters: int, assignment: np.ndarray
) -> LocalRelease | DistributedRelease:
    """What the server receives of clients that do not trust it with their updates.

    Args:
      config: with `dp_trust` other than central, and the number of clients as it turned out.
      num_parameters: of one model.
      assignment: Int[C], who shares a model.

    Raises:
      ValueError: for distributed noise whose number of shares is left to chance.
    """
    sampling = config.sampling
    if config.trust == "local":
        return LocalRelease(config.num_rounds, sampling)
    sizes = np.bincount(assignment)
    if sampling == "poisson" or (sampling == "fixed_size" and len(sizes) > 1):
        drawn = "client_sampling=poisson" if sampling == "poisson" else f"a cohort drawn over {len(sizes)} clusters"
        raise ValueError(
            f"dp_trust=distributed divides the noise among the clients of a sum, whose number {drawn} leaves to "
            "chance; give --client_sampling=fixed_size with --num_clusters=1, or take all clients by "
            "--clients_per_round=0."
        )
    smallest = config.cohort_size if sampling == "fixed_size" else int(sizes.min())
    return DistributedRelease(config.num_rounds, smallest, num_parameters, sampling)


def check_noise(config: Config, noise_multiplier: float) -> None:
    """Refuses distributed noise so small that the grid made for it would overflow the sum.

    Raises:
      ValueError: naming the noise and the least there can be.
    """
    if config.dp_unit != "client" or config.trust != "distributed":
        return
    least = least_noise_multiplier(config.cohort_size)
    if noise_multiplier < least:
        raise ValueError(
            f"a noise multiplier of {noise_multiplier:.3g} is less than the {least:.3g} for which the values of "
            f"{config.cohort_size} clients fit a sum of 32 bits under dp_trust=distributed; give a smaller "
            "--dp_epsilon, a larger --dp_noise_multiplier or a smaller --clients_per_round."
        )


def aggregator_of_clients(
    config: Config, noise_multiplier: float | jax.Array, divisor: float, mesh: Mesh | None
) -> Aggregator:
    """The sum of updates that carry their clients' noise.

    Args:
      config: with `dp_trust` other than central.
      noise_multiplier: z; may be traced.
      divisor: the public constant, the expected number of participants of one cluster.
      mesh: see `federated.secure_sum`.
    """
    if config.trust == "local":  # The noise was added where the update was made.
        return divided_by(weighted_sum(), divisor)
    assert config.secure_aggregation != "none"
    return distributed_noise(config.secure_aggregation, config.clip_norm, noise_multiplier, divisor, mesh=mesh)


def trust_in_words(config: Config) -> str:
    """Who sees what in the clear."""
    if config.trust == "local":
        return (
            "local: each client clips its update and adds all of the noise to it, so that the server, the other "
            "clients and whoever gets the models see noisy updates only; nobody needs to be trusted with an update"
        )
    return (
        "distributed: each client clips its update and adds its share of the noise before it masks it, so that the "
        f"server sees {server_sees(config)}; the other clients of the sum are trusted to add their shares, and where "
        "some tell the server what they added, only the variance of the others' noise protects"
    )


def assumptions(config: Config, otherwise: str) -> str:
    """What is assumed of how the noise is drawn; `otherwise` is what holds of noise in floats."""
    if config.dp_unit != "client" or config.trust != "distributed":
        return otherwise
    return (
        "the noise is drawn as integers, exactly but for a distance that delta accounts for, from the bits of a "
        "pseudo-random generator"
    )


def statement_of_clients(
    release: LocalRelease | DistributedRelease,
    noise_multiplier: float,
    config: Config,
    finite: Callable[[float], float | None],
) -> dict[str, Any]:
    """The epsilons and the mechanism, as `privacy.json` has them."""
    epsilon, by_rdp = (release.epsilon(noise_multiplier, config.dp_delta, accountant) for accountant in (None, "RDP"))
    std = noise_multiplier * config.clip_norm
    if isinstance(release, LocalRelease):
        mechanism = {"mechanism": "gaussian", "on": "each client's update"}
        words = (
            f"Gaussian noise of standard deviation {std:.3g} on each client's update, clipped to norm "
            f"{config.clip_norm:g}, by the client itself, in each of {release.num_rounds} rounds"
        )
    else:
        mechanism = {"mechanism": "distributed discrete gaussian", "on": "each client's update, before a secure sum"}
        words = (
            f"discrete Gaussian noise on each client's update, clipped to norm {config.clip_norm:g} and rounded with "
            f"its norm kept, by the client itself; the shares of the clients of a secure sum, at least "
            f"{release.clients_per_sum}, add up to a standard deviation of {std:.3g}, in each of {release.num_rounds} "
            "rounds"
        )
    words += "; every client is charged for every round"
    return {
        "epsilon": finite(epsilon),
        "epsilon_rdp": finite(by_rdp),
        "mechanisms": [mechanism | {"sums": release.num_rounds, "in_words": words, "sampling_rate": 1.0}],
    }
