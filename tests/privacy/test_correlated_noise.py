"""Against matrices written out in NumPy and every pattern of turns tried."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_anomaly.privacy import ClientLevelRelease, CorrelatedRelease, correlated_gaussian, optimal_strategy
from fedjax_anomaly.privacy.correlated_noise import noise_growth
from tests.privacy.test_accounting import gaussian_epsilon

ROUNDS, BLOCKS = 8, 3
CYCLIC = ClientLevelRelease(ROUNDS, 6, 2, "cyclic")


def correlated(strategy, like=CYCLIC) -> CorrelatedRelease:
    return CorrelatedRelease(**dataclasses.asdict(like), strategy=strategy)


def matrix(strategy, num_rounds=ROUNDS) -> np.ndarray:
    """C, written out."""
    column = np.zeros(num_rounds)
    column[: len(strategy)] = strategy[:num_rounds]
    return np.array([[column[i - j] if i >= j else 0.0 for j in range(num_rounds)] for i in range(num_rounds)])


def patterns(num_rounds: int, separation: int):
    """All sets of rounds that lie at least `separation` apart."""
    for count in range(1, num_rounds + 1):
        for turns in itertools.combinations(range(num_rounds), count):
            if all(b - a >= separation for a, b in itertools.pairwise(turns)):
                yield list(turns)


@pytest.mark.parametrize("num_rounds", [2, ROUNDS])
@pytest.mark.parametrize("strategy", ["optimal", (1.0, 0.7, 0.5, 0.4, 0.1)])
@pytest.mark.parametrize("like", [CYCLIC, ClientLevelRelease(ROUNDS, 6, 6, "full")], ids=["cyclic", "full"])
def test_the_sensitivity_is_the_largest_over_all_patterns(like, strategy, num_rounds):
    """Also of the first rounds only, of matrices whose bands reach from one turn to the next, and of every round."""
    strategy = optimal_strategy(ROUNDS, like.min_separation) if strategy == "optimal" else strategy
    release = dataclasses.replace(correlated(strategy, like), num_rounds=num_rounds)
    moved = matrix(strategy, num_rounds)
    # Entries of C are not negative, so that updates in one direction add up most.
    worst = max(np.linalg.norm(moved[:, turns].sum(axis=1)) for turns in patterns(num_rounds, like.min_separation))
    assert release.sensitivity == pytest.approx(worst, rel=1e-6)


def noise_over_rounds(strategy, noise_multiplier: float, clip_norm: float, draws: int) -> np.ndarray:
    """Float[R, draws], by the mechanism with a key for each round, as a scan."""
    mechanism = correlated_gaussian(clip_norm, noise_multiplier, strategy)
    zeros = {"a": jnp.zeros(draws - 10), "b": jnp.zeros((2, 5))}

    def step(state, number):
        return mechanism.add_noise(jax.random.fold_in(jax.random.key(0), number), state, zeros)

    _, noise = jax.lax.scan(step, mechanism.init_noise(zeros), jnp.arange(ROUNDS))
    return np.concatenate([np.asarray(leaf).reshape(ROUNDS, -1) for leaf in jax.tree.leaves(noise)], axis=1)


def test_the_covariance_of_the_noise_is_that_of_the_strategy():
    strategy = optimal_strategy(ROUNDS, BLOCKS)
    assert len(strategy) == BLOCKS
    inverse = np.linalg.inv(matrix(strategy))
    expected = (1.5 * 0.2) ** 2 * inverse @ inverse.T
    noise = noise_over_rounds(strategy, 1.5, 0.2, draws=60_000)
    # An entry over 60,000 draws has a standard error of at most sqrt(2 / 60,000) = 0.6 % of a variance.
    np.testing.assert_allclose(np.cov(noise), expected, atol=0.03 * expected.max())
    assert noise_growth(strategy, ROUNDS) == pytest.approx(math.sqrt(np.trace(inverse @ inverse.T) / ROUNDS), rel=1e-6)


@pytest.mark.parametrize("share_of_the_noise", [1.0, 0.5])
def test_what_all_turns_move_is_within_the_guarantee(share_of_the_noise):
    """The distance of the released rounds with and without a client, in units of the noise that is there; with half of
    the noise it is twice what is accounted."""
    strategy = optimal_strategy(ROUNDS, BLOCKS)
    covariance = np.cov(noise_over_rounds(strategy, 2.0 * share_of_the_noise, 1.0, draws=60_000))
    distances = []
    for turns in patterns(ROUNDS, BLOCKS):
        moved = np.zeros(ROUNDS)
        moved[turns] = 1.0  # Each update is as long as the clip norm.
        distances.append(math.sqrt(moved @ np.linalg.solve(covariance, moved)))
    accounted = correlated(strategy).sensitivity / 2.0
    assert max(distances) == pytest.approx(accounted / share_of_the_noise, rel=0.02)


def test_it_is_accounted_as_one_gaussian_mechanism_of_its_sensitivity():
    release = correlated((1.0, 0.5, 0.25))
    exact = gaussian_epsilon(3.0 / release.sensitivity, 1e-5)
    assert exact <= release.epsilon(3.0, 1e-5) <= 1.002 * exact
    assert release.epsilon(3.0, 1e-5, "RDP") > exact


def test_prefix_sums_are_more_exact_than_with_independent_noise_of_the_same_epsilon():
    release = correlated(optimal_strategy(ROUNDS, BLOCKS))
    # A client has 3 turns, so that multipliers of 2 sqrt(3) and of 2 sensitivities cost the same.
    multipliers = 2.0 * math.sqrt(CYCLIC.participations), 2.0 * release.sensitivity
    assert CYCLIC.epsilon(multipliers[0], 1e-5) == pytest.approx(release.epsilon(multipliers[1], 1e-5), rel=1e-3)
    errors = [
        multiplier * np.sqrt(np.square(np.tri(ROUNDS) @ np.linalg.inv(encoder)).sum(axis=1).mean())
        for multiplier, encoder in zip(multipliers, (np.eye(ROUNDS), matrix(release.strategy)), strict=True)
    ]
    assert errors[1] < 0.85 * errors[0]


def test_where_every_client_is_in_every_round_independent_noise_is_the_best():
    assert optimal_strategy(ROUNDS, 1) == (1.0,)


@pytest.mark.parametrize(("clip_norm", "noise_multiplier"), [(0.0, 1.0), (1.0, -1.0)])
def test_values_out_of_range_are_refused(clip_norm, noise_multiplier):
    with pytest.raises(ValueError, match="must"):
        correlated_gaussian(clip_norm, noise_multiplier, (1.0,))
