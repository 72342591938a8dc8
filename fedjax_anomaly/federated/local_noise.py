"""Local differential privacy: each client clips and noises its own update before anybody sees it."""

import jax

from fedjax_anomaly.federated.algorithm import ClientUpdate, TrainClient
from fedjax_anomaly.privacy.mechanisms import PrivacyMechanism
from fedjax_anomaly.types import ClientData, PyTree


def locally_private(train_client: TrainClient, mechanism: PrivacyMechanism) -> TrainClient:
    """Local training whose update leaves the client clipped and with noise on it, of weight 1.

    The round gives each client a key of its own, made of its number by `fold_in`; the noise comes from that key.

    Args:
      train_client: local training.
      mechanism: clips one update and adds noise to it; that two updates of a client differ by up to twice
        `mechanism.sensitivity` is for the accounting, `privacy.LocalRelease`.

    Guarantees:
      Every update has the noise, independent of all others (test:
      `tests/federated/test_local_noise.py::test_every_client_sends_its_clipped_update_and_noise_of_its_own`).

    References:
      Dwork and Roth 2014, "The Algorithmic Foundations of Differential Privacy", section 12.1.
    """

    def train(key: jax.Array, params: PyTree, data: ClientData) -> ClientUpdate:
        key_train, key_noise = jax.random.split(key)
        update = train_client(key_train, params, data)
        noisy = mechanism.add_noise(key_noise, mechanism.clip(update.delta))
        return update._replace(delta=noisy, weight=(update.weight > 0.0).astype(update.weight.dtype))

    return train
