import itertools

import jax
import numpy as np
import optax

from fedjax_anomaly import federated
from fedjax_anomaly.federated.algorithm import few_of_many
from fedjax_anomaly.privacy import gaussian
from tests.federated import models
from tests.fleet import client_data

DATA = client_data([6, 5, 8, 7])


def noisy_algorithm():
    train = federated.local_training(models.loss, optax.sgd(0.05, momentum=0.9), window_length=4, batch_size=4)
    return federated.clustered_fedavg(
        models.init,
        train,
        federated.fixed(np.array([0, 1, 0, 1])),
        federated.private(federated.weighted_sum(), gaussian(0.1, 1.0), 2.0),
        optax.sgd(1.0, momentum=0.9),
        sample_cohort=federated.poisson_cohort(4, 3),
    )


def assert_identical(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_two_halves_equal_the_whole_run_bit_for_bit():
    """With clipping, noise, momentum, clusters and sampled cohorts."""
    method, key = noisy_algorithm(), jax.random.key(1)
    start = method.init(jax.random.key(0), DATA)
    whole, (info, _) = federated.run(method, key, start, DATA, 6)
    half, (first, _) = federated.run(method, key, start, DATA, 2)
    rest, (second, _) = federated.run(method, key, half, DATA, 4)
    assert_identical(whole, rest)
    assert_identical(info.train_loss, np.concatenate([first.train_loss, second.train_loss]))


def test_a_run_equals_its_rounds_one_by_one():
    method, key = noisy_algorithm(), jax.random.key(1)
    state = start = method.init(jax.random.key(0), DATA)
    for r in range(3):
        state, _ = method.round(jax.random.fold_in(key, r), state, DATA)
    scanned, _ = federated.run(method, key, start, DATA, 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state, scanned)


def test_rounds_from_the_stop_round_on_are_skipped():
    method, key = noisy_algorithm(), jax.random.key(1)
    start = method.init(jax.random.key(0), DATA)
    three, (info, _) = federated.run(method, key, start, DATA, 3)
    stopped, (report, _) = federated.run(method, key, start, DATA, 5, stop_round=3)
    assert_identical(three, stopped)
    np.testing.assert_array_equal(report.train_loss[:3], info.train_loss)
    np.testing.assert_array_equal(report.train_loss[3:], 0.0)


def test_observations_are_of_the_state_after_each_round():
    method, key = noisy_algorithm(), jax.random.key(1)
    start = method.init(jax.random.key(0), DATA)
    end, (_, seen) = federated.run(method, key, start, DATA, 3, lambda state: (state.round, state.params["center"]))
    assert seen[0].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(seen[1][-1], end.params["center"])


def test_different_rounds_draw_different_noise():
    method, key = noisy_algorithm(), jax.random.key(1)
    start = method.init(jax.random.key(0), DATA)
    idle = DATA._replace(mask=np.zeros_like(DATA.mask))
    _, (_, centers) = federated.run(method, key, start, idle, 3, lambda state: state.params["center"])
    # Nobody takes part: what moves the models is the noise alone, and the sum's divisor is public.
    steps = np.diff(np.concatenate([np.asarray(start.params["center"])[None], np.asarray(centers)]), axis=0)
    assert (steps[0] != steps[1]).all()


def test_every_subset_is_equally_likely():
    draws = 20_000
    drawn = jax.vmap(lambda key: few_of_many(key, 5, 3))(jax.random.split(jax.random.key(0), draws))
    subsets, count = np.unique(np.sort(drawn, axis=1), axis=0, return_counts=True)
    assert list(map(tuple, subsets)) == list(itertools.combinations(range(5), 3))
    # Each count is binomial with probability 1/10; five standard deviations are 212.
    assert np.abs(count - draws / 10).max() < 5 * np.sqrt(draws * 0.1 * 0.9)
