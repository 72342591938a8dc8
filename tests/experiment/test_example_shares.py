"""Example-level privacy whose noise is divided among the clients of a secure sum."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedjax_anomaly import trees
from fedjax_anomaly.config import Config
from fedjax_anomaly.experiment import build, train
from fedjax_anomaly.experiment.example_shares import secure_gradient_sum
from fedjax_anomaly.experiment.privacy_ledger import announcement, statement
from fedjax_anomaly.federated import check_sums
from tests.experiment.conftest import SMALL

STEPS = {"local_steps": 1, "batch_size": 64, "client_optimizer": "sgd", "dp_sampling_rate": 0.5}
SHARES = dataclasses.replace(
    SMALL,
    model="dense_autoencoder",
    num_clusters="1",
    num_rounds=2,
    rounds_per_report=2,
    learning_rate=0.5,
    dp_unit="example",
    dp_trust="distributed",
    secure_aggregation="secagg",
    dp_noise_multiplier=10.0,
    clip_norm=0.2,
    **STEPS,
)


def test_the_shares_add_up_to_the_noise_that_is_accounted(small_dataset):
    """A round moves the model by 0.5 / (q N) times the sum of gradients, here almost all noise.

    Each of 4 clients adds the root of one third of the variance, so that 3 of them are enough: in two rounds the
    deviation is 10 times the clip norm times the root of 2 * 4 / 3. Half of it, and the 2 that 4 clients would have who
    add all of it, are far outside of the tolerance.
    """
    experiment = build(SHARES, small_dataset)
    start = experiment.model.init
    trained = train(experiment)
    total = float(np.sum(experiment.train.mask))
    key_init, _ = jax.random.split(jax.random.key(SHARES.seed))
    begin = experiment.algorithm.init(key_init, experiment.train).params
    moved = np.concatenate(
        [np.ravel(a - b) for a, b in zip(jax.tree.leaves(trained.state.params), jax.tree.leaves(begin), strict=True)]
    )
    expected = 0.5 / (0.5 * total) * 10.0 * 0.2 * np.sqrt(2.0 * 4.0 / 3.0)
    assert trees.num_elements(jax.eval_shape(start, jax.random.key(0))) == len(moved)
    assert moved.std() == pytest.approx(expected, rel=5.0 / np.sqrt(2.0 * len(moved)))


def test_the_statement_is_that_of_the_sum(small_dataset):
    local = dataclasses.replace(SHARES, dp_trust="local", secure_aggregation="none")
    ours, theirs = (statement(build(config, small_dataset), rounds_done=2) for config in (SHARES, local))
    assert ours["epsilon"] == theirs["epsilon"] > 0.0
    assert ours["noise_to_clip_ratio"] == pytest.approx(theirs["noise_to_clip_ratio"] / np.sqrt(3.0))
    assert ours["trust"].startswith("distributed: each client adds its share of the noise to its gradients")
    assert "the server sees the noisy sum" in ours["trust"]
    assert ours["assumes"] == theirs["assumes"]
    assert theirs["trust"].startswith("local: each client adds the noise to its own steps")
    assert "to which each adds 0.577 of this deviation" in ours["mechanisms"][-1]["in_words"]
    assert any(line.startswith("trust: distributed") for line in announcement([build(SHARES, small_dataset)]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"local_steps": 2}, "local_steps=2 with dp_trust=distributed and dp_unit=example has no valid accounting"),
        ({"client_optimizer": "adam"}, "give --client_optimizer=sgd, or leave --dp_trust out"),
        ({"clients_per_round": 2}, "clients_per_round=2 with dp_trust=distributed"),
        ({"dp_sampling_rate": 0.0}, "needs one rate of sampling and one step size for all, but dp_sampling_rate=0.0"),
        ({"sweep": "learning_rate=0.1,0.2"}, "give --dp_sampling_rate, and no --sweep"),
        ({"secure_aggregation": "none"}, "which only a secure sum hides; give --secure_aggregation=secagg"),
        ({"secagg_clip": 1.0}, "secagg_clip=1.0 has no effect with secure_aggregation=secagg"),
        ({"dp_trust": "central"}, "dp_trust=central has no effect with dp_unit=example"),
    ],
)
def test_what_has_no_accounting_is_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(SHARES, **settings)


def test_too_few_clients_and_coarse_noise_are_refused(small_dataset):
    with pytest.raises(ValueError, match="at least 3, but one model has 2"):
        build(dataclasses.replace(SHARES, num_clusters="2"), small_dataset)
    for noise_multiplier in (1e-6, 1e4):
        with pytest.raises(ValueError, match="must be at least 64, and at most a 10th of"):
            build(dataclasses.replace(SHARES, dp_noise_multiplier=noise_multiplier), small_dataset)


def test_a_clipped_value_stops_the_run():
    """Its client's noise would be missing from the sum."""
    aggregator = secure_gradient_sum(SHARES, 100, None)
    # The bound is 2 * 0.5 * 0.2 / 0.5 = 0.4 times 128 windows, for the update times its 100 windows.
    for size, stops in ((0.5, False), (0.6, True)):
        state, _ = jax.jit(aggregator.aggregate)(
            jax.random.key(0), aggregator.init(None), {"w": jnp.full((4, 3), size)}, jnp.full(4, 100.0)
        )
        record = {"round": 1, **{name: int(value) for name, value in aggregator.report(state).items()}}
        if stops:
            with pytest.raises(ArithmeticError, match="12 values of a secure sum"):
                check_sums([record])
        else:
            check_sums([record])


def rounded_sum(means: list[float], std: float) -> np.ndarray:
    """The distribution of a sum of rounded Gaussians, by convolution; index 0 is -200 times their number."""
    edges = np.arange(-200, 202) - 0.5
    total = np.ones(1)
    for mean in means:
        total = np.convolve(total, np.diff(stats.norm.cdf(edges, mean, std)))
    return total


@pytest.mark.parametrize(("std", "holds"), [(1.5, True), (0.15, False)])
def test_rounding_each_noisy_share_tells_no_more_than_their_real_sum(std, holds):
    """The exact hockey-stick divergence of the secure sum against the closed form of one Gaussian.

    Three clients with noise of 1.5 steps each; the window moves one of them by 2.4 steps. Noise of a fraction of a
    step is rounded away and does not protect, which is why coarse noise is refused.
    """
    move = 1.6 * std
    ours, theirs = (rounded_sum([0.5 + sign * move / 2, -0.8, 0.1], std) for sign in (-1.0, 1.0))
    mu, bounded = move / (std * np.sqrt(3.0)), []
    for epsilon in (0.5, 1.0, 2.0, 4.0):
        of_sum = max(np.maximum(a - np.exp(epsilon) * b, 0.0).sum() for a, b in ((ours, theirs), (theirs, ours)))
        of_gaussian = stats.norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu)
        bounded.append(of_sum <= of_gaussian + 1e-9)
    assert all(bounded) == holds


def test_who_adds_the_noise_is_chosen_by_the_unit():
    example = Config(dp_unit="example", dp_epsilon=1.0)
    client = dataclasses.replace(example, dp_unit="client")
    assert [c.trust for c in (Config(), example, client, SHARES)] == ["auto", "local", "central", "distributed"]
