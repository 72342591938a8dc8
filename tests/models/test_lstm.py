import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from fedjax_anomaly.models.lstm import LSTM, LSTMWeights, lstm

B, F, H = 3, 5, 4
# One step, unrolled ones, and more than are unrolled; as a sequence, and with one input repeated.
LENGTHS = [(1, 1), (6, 6), (6, 1), (18, 18), (18, 1)]


def example(num_inputs, dtype=np.float32):
    rng = np.random.default_rng(0)
    weights = LSTMWeights(*(rng.normal(size=shape).astype(dtype) for shape in ((F, 4 * H), (H, 4 * H), (4 * H,))))
    return rng.normal(size=(num_inputs, B, F)).astype(dtype), weights


def weighted_outputs(states):
    """A scalar in which every state counts differently."""
    return jnp.sum(states * jnp.sin(jnp.arange(states.size, dtype=states.dtype).reshape(states.shape)))


def flax_lstm(inputs, weights, num_steps):
    kernels, recurrent, biases = (jnp.split(leaf, 4, axis=-1) for leaf in weights)
    cell = {f"i{gate}": {"kernel": kernel} for gate, kernel in zip("ifgo", kernels, strict=True)}
    for gate, kernel, bias in zip("ifgo", recurrent, biases, strict=True):
        cell[f"h{gate}"] = {"kernel": kernel, "bias": bias}
    layer = nn.RNN(nn.OptimizedLSTMCell(H), time_major=True)
    return layer.apply({"params": {"cell": cell}}, jnp.broadcast_to(inputs, (num_steps, *inputs.shape[1:])))


@pytest.mark.parametrize(("num_steps", "num_inputs"), LENGTHS)
def test_outputs_and_gradients_are_those_of_flax(num_steps, num_inputs):
    def outputs_and_gradients(layer):
        def scalar(inputs, weights):
            states = layer(inputs, weights, num_steps)
            return weighted_outputs(states), states

        return jax.jit(jax.grad(scalar, argnums=(0, 1), has_aux=True))(*example(num_inputs))

    ours, flax = outputs_and_gradients(lstm), outputs_and_gradients(flax_lstm)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, flax)


@pytest.mark.parametrize(("num_steps", "num_inputs"), [(3, 3), (3, 1), (17, 17)])
def test_gradients_are_those_of_finite_differences(num_steps, num_inputs):
    def scalar(inputs, weights):
        return weighted_outputs(lstm(inputs, weights, num_steps))

    with jax.enable_x64():
        arguments = example(num_inputs, np.float64)
        check_grads(scalar, arguments, order=1, modes=["rev"], atol=1e-6, rtol=1e-6)
        # Forward over reverse, by which `auditing/leakage.py` finds windows in gradients.
        check_grads(jax.grad(scalar, argnums=(0, 1)), arguments, order=1, modes=["fwd"], atol=1e-6, rtol=1e-6)


def test_the_gradient_of_a_batch_is_the_sum_of_those_of_its_windows_under_vmap():
    inputs, weights = example(6)

    def gradient(inputs, weights):
        return jax.grad(lambda weights: jnp.sum(jnp.square(lstm(inputs, weights, 6))))(weights)

    single = jax.vmap(lambda window, weights: gradient(window[:, None], weights), in_axes=(1, None))(inputs, weights)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(jnp.sum(a, axis=0), b, rtol=1e-4, atol=1e-5),
        single,
        gradient(inputs, weights),
    )


def test_many_models_at_once_are_each_by_itself():
    inputs, weights = example(6)
    models = jax.tree.map(lambda leaf: np.stack([leaf, -leaf]), weights)
    together = jax.vmap(lambda weights: lstm(inputs, weights, 6))(models)
    for k, states in enumerate(together):
        alone = lstm(inputs, jax.tree.map(lambda leaf, k=k: leaf[k], models), 6)
        np.testing.assert_allclose(states, alone, rtol=1e-5, atol=1e-6)


def test_a_single_step_does_not_touch_the_recurrent_kernel():
    inputs, weights = example(1)
    weights = weights._replace(recurrent_kernel=np.full_like(weights.recurrent_kernel, np.nan))
    loss, gradient = jax.value_and_grad(lambda weights: weighted_outputs(lstm(inputs, weights, 1)))(weights)
    assert np.isfinite(loss)
    np.testing.assert_array_equal(gradient.recurrent_kernel, 0.0)
    assert np.isfinite(gradient.input_kernel).all()


def test_each_gate_is_initialised_by_itself():
    params = LSTM(32).init(jax.random.key(0), jnp.zeros((1, 1, 64)), 1)["params"]
    gates = np.split(np.asarray(params["recurrent_kernel"]), 4, axis=1)
    for gate in gates:
        np.testing.assert_allclose(gate.T @ gate, np.eye(32), atol=1e-5)
    assert not np.allclose(gates[0], gates[1])
    # LeCun: variance 1 / F; 2048 draws a gate give the deviation to within 2 percent, one standard error.
    for gate in np.split(np.asarray(params["input_kernel"]), 4, axis=1):
        assert gate.std() == pytest.approx(1 / 8, rel=0.08)
    np.testing.assert_array_equal(params["bias"], 0.0)
