"""Differential privacy as a run will carry it out: the unit, the release that is accounted, the noise."""

import dataclasses
import math

import numpy as np

from fedjax_anomaly.config import Config
from fedjax_anomaly.experiment.central_privacy import client_release, update_noise_multiplier
from fedjax_anomaly.experiment.example_shares import check_share, noise_share
from fedjax_anomaly.experiment.noise_trust import check_noise, release_of_clients
from fedjax_anomaly.experiment.preprocessing import Preprocessing
from fedjax_anomaly.privacy.accounting import Accountant, ClientLevelRelease, noise_to_clip_ratio
from fedjax_anomaly.privacy.distributed_accounting import DistributedRelease
from fedjax_anomaly.privacy.example_accounting import ExampleLevelRelease
from fedjax_anomaly.privacy.local_accounting import LocalRelease

Release = ClientLevelRelease | ExampleLevelRelease | LocalRelease | DistributedRelease


@dataclasses.dataclass(frozen=True)
class PrivacyPlan:
    """Differential privacy as it will be carried out.

    Attributes:
      release: what is released, and how clients or windows are sampled for it; its type is the unit.
      noise_multiplier: given, or calibrated to the target epsilon.
      noise_to_clip_ratio: expected norm of the noise on a round's mean update (clients) or mean gradient (windows), in
        units of the clip norm.
      preprocessing: noise on what is learned beside the training; None where there is none.
      noise_share: noise that one client adds in units of `noise_multiplier`, less than 1 where clients divide it.
    """

    release: Release
    noise_multiplier: float
    noise_to_clip_ratio: float
    preprocessing: Preprocessing | None = None
    noise_share: float = 1.0

    def epsilon(self, delta: float, accountant: Accountant | None = None) -> float:
        """That of the window or client that has the largest, held-out windows included."""
        trained = self.release.epsilon(self.noise_multiplier, delta, accountant)
        if self.preprocessing is None:
            return trained
        return max(trained, self.preprocessing.held_out_epsilon(delta, accountant or "PLD"))


def plan_privacy(
    config: Config,
    num_windows: tuple[int, ...],
    num_parameters: int,
    num_clusters: int,
    assignment: np.ndarray,
    preprocessing: Preprocessing | None = None,
) -> PrivacyPlan | None:
    """The plan of a run, with the noise calibrated where a target is given; None without differential privacy.

    Args:
      config: the settings.
      num_windows: training windows of each client, or of the one pool.
      num_parameters: of one model.
      num_clusters: K.
      assignment: Int[C], who shares a model from the start.
      preprocessing: its releases are composed with those of the training, which gets what is left of the target.

    Raises:
      ValueError: when the target is out of range, or there is no valid accounting for the noise.
    """
    if config.dp_unit == "none":
        return None
    release: Release
    if config.dp_unit == "example":
        release = ExampleLevelRelease(
            config.num_rounds,
            num_windows,
            config.batch_size,
            config.local_epochs,
            fixed_rate=config.dp_sampling_rate,
            local_steps=config.local_steps,
        )
        if preprocessing is not None:
            release = preprocessing.before(release)
        per_sum = _windows_per_sum(release, num_clusters)
    else:
        if config.trust == "central":
            release = client_release(config)
        else:
            release = release_of_clients(config, num_parameters, assignment)
        per_sum = config.cohort_size / num_clusters
        if config.trust == "local":  # Of independent noise on each of so many updates.
            per_sum = math.sqrt(per_sum)
    noise_multiplier = config.dp_noise_multiplier or release.calibrate(config.dp_epsilon, config.dp_delta)
    check_noise(config, noise_multiplier)
    share = noise_share(config, assignment)
    check_share(config, noise_multiplier, share, max(num_windows))
    on_a_sum = noise_multiplier * share
    if isinstance(release, ClientLevelRelease):
        on_a_sum = update_noise_multiplier(config, release, noise_multiplier, per_sum)
    ratio = noise_to_clip_ratio(on_a_sum, num_parameters, per_sum)
    return PrivacyPlan(release, noise_multiplier, ratio, preprocessing, share)


def _windows_per_sum(release: ExampleLevelRelease, num_clusters: int) -> float:
    """Windows that would have to be averaged in one noisy sum for as little noise as a round's mean gradient has.

    A client's mean gradient over its steps has the noise of one sum of its expected batch divided by the root of its
    steps; the round weights clients by their windows.
    """
    one_round = dataclasses.replace(release, num_rounds=1)
    sizes = np.asarray(release.num_windows, np.float64)
    steps, rates = (np.asarray([of(n) for n in release.num_windows]) for of in (one_round.steps, one_round.rate))
    variance = np.square(sizes / sizes.sum() / (rates * sizes)) / steps
    return 1.0 / math.sqrt(variance.sum() * num_clusters)


def training_stride(config: Config, window_length: int, *, differenced: bool) -> int:
    """Rows between training windows; a whole window for `dp_unit=example`, so that a record is in one window.

    Args:
      config: the settings.
      window_length: T, as resolved.
      differenced: whether a row also holds its difference from the row before.

    Raises:
      ValueError: when one record would lie in several windows, which example-level privacy does not account for.
    """
    if config.dp_unit != "example":
        return config.window_stride or max(1, window_length // 4)
    stride = config.window_stride or window_length
    if stride < window_length:
        raise ValueError(
            f"window_stride={stride} puts one record into up to {-(-window_length // stride)} windows of "
            f"{window_length} rows, but dp_unit=example protects one window; leave --window_stride at 0, which then "
            "takes the whole window, or give --dp_unit=client."
        )
    if differenced:
        raise ValueError(
            "difference_columns=True puts one record into its own row and the next one, which may lie in another "
            "window, but dp_unit=example protects one window; leave --difference_columns out, or give "
            "--dp_unit=client."
        )
    return stride
