"""One contract over every aggregator, and what each promises beyond it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_anomaly.federated.adaptive_clipping import adaptively_private
from fedjax_anomaly.federated.aggregation import divided_by, private, private_over_rounds, weighted_sum
from fedjax_anomaly.federated.distributed_noise import distributed_noise
from fedjax_anomaly.federated.secure_sum import secure_sum
from fedjax_anomaly.privacy import AdaptiveClip, correlated_gaussian
from fedjax_anomaly.privacy.mechanisms import gaussian

PARAMS = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(4)}
AGGREGATORS = {
    "weighted_sum": lambda: weighted_sum(),
    "private": lambda: private(weighted_sum(), gaussian(1.0, 0.7), divisor=5.0),
    "adaptively_private": lambda: adaptively_private(weighted_sum(), AdaptiveClip(1.0), 0.7, divisor=5.0),
    "private_over_rounds": lambda: private_over_rounds(
        weighted_sum(), correlated_gaussian(1.0, 0.7, (1.0, 0.5, 0.2)), divisor=5.0
    ),
    "secagg": lambda: secure_sum("secagg", max_weight=5.0, clip=10.0, rounding="stochastic"),
    "divided_by": lambda: divided_by(weighted_sum(), divisor=5.0),
    # Each place has noise of its own, here far below what is told apart.
    "distributed_noise": lambda: distributed_noise("secagg", 0.05, 2e-5, divisor=5.0),
}


def updates(count: int, seed: int = 0, scale: float = 1.0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(scale * rng.normal(size=(count, *leaf.shape)), jnp.float32), PARAMS)


WEIGHTS = jnp.array([3.0, 0.0, 1.0, 2.0, 5.0])


def assert_close(left, right, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **({"atol": 1e-5} | tolerance)), left, right)


@pytest.fixture(params=list(AGGREGATORS))
def aggregator(request):
    return AGGREGATORS[request.param]()


def test_jit_equals_eager(aggregator):
    arguments = (aggregator.init(PARAMS), updates(5), WEIGHTS)
    eager = aggregator.aggregate(jax.random.key(0), *arguments)
    assert_close(eager, jax.jit(aggregator.aggregate)(jax.random.key(0), *arguments))


def test_it_scans_and_compiles_once(aggregator):
    traces = 0

    def step(state, key):
        nonlocal traces
        traces += 1
        return aggregator.aggregate(key, state, updates(5), WEIGHTS)

    _, summed = jax.lax.scan(step, aggregator.init(PARAMS), jax.random.split(jax.random.key(0), 4))
    assert traces == 1
    assert summed.total["a"].shape == (4, 2, 3)


def test_dtypes_are_kept(aggregator):
    _, summed = aggregator.aggregate(jax.random.key(0), aggregator.init(PARAMS), updates(5), WEIGHTS)
    assert {leaf.dtype for leaf in jax.tree.leaves(summed)} == {jnp.dtype(jnp.float32)}


def test_the_order_of_clients_does_not_matter(aggregator):
    order = jnp.array([4, 2, 0, 1, 3])
    state, stack = aggregator.init(PARAMS), updates(5)
    _, summed = aggregator.aggregate(jax.random.key(0), state, stack, WEIGHTS)
    shuffled = jax.tree.map(lambda leaf: leaf[order], stack)
    _, again = aggregator.aggregate(jax.random.key(0), state, shuffled, WEIGHTS[order])
    assert_close(summed, again)


@pytest.mark.parametrize("aggregator", ["weighted_sum", "private", "private_over_rounds", "divided_by"], indirect=True)
def test_clients_one_by_one_give_the_sum_of_all_at_once(aggregator):
    state, stack = aggregator.init(PARAMS), updates(5)
    parts = [
        aggregator.streamed.contribution(jax.tree.map(lambda leaf, c=c: leaf[c], stack), weight)
        for c, weight in enumerate(WEIGHTS)
    ]
    one_by_one = aggregator.streamed.finish(jax.random.key(0), state, jax.tree.map(lambda *leaves: sum(leaves), *parts))
    assert_close(one_by_one, aggregator.aggregate(jax.random.key(0), state, stack, WEIGHTS))


def test_padding_adds_zero(aggregator):
    """A client of weight zero adds nothing, whatever stands in its update."""
    stack, state = updates(5), aggregator.init(PARAMS)
    spoiled = jax.tree.map(lambda leaf: leaf.at[1].set(np.nan), stack)
    _, summed = aggregator.aggregate(jax.random.key(0), state, stack, WEIGHTS)
    _, again = aggregator.aggregate(jax.random.key(0), state, spoiled, WEIGHTS)
    assert_close(summed, again)


def test_the_weighted_sum_by_hand():
    stack = {"a": jnp.array([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])}
    _, summed = weighted_sum().aggregate(jax.random.key(0), (), stack, jnp.array([1.0, 0.0, 2.0]))
    # 1 * (1, 2) + 0 * (10, 20) + 2 * (100, 200), of weight 1 + 0 + 2.
    np.testing.assert_array_equal(summed.total["a"], [201.0, 402.0])
    assert summed.weight == 3.0


def test_the_private_sum_without_noise_is_the_sum_of_clipped_updates_over_a_constant():
    stack = updates(5, scale=10.0)
    _, summed = private(weighted_sum(), gaussian(1.0, 0.0), divisor=7.0).aggregate(
        jax.random.key(0), (), stack, WEIGHTS
    )
    flat = np.concatenate([np.asarray(stack["a"]).reshape(5, -1), np.asarray(stack["b"])], axis=1)
    clipped = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1.0)
    expected = clipped[[0, 2, 3, 4]].sum(axis=0)
    got = np.concatenate([np.asarray(summed.total["a"]).ravel(), np.asarray(summed.total["b"])])
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert summed.weight == 7.0


@pytest.mark.parametrize(
    "build",
    [
        lambda: private(weighted_sum(), gaussian(0.5, 0.0), divisor=1.0),
        lambda: private_over_rounds(weighted_sum(), correlated_gaussian(0.5, 0.0, (1.0, 0.5)), divisor=1.0),
    ],
    ids=["private", "private_over_rounds"],
)
def test_one_client_moves_the_private_sum_by_at_most_the_sensitivity(build):
    """Whatever the client sends; and the bound is reached, so it is not loose."""
    aggregator, moved = build(), []
    state = aggregator.init(PARAMS)
    for seed, scale in [(0, 1e-3), (1, 1.0), (2, 1e6)]:
        stack = updates(5, seed, scale)
        sums = [
            aggregator.aggregate(jax.random.key(0), state, stack, weights)[1]
            for weights in (jnp.ones(5), jnp.ones(5).at[2].set(0.0))
        ]
        assert sums[0].weight == sums[1].weight
        moved.append(
            np.sqrt(
                sum(
                    float(jnp.sum(jnp.square(a - b)))
                    for a, b in zip(*map(jax.tree.leaves, (s.total for s in sums)), strict=True)
                )
            )
        )
    assert max(moved) <= 0.5 * (1 + 1e-4)
    assert max(moved) >= 0.5 * (1 - 1e-3)


def test_the_noise_is_on_the_sum_and_not_on_the_mean():
    clip_norm, noise_multiplier, divisor = 0.5, 2.0, 50.0
    aggregator = private(weighted_sum(), gaussian(clip_norm, noise_multiplier), divisor)
    large = {"a": jnp.zeros((3, 40_000))}
    _, summed = aggregator.aggregate(jax.random.key(0), (), large, jnp.ones(3))
    # Standard error of a deviation over 40,000 draws is 0.35 %.
    assert np.std(summed.total["a"]) == pytest.approx(clip_norm * noise_multiplier, rel=0.02)
    assert np.std(summed.total["a"] / summed.weight) == pytest.approx(clip_norm * noise_multiplier / divisor, rel=0.02)


def test_noise_differs_between_keys_and_leaves():
    aggregator = private(weighted_sum(), gaussian(1.0, 1.0), 1.0)
    zeros = {"a": jnp.zeros((2, 8)), "b": jnp.zeros((2, 8))}
    drawn = [aggregator.aggregate(jax.random.key(s), (), zeros, jnp.ones(2))[1].total for s in (0, 1)]
    assert (drawn[0]["a"] != drawn[1]["a"]).all()
    assert (drawn[0]["a"] != drawn[0]["b"]).all()


def test_a_divisor_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="divisor=0.0 must be positive"):
        private(weighted_sum(), gaussian(1.0, 1.0), 0.0)
