"""The kernels of a GPU, interpreted where there is none: they do what XLA's steps do."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_anomaly.models import lstm_kernel
from fedjax_anomaly.models.lstm import LSTMWeights, lstm

pytestmark = pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")

CLIENTS, T, B, F, H = 2, 4, 32, 3, 16


@pytest.fixture
def steps_and_kernels(monkeypatch):
    """Calls a function with the steps of XLA, then with the kernels."""

    def both(function, *arguments):
        asked = []
        monkeypatch.setattr(lstm_kernel, "applies", lambda *of: asked.append(of) or False)
        with jax.default_matmul_precision("highest"):
            plain = function(*arguments)
            monkeypatch.setattr(lstm_kernel, "applies", lambda *of: asked.append(of) or True)
            kernels = function(*arguments)
        assert len(asked) >= 4
        return plain, kernels

    return both


def example():
    rng = np.random.default_rng(0)
    shapes = (F, 4 * H), (H, 4 * H), (4 * H,)
    weights = LSTMWeights(*(0.5 * rng.normal(size=(CLIENTS, *shape)).astype(np.float32) for shape in shapes))
    return rng.normal(size=(CLIENTS, T, B, F)).astype(np.float32), weights


def loss(inputs, weights):
    states = lstm(inputs, weights, T)
    return jnp.sum(states * jnp.sin(jnp.arange(states.size, dtype=jnp.float32).reshape(states.shape)))


def test_kernels_are_the_steps_of_xla(steps_and_kernels):
    plain, kernels = steps_and_kernels(jax.vmap(jax.value_and_grad(loss, argnums=(0, 1))), *example())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, kernels)


def test_gradients_are_differentiated_once_more(steps_and_kernels):
    inputs, weights = jax.tree.map(lambda leaf: leaf[0], example())

    def along(inputs):
        return jax.jvp(lambda x: jax.grad(loss, argnums=1)(x, weights), (inputs,), (jnp.ones_like(inputs),))

    plain, kernels = steps_and_kernels(along, inputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), plain, kernels)


@pytest.mark.parametrize(
    ("batch_size", "hidden_size", "dtype"), [(8, 16, jnp.float32), (16, 24, jnp.float32), (16, 16, jnp.float64)]
)
def test_what_the_kernels_do_not_take_is_left_to_xla(monkeypatch, batch_size, hidden_size, dtype):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not lstm_kernel.applies(batch_size, hidden_size, dtype)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_only_a_gpu_has_kernels(monkeypatch, backend):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert lstm_kernel.applies(B, H, jnp.float32) == (backend == "gpu")


def test_a_jax_without_triton_takes_the_steps_of_xla(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas.triton", None)
    lstm_kernel._has_triton.cache_clear()
    assert not lstm_kernel.applies(B, H, jnp.float32)
    lstm_kernel._has_triton.cache_clear()
