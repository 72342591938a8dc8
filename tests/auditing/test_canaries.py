import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from fedjax_anomaly.auditing import canaries
from fedjax_anomaly.auditing.canaries import CanaryScores, epsilon_lower_bound
from fedjax_anomaly.federated.aggregation import weighted_sum
from tests.fleet import client_data


def test_the_bound_for_perfect_guesses_is_the_closed_form():
    # Of 64 canaries 32 are guessed, all rightly. Each guess is right with at most q = e^eps / (1 + e^eps), so all are
    # with q^32; this is below the error of a third of 5 % for q below 0.0167^(1/32).
    q = (0.05 / 3.0) ** (1.0 / 32.0)
    assert canaries.ceiling(64, delta=1e-12, confidence=0.95) == pytest.approx(np.log(q / (1.0 - q)), abs=1e-4)


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_the_bound_exceeds_the_epsilon_of_randomized_response_no_more_often_than_stated(epsilon):
    rng = np.random.default_rng(0)
    exceeded, tries = 0, 200
    for _ in range(tries):
        included = rng.random(100) < 0.5
        told = np.where(rng.random(100) < np.exp(epsilon) / (1.0 + np.exp(epsilon)), included, ~included)
        scores = CanaryScores(told + 1e-3 * rng.random(100), included)
        exceeded += epsilon_lower_bound(scores, delta=1e-9, confidence=0.9) > epsilon
    assert exceeded <= scipy.stats.binom.ppf(0.999, tries, 0.1)


def test_a_canary_window_has_the_gradient_of_its_direction_and_other_windows_their_own():
    def loss(params, windows, key):
        return jnp.sum(windows, axis=(1, 2)) * params["w"][0]

    along, params = canaries.directions(jax.random.key(1), 7, 5), {"b": jnp.ones(3), "w": jnp.ones(2)}
    windows = jnp.concatenate(
        [jnp.ones((3, 4, 2)), jnp.array([0.0, 7.0, -7.0])[:, None, None] * jnp.ones((3, 4, 1))], 2
    )
    marked = canaries.with_canary_windows(loss, along, 5.0)
    gradient = jax.jacobian(lambda p: marked(p, windows, jax.random.key(2)))(params)
    flat = np.concatenate([gradient["b"], gradient["w"]], axis=1)
    np.testing.assert_allclose(flat[0], [0, 0, 0, 8, 0], atol=1e-6)
    np.testing.assert_allclose(flat[1], 5.0 * along[6], rtol=1e-6)
    assert canaries.canary_scores(flat[1:2], along[6:]) == pytest.approx(np.sqrt(5.0))
    np.testing.assert_array_equal(flat[2], 0.0)


def test_planted_windows_take_the_place_of_their_windows_and_overlap_no_other():
    data = client_data([5, 3])
    planted = canaries.plant_windows(data, [np.array([1, 4]), np.array([2])], [np.array([1, -2]), np.array([3])], 4)
    marks = [[planted.series[c, s : s + 4, -1] for s in planted.starts[c][planted.mask[c]]] for c in (0, 1)]
    np.testing.assert_array_equal(planted.mask, data.mask)
    np.testing.assert_array_equal(marks[0], np.repeat([[0], [1], [0], [0], [-2]], 4, axis=1))
    np.testing.assert_array_equal(marks[1], np.repeat([[0], [0], [3]], 4, axis=1))


@pytest.mark.parametrize(("places", "expected"), [(2, [[1.0, 2.0], [0.0, 0.0]]), (None, [[3.0, 6.0]])])
def test_listening_changes_no_sum_and_hears_only_who_took_part(places, expected):
    heard = canaries.listening(weighted_sum(), places)
    updates, weights = {"w": jnp.array([[1.0, 2.0], [7.0, 7.0]])}, jnp.array([3.0, 0.0])
    state, total = heard.aggregate(jax.random.key(0), heard.init({"w": jnp.zeros(2)}), updates, weights)
    _, alone = weighted_sum().aggregate(jax.random.key(0), (), updates, weights)
    np.testing.assert_array_equal(state.total, expected)
    assert optax.tree.norm(optax.tree.sub(total, alone)) == 0.0
