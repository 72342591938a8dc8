"""Masked inputs of training, against a reconstruction of inputs that were masked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_anomaly.models import dense_autoencoder, lstm_autoencoder
from fedjax_anomaly.models.autoencoder import autoencoder
from fedjax_anomaly.types import FeatureLayout

LAYOUT = FeatureLayout(3, (2,))


def windows(batch: int = 6, length: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    numeric = rng.normal(size=(batch, length, 3))
    return np.concatenate([numeric, np.eye(2)[rng.integers(2, size=(batch, length))]], axis=-1).astype(np.float32)


def recording(seen: list[np.ndarray], input_masking: float):
    """A model that gives zeros and keeps what it saw."""

    def reconstruct(params, inputs):
        seen.append(np.asarray(inputs))
        return jnp.zeros_like(inputs)

    return autoencoder(LAYOUT, lambda key: {}, reconstruct, input_masking=input_masking)


def test_the_share_of_hidden_values_is_the_one_asked_for_and_the_rest_is_untouched():
    seen = []
    data = windows(batch=500)
    recording(seen, 0.3).loss({}, data, jax.random.key(0))
    hidden = (seen[0] == 0.0) & (data != 0.0)
    np.testing.assert_array_equal(seen[0][~hidden], data[~hidden])
    share = hidden.sum() / (data != 0.0).sum()
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / (data != 0.0).sum())


def test_what_is_hidden_is_to_be_reconstructed():
    """Zeros for outputs: the error is the square of every value, hidden or not, and log 2 for the block of two."""
    seen = []
    data = windows()
    loss = recording(seen, 0.9).loss({}, data, jax.random.key(0))
    expected = (np.square(data[..., :3]).sum(axis=-1) + np.log(2.0)) / 4
    np.testing.assert_allclose(loss, expected.mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("key", [None, jax.random.key(3)])
@pytest.mark.parametrize("input_masking", [0.0, 0.5])
def test_nothing_is_hidden_without_a_key_or_without_a_share(key, input_masking):
    seen = []
    recording(seen, input_masking).loss({}, windows(), key)
    hidden = bool((seen[0] != windows()).any())
    assert hidden == (key is not None and input_masking > 0.0)


@pytest.mark.parametrize("build", [lstm_autoencoder, lambda *a, **k: dense_autoencoder(*a, window_length=4, **k)])
def test_both_models_mask_in_training_and_score_whole_inputs(build):
    plain, masked = (build(LAYOUT, hidden_size=5, latent_size=2, input_masking=rate) for rate in (0.0, 0.5))
    params = plain.init(jax.random.key(0))
    np.testing.assert_array_equal(plain.column_errors(params, windows()), masked.column_errors(params, windows()))
    np.testing.assert_array_equal(plain.loss(params, windows()), masked.loss(params, windows()))
    key = jax.random.key(1)
    assert (plain.loss(params, windows(), key) != masked.loss(params, windows(), key)).all()


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_share_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match=r"input_masking=.* must lie in \[0, 1\)"):
        lstm_autoencoder(LAYOUT, input_masking=rate)
