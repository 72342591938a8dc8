"""Matrix products with operands in bfloat16."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import jaxprs_in_params

from fedjax_anomaly import models
from fedjax_anomaly.models.products import Dense
from fedjax_anomaly.types import FeatureLayout

LAYOUT, T = FeatureLayout(3), 3


def lstm(matmul_dtype, length=T):
    return models.lstm_autoencoder(LAYOUT, hidden_size=4, latent_size=2, matmul_dtype=matmul_dtype), length


def scanned_lstm(matmul_dtype):
    return lstm(matmul_dtype, length=18)  # More steps than are unrolled.


def dense(matmul_dtype):
    settings = {"window_length": T, "hidden_size": 4, "latent_size": 2, "matmul_dtype": matmul_dtype}
    return models.dense_autoencoder(LAYOUT, **settings), T


def equations(jaxpr):
    """All of a program, with those of the programs within it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def dtypes_of_products(function, *arguments):
    """Of the operands and of the result of every matrix product in a program."""
    products = [e for e in equations(jax.make_jaxpr(function)(*arguments).jaxpr) if e.primitive.name == "dot_general"]
    return {tuple(str(v.aval.dtype) for v in (*e.invars, *e.outvars)) for e in products}


def gradient_of_each_window(model):
    """As privacy for every window needs them."""
    return jax.vmap(jax.grad(lambda params, window: model.loss(params, window[None])[0]), (None, 0))


@pytest.mark.parametrize("matmul_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("build", [lstm, scanned_lstm, dense])
def test_every_product_takes_operands_of_the_dtype(build, matmul_dtype):
    model, length = build(matmul_dtype)
    params = jax.eval_shape(model.init, jax.random.key(0))
    windows = jnp.zeros((7, length, 3))
    expected = {(matmul_dtype, matmul_dtype, "float32")}
    assert dtypes_of_products(model.reconstruct, params, windows) == expected
    assert dtypes_of_products(jax.grad(lambda params: model.loss(params, windows).sum()), params) == expected
    assert dtypes_of_products(gradient_of_each_window(model), params, windows) == expected


@pytest.mark.parametrize("build", [lstm, dense])
def test_bfloat16_is_near_float32(build):
    windows = jax.random.normal(jax.random.key(2), (7, T, 3))

    @partial(jax.jit, static_argnums=0)
    def outputs_and_gradients(matmul_dtype):
        model, _ = build(matmul_dtype)
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        params = optax.tree.scale(0.5, optax.tree.random_like(jax.random.key(1), shapes))
        return model.reconstruct(params, windows), gradient_of_each_window(model)(params, windows)

    rounded, exact = outputs_and_gradients("bfloat16"), outputs_and_gradients("float32")
    for a, b in zip(jax.tree.leaves(rounded), jax.tree.leaves(exact), strict=True):
        assert a.dtype == np.float32
        # An operand is off by at most 2^-9 of itself, and errors pass through a few layers.
        distance = np.linalg.norm(a - b) / np.linalg.norm(b)
        assert 0.0 < distance < 0.03


def test_a_dense_layer_is_that_of_flax():
    rows, target = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 5)), jnp.float32)
    ours, flax = Dense(5), nn.Dense(5)
    params = ours.init(jax.random.key(0), rows)
    jax.tree.map(np.testing.assert_array_equal, params, flax.init(jax.random.key(0), rows))

    def loss(layer, params, rows):
        return jnp.sum(jnp.square(layer.apply(params, rows) - target))

    of_ours, of_flax = (jax.value_and_grad(partial(loss, layer), (0, 1))(params, rows) for layer in (ours, flax))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), of_ours, of_flax)
    # An attack on gradients differentiates them once more, forward.
    of_ours, of_flax = (jax.jacfwd(jax.grad(partial(loss, layer), 1), 1)(params, rows) for layer in (ours, flax))
    np.testing.assert_allclose(of_ours, of_flax, rtol=1e-5, atol=1e-5)
