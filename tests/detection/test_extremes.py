import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from scipy.stats import genpareto

from fedjax_anomaly.detection.extremes import Tail, fit_tail_on_host, tail_probability, tail_quantile


def fitted(excesses, *censored):
    tail = fit_tail_on_host(excesses, *censored)
    return float(tail.shape), float(tail.scale)


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.4, 1.0])
def test_the_fit_is_as_likely_as_that_of_scipy(shape):
    # Its likelihood per excess is equal to 1e-5, and so are the parameters to 1e-2, in any unit.
    y = genpareto.rvs(shape, scale=3e-3, size=200, random_state=np.random.default_rng(1))
    own, (scipy_shape, _, scipy_scale) = fitted(y), genpareto.fit(y, floc=0.0)
    best = genpareto.nnlf((scipy_shape, 0.0, scipy_scale), y)
    assert genpareto.nnlf((own[0], 0.0, own[1]), y) <= best + 200 * 1e-5
    np.testing.assert_allclose(own[0], scipy_shape, atol=1e-2)
    np.testing.assert_allclose(own[1], scipy_scale, rtol=1e-2)


def test_censored_excesses_enter_by_the_probability_of_exceeding_them():
    generator = np.random.default_rng(2)
    y = genpareto.rvs(0.2, scale=2.0, size=200, random_state=generator)
    observed, num_censored = y[y <= 4.0], int((y > 4.0).sum())

    def loss(parameters):
        shape, scale = parameters
        return -genpareto.logpdf(observed, shape, scale=scale).sum() - num_censored * genpareto.logsf(
            4.0, shape, scale=scale
        )

    best = optimize.minimize(loss, [0.1, 1.5], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9})
    own = fitted(observed, 4.0, num_censored)
    np.testing.assert_allclose(own, best.x, rtol=2e-2)
    assert loss(own) <= best.fun + 1e-3


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.4])
def test_quantiles_and_probabilities_are_those_of_scipy(shape):
    tail = Tail(jnp.float32(shape), jnp.float32(2.0))
    ratio = np.array([1.0, 0.3, 1e-2, 1e-6], np.float32)
    excess = jax.vmap(lambda r: tail_quantile(tail, r))(ratio)
    np.testing.assert_allclose(excess, genpareto.isf(ratio, shape, scale=2.0), rtol=1e-4)
    # Near the end of a bounded tail, float32 leaves few digits of what is left to it.
    np.testing.assert_allclose(jax.vmap(lambda e: tail_probability(tail, e))(excess), ratio, rtol=2e-2)


def test_equal_and_missing_excesses_give_a_finite_tail():
    for excesses in (np.zeros(0), np.zeros(5), np.full(5, 0.5)):
        assert np.isfinite(fitted(excesses)).all()
