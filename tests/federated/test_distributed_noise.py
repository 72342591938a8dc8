"""The distributed discrete Gaussian mechanism inside a compiled round."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedjax_anomaly import federated
from fedjax_anomaly.federated.distributed_noise import distributed_noise
from fedjax_anomaly.privacy import conditional_rounding, discrete_gaussian
from fedjax_anomaly.privacy.conditional_rounding import rounded_norm_bound
from fedjax_anomaly.privacy.secure_aggregation import masking
from tests.federated.test_secure_sum import one_round

CLIP_NORM, SIZE = 0.5, 4000
WEIGHTS = jnp.array([3.0, 0.0, 1.0, 2.0, 5.0])


def stack(scale: float = 1.0, seed: int = 0):
    values = np.random.default_rng(seed).normal(size=(5, SIZE)).astype(np.float32)
    return {"a": jnp.asarray(scale * values)}


def summed(updates, noise_multiplier=3.0, key=0, weights=WEIGHTS):
    aggregator = distributed_noise("secagg", CLIP_NORM, noise_multiplier, 2.5)
    state, total = jax.jit(aggregator.aggregate)(jax.random.key(key), aggregator.init(None), updates, weights)
    assert total.weight == 2.5
    return state, np.asarray(total.total["a"], np.float64)


def check_noise(noise_multiplier: float = 3.0) -> None:
    """The sum is that of the clipped updates, but for noise of the promised deviation; nothing overflowed."""
    updates = stack(10.0)
    state, total = summed(updates, noise_multiplier)
    clear = np.asarray(updates["a"], np.float64)
    clipped = CLIP_NORM * clear / np.linalg.norm(clear, axis=1, keepdims=True)
    noise = (total - clipped[[0, 2, 3, 4]].sum(axis=0)) / (noise_multiplier * CLIP_NORM)
    assert state.overflowed_values == 0
    assert state.mask_pairs == 6
    # Five standard errors of a deviation over 4,000 coordinates.
    assert noise.std() == pytest.approx(1.0, rel=5.0 / np.sqrt(2.0 * SIZE))
    assert stats.kstest(noise, "norm").pvalue > 1e-3


def test_the_noise_of_the_sum_is_what_was_promised(monkeypatch):
    """And shares that are halved show, as does a missing mask (controls)."""
    check_noise()
    sample = discrete_gaussian.sample
    mask = masking.mask

    def without_one_mask(around, codes):
        pair = masking._pair_masks(around, jnp.int32(1), codes.shape[1])[2]
        return mask(around, codes).at[0].add(-pair[0])

    for where, name, broken in (
        (discrete_gaussian, "sample", lambda key, shape: sample(key, shape) // 2),
        (masking, "mask", without_one_mask),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, broken)
            with pytest.raises(AssertionError):
                check_noise()


def moved_by_one_client(*scales: float) -> list[float]:
    """In L2 norm, when the third client's update is another; the noise, of one clip norm, is the same in both."""
    aggregator = distributed_noise("secagg", CLIP_NORM, 1.0, 2.5)
    run = jax.jit(lambda stack: aggregator.aggregate(jax.random.key(0), aggregator.init(None), stack, WEIGHTS)[1])
    stacks = [stack(scale)["a"] for scale in scales]
    sums = [[run({"a": one}).total["a"] for one in (own, own.at[2].multiply(-3.0))] for own in stacks]
    return [float(np.linalg.norm(np.subtract(*pair, dtype=np.float64))) for pair in sums]


def test_one_client_moves_the_sum_by_at_most_what_is_accounted(monkeypatch):
    """Whatever it sends, and nearly that much. Without the clip, and the check behind it, it moves more (control)."""
    in_steps = np.sqrt(4.0) * discrete_gaussian.NOISE_STD
    accounted = 2.0 * rounded_norm_bound(in_steps, SIZE) / in_steps * CLIP_NORM
    moved = moved_by_one_client(1e-4, 1.0, 1e6)
    assert max(moved) <= accounted
    assert moved[1] >= 2.0 * CLIP_NORM * (1.0 - 1e-3)
    monkeypatch.setattr("jax_privacy.clipping.clip_pytree", lambda update, clip_norm: (update, None))
    # The rounding does not trust the clip: what is too long becomes zero.
    assert moved_by_one_client(1.0) == [0.0]
    monkeypatch.setattr(conditional_rounding, "_squared_norm", lambda vector: jnp.zeros(()))
    assert moved_by_one_client(1.0)[0] > accounted


def test_scanned_rounds_of_clusters_equal_those_in_the_clear_but_for_the_noise():
    """On four devices, with noise of 1e-4 of a clip norm that no update reaches."""
    clear, _ = one_round(federated.divided_by(federated.weighted_sum(), 3.0))
    mesh = federated.clients_mesh(jax.devices()[:4])
    noisy, (info, _) = one_round(distributed_noise("secagg", 50.0, 1e-4, 3.0, mesh=mesh), mesh=mesh)
    # Three rounds of deviation 5e-3 over 3, at five deviations.
    atol = 5.0 * np.sqrt(3.0) * 5e-3 / 3.0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), clear.params, noisy.params)
    assert not np.asarray(info.aggregation["overflowed_values"]).any()


def test_many_seeds_and_traced_noise_are_the_sums_one_by_one():
    noises = jnp.array([1.0, 4.0])

    def one(key, noise_multiplier):
        aggregator = distributed_noise("secaggplus", CLIP_NORM, noise_multiplier, 2.5)
        return aggregator.aggregate(key, aggregator.init(None), stack(), WEIGHTS)[1].total["a"]

    keys = jax.random.split(jax.random.key(3), 2)
    together = jax.jit(jax.vmap(one))(keys, noises)
    for member in range(2):
        np.testing.assert_allclose(together[member], jax.jit(one)(keys[member], noises[member]), rtol=1e-5, atol=1e-6)
    assert np.std(together[1]) / np.std(together[0]) == pytest.approx(4.0, rel=0.1)


def test_a_sum_that_could_overflow_is_refused_or_counted():
    # 2800 * 5^1.5 / 2^31.
    with pytest.raises(ValueError, match=r"noise_multiplier=1e-05 is less than the 1.46e-05 for which 5 clients' val"):
        summed(stack(), 1e-5)
    # Traced, it cannot be refused.
    state, _ = summed(stack(), jnp.float32(1e-5))
    assert state.overflowed_values == SIZE


@pytest.mark.parametrize(
    ("settings", "message"),
    [((0.0, 1.0, 1.0), "clip_norm=0.0 must be positive"), ((1.0, 1.0, 0.0), "divisor=0.0 must be positive")],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        distributed_noise("secagg", *settings)
