import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from fedjax_anomaly import trees
from fedjax_anomaly.federated.aggregation import weighted_sum
from fedjax_anomaly.federated.algorithm import run
from fedjax_anomaly.federated.clustered_fedavg import clustered_fedavg
from fedjax_anomaly.federated.clustering import single
from fedjax_anomaly.federated.local_training import local_training
from fedjax_anomaly.federated.private_local_training import draw_windows, private_local_training
from fedjax_anomaly.privacy import gaussian, sampling_rate
from fedjax_anomaly.types import ClientData
from tests.federated import models
from tests.fleet import client_data

UNCLIPPED = 1e9


def one_client(size: int, **settings) -> ClientData:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), client_data([size], **settings))


def train(data, *, clip_norm=0.7, noise=0.0, optimizer=None, batch_size=6, loss=models.loss, start=None, **settings):
    optimizer = optax.sgd(0.1) if optimizer is None else optimizer
    mechanism = gaussian(clip_norm, noise)
    function = private_local_training(loss, optimizer, mechanism, window_length=4, batch_size=batch_size, **settings)
    return function(jax.random.key(1), models.init(jax.random.key(0)) if start is None else start, data)


def clipped_gradient_sum(center, scale, rows, clip_norms):
    """A plain loop in NumPy over the rows, with the gradient of `models.loss` written out."""
    total = np.zeros(len(center) + 1)
    for row, clip_norm in zip(rows, clip_norms, strict=True):
        offset = row * scale - center
        gradient = np.append(-offset, (offset * row).sum())
        total += gradient * min(1.0, clip_norm / np.sqrt((gradient**2).sum()))
    return total


@pytest.mark.parametrize("microbatch_size", [1, 4, 32])
def test_a_step_is_the_sum_of_clipped_gradients_of_a_plain_loop(microbatch_size):
    data = one_client(6)
    start = np.asarray(models.init(jax.random.key(0))["center"], np.float64)
    update = train(data, microbatch_size=microbatch_size)
    found = np.append(update.delta["center"], update.delta["scale"])
    rows = np.asarray(data.series[:6], np.float64)
    np.testing.assert_allclose(found, -0.1 / 6 * clipped_gradient_sum(start, 1.0, rows, [0.7] * 6), atol=1e-6)
    # One clip left out is seen, whichever it is.
    for left_out in range(6):
        norms = [UNCLIPPED if i == left_out else 0.7 for i in range(6)]
        wrong = -0.1 / 6 * clipped_gradient_sum(start, 1.0, rows, norms)
        assert np.abs(found - wrong).max() > 1e-3


@pytest.mark.parametrize("changed", range(5))
def test_one_window_moves_the_sum_by_at_most_the_clip_norm(changed):
    """An empty window has no gradient; a window of huge or undefined values counts as any other."""
    data = one_client(5)
    sums = []
    for value in (1e20, np.nan, 3.0):
        series = data.series.at[changed].set(value)
        empty = data.mask.at[changed].set(False)
        with_window, without = (
            -6.0 / 0.1 * flat(train(data._replace(series=series, mask=mask), batch_size=6).delta) * size / 6
            for mask, size in ((data.mask, 5), (empty, 4))
        )
        sums.append(np.linalg.norm(with_window - without))
    assert max(sums) <= 0.7 * (1 + 1e-4)
    assert sums[-1] >= 0.7 * (1 - 1e-4)


def flat(tree) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def wide_start() -> dict:
    return {"a": jnp.zeros(20_000), "b": jnp.zeros((100, 200))}


def flat_loss(params, windows, key):
    """No gradient, so that noise is all there is."""
    return 0.0 * (jnp.sum(params["a"]) + jnp.sum(params["b"])) + jnp.sum(windows, axis=(1, 2)) * 0.0


@pytest.mark.parametrize(("size", "batch_size", "steps"), [(6, 6, 1), (6, 6, 3), (4, 1, 4)])
def test_the_noise_is_what_was_promised(size, batch_size, steps):
    """Deviation z S / B on each step's mean gradient, also where a step drew more, fewer or no windows than B."""
    epochs = steps // (-(-size // batch_size))
    update = train(
        one_client(size),
        clip_norm=0.5,
        noise=3.0,
        optimizer=optax.sgd(1.0),
        batch_size=batch_size,
        loss=flat_loss,
        start=wide_start(),
        local_epochs=epochs,
    )
    expected = 3.0 * 0.5 / batch_size * np.sqrt(steps)
    for leaf in jax.tree.leaves(update.delta):
        sample = np.asarray(leaf).ravel() / expected
        assert stats.kstest(sample, "norm").pvalue > 1e-3
        for too_little in (0.5, 0.9):
            assert stats.kstest(too_little * sample, "norm").pvalue < 1e-6
    leaves = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(update.delta)]
    assert abs(np.corrcoef(*leaves)[0, 1]) < 0.05


def draws(num_windows, batch_size, padding=9, count=4000) -> np.ndarray:
    """Bool[count, N + padding], one draw per key."""
    mask = jnp.arange(num_windows + padding) < num_windows
    keys = jax.random.split(jax.random.key(5), count)
    rate = jnp.float32(sampling_rate(batch_size, num_windows))
    return np.asarray(jax.jit(jax.vmap(lambda key: draw_windows(key, mask, rate)))(keys))


def test_windows_are_drawn_independently_with_the_rate_of_the_accountant():
    drawn = draws(40, 10)
    assert not drawn[:, 40:].any()
    drawn = drawn[:, :40].astype(float)
    rate = sampling_rate(10, 40)
    assert rate == 0.25
    # Five standard deviations of a frequency; for all windows together the same over 40 times as many draws.
    deviation = np.sqrt(rate * (1 - rate) / 4000)
    assert np.abs(drawn.mean(axis=0) - rate).max() < 5 * deviation
    assert abs(drawn.mean() - rate) < 5 * deviation / np.sqrt(40)
    # The size of a batch is binomial: variance N q (1 - q), where a batch of fixed size has none.
    assert drawn.sum(axis=1).var() == pytest.approx(40 * rate * (1 - rate), rel=5 * np.sqrt(2 / 4000))
    # No two windows and no two draws that follow each other hang together.
    pairs = np.corrcoef(drawn.T)[np.triu_indices(40, 1)]
    assert np.abs(pairs).max() < 5 / np.sqrt(4000)
    assert abs(np.corrcoef(drawn[:-1].ravel(), drawn[1:].ravel())[0, 1]) < 5 / np.sqrt(4000 * 40)


def test_a_client_no_larger_than_the_batch_is_drawn_whole():
    for batch_size in (7, 8):
        assert draws(7, batch_size, count=50)[:, :7].all()
        assert sampling_rate(batch_size, 7) == 1.0
    assert not draws(9, 8, count=200)[:, :9].all()


@pytest.mark.parametrize(("batch_size", "num_windows"), [(1, 3), (64, 2500), (7, 8), (1, 1_000_003)])
def test_the_accountant_is_told_at_least_the_rate_of_the_sampler(batch_size, num_windows):
    """The bound of the 32 random bits, re-derived: at most the accountant's rate, and within 2^-32 of it."""
    rate = jnp.float32(batch_size) / jnp.float32(num_windows)
    sampler = int((rate * 2.0**32).astype(jnp.uint32)) / 2**32
    assert sampler <= sampling_rate(batch_size, num_windows) < sampler + 2**-32
    assert sampler == pytest.approx(batch_size / num_windows, rel=1e-6, abs=2**-32)


def count_of_draws(steps, **settings) -> tuple[np.ndarray, np.ndarray]:
    """How often each of 100 windows was drawn in training at rate 1/4, found and by the keys of the steps.

    Window n is the n-th unit vector and the loss linear, so the update counts how often each window was drawn.
    """
    size, rate = 100, 0.25
    data = ClientData(jnp.eye(size), jnp.arange(size), jnp.ones(size, bool))
    update = private_local_training(
        lambda params, windows, key: jnp.sum(windows[:, 0] * params[None], axis=-1),
        optax.sgd(1.0),
        gaussian(UNCLIPPED, 0.0),
        window_length=1,
        **settings,
    )(jax.random.key(3), jnp.zeros(size), data)
    expected = np.zeros(size)
    for step in range(steps):
        key_draw, _, _ = jax.random.split(jax.random.fold_in(jax.random.key(3), step), 3)
        expected += np.asarray(draw_windows(key_draw, data.mask, jnp.float32(rate)))
    return -rate * size * np.asarray(update.delta), expected


@pytest.mark.parametrize("microbatch_size", [3, 32, 128])
def test_every_drawn_window_counts_once_in_its_step(microbatch_size):
    found, expected = count_of_draws(10 * 4, batch_size=25, local_epochs=10, microbatch_size=microbatch_size)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # Epochs over a shuffled order, which no accountant of Poisson sampling may be told of, would count 10 for each.
    assert 2.0 < expected.var() < 20.0


def test_the_rate_and_the_steps_can_be_given():
    """Batch size and epochs, which ask for another rate and for other steps, have no say then."""
    for steps, given in ((4, {}), (3, {"local_steps": 3})):
        found, expected = count_of_draws(steps, batch_size=7, sampling_rate=0.25, **given)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    with pytest.raises(ValueError, match=r"sampling_rate=1\.5 must lie in \[0, 1\]"):
        count_of_draws(1, batch_size=7, sampling_rate=1.5)


def test_without_noise_and_clipping_a_full_batch_is_plain_gradient_descent():
    data, start = one_client(6), models.init(jax.random.key(0))
    settings = {"window_length": 4, "batch_size": 6, "local_epochs": 3, "proximal_mu": 0.5}
    plain = local_training(models.loss, optax.sgd(0.1, momentum=0.9), **settings)
    private = private_local_training(models.loss, optax.sgd(0.1, momentum=0.9), gaussian(UNCLIPPED, 0.0), **settings)
    updates = [function(jax.random.key(1), start, data) for function in (plain, private)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *updates)


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("optimizer", [optax.sgd(0.1, momentum=0.9), optax.adam(0.1), optax.adamw(0.1)])
def test_padding_changes_nothing(optimizer):
    data = one_client(6)
    padded = ClientData(data.series, jnp.pad(data.starts, (0, 9)), jnp.pad(data.mask, (0, 9)))
    plain, with_padding = (
        train(d, noise=1.0, optimizer=optimizer, batch_size=2, local_epochs=2) for d in (data, padded)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), plain, with_padding)


def test_every_window_has_a_loss_key_of_its_own():
    """As input masking needs; 4 windows in each of 2 full batches."""
    seen = []

    def loss(params, windows, key):
        jax.debug.callback(lambda data: seen.append(tuple(data.tolist())), jax.random.key_data(key))
        return models.loss(params, windows)

    jax.block_until_ready(train(one_client(4), loss=loss, local_epochs=2, microbatch_size=4))
    jax.effects_barrier()
    assert len(set(seen)) == 8


@pytest.mark.parametrize("clip_norm", [0.7, UNCLIPPED])
def test_copies_of_a_window_are_averaged_before_the_clip(clip_norm):
    """With a loss that shows copy i of a window i + 1 times as large, against NumPy."""

    def loss(params, windows, key):
        factors = jnp.arange(1.0, 1.0 + len(windows))
        return models.loss(params, windows * factors[:, None, None])

    data = one_client(6)
    update = train(data, loss=loss, copies=3, clip_norm=clip_norm)
    center = np.asarray(models.init(jax.random.key(0))["center"], np.float64)
    total = np.zeros(len(center) + 1)
    for row in np.asarray(data.series[:6], np.float64):
        shown = [row, 2.0 * row, 3.0 * row]
        gradient = np.mean([np.append(center - one, ((one - center) * one).sum()) for one in shown], axis=0)
        total += gradient * min(1.0, clip_norm / np.sqrt((gradient**2).sum()))
    found = np.append(update.delta["center"], update.delta["scale"])
    np.testing.assert_allclose(found, -0.1 / 6 * total, rtol=1e-5, atol=1e-6)


def test_a_client_without_windows_adds_nothing_not_even_noise():
    data = one_client(4)
    update = train(data._replace(mask=jnp.zeros(4, bool)), noise=1.0)
    assert update.weight == 0.0
    assert update.loss == 0.0
    assert all((leaf == 0.0).all() for leaf in jax.tree.leaves(update.delta))


def test_two_halves_of_a_private_run_equal_the_whole_bit_for_bit():
    data = jax.tree.map(jnp.asarray, client_data([7, 3, 5]))
    train_client = private_local_training(
        models.loss, optax.sgd(0.1), gaussian(1.0, 1.0), window_length=4, batch_size=2
    )
    algorithm = clustered_fedavg(models.init, train_client, single(3), weighted_sum(), optax.sgd(1.0))
    state, key = algorithm.init(jax.random.key(0), data), jax.random.key(1)
    whole, _ = run(algorithm, key, state, data, 4)
    half, _ = run(algorithm, key, state, data, 2)
    resumed, _ = run(algorithm, key, half, data, 2)
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)
    assert trees.num_elements(whole.params) == 4


@pytest.mark.parametrize("name", ["batch_size", "microbatch_size", "local_epochs", "window_length"])
def test_values_below_one_are_refused(name):
    settings = {"window_length": 4, "batch_size": 2} | {name: 0}
    with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
        private_local_training(models.loss, optax.sgd(0.1), gaussian(1.0, 1.0), **settings)
