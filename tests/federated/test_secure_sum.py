"""The sum by secure aggregation inside a compiled round."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.random import threefry_2x32
from scipy import stats

from fedjax_anomaly import federated
from fedjax_anomaly.federated.aggregation import private, weighted_sum
from fedjax_anomaly.federated.secure_sum import secure_sum
from fedjax_anomaly.privacy.mechanisms import gaussian
from fedjax_anomaly.privacy.secure_aggregation import masking, quantize
from fedjax_anomaly.privacy.secure_aggregation.graph import MaskGraph, mask_graph
from tests.federated import models
from tests.fleet import client_data

SPARSE = MaskGraph(num_clients=11, num_neighbours=4, threshold=2)
GRAPHS = {"complete": mask_graph("secagg", 11), "sparse": SPARSE, "even": mask_graph("secagg", 8)}


def random_codes(count: int, size: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**32, (count, size), dtype=np.uint32)


@functools.partial(jax.jit, static_argnames="graph")
def send_and_sum(key, codes, enrolled, failed, graph):
    """The messages, what is left of their sum, which positions sent, whether it is recoverable, the ring."""
    around = masking.ring(key, enrolled, graph)
    sent = (jnp.arange(len(codes)) < around.size) & ~failed[around.place]
    messages = masking.mask(around, codes)
    total = jnp.sum(jnp.where(sent[:, None], messages, 0), axis=0, dtype=jnp.uint32)
    return messages, masking.unmask(around, total, sent), sent, masking.recoverable(around, sent), around


def mask_of(key, size: int = 16) -> np.ndarray:
    """Words of the blocks 0, 1, ... of threefry, two of each."""
    half = size // 2
    counters = jnp.concatenate([jnp.arange(half, dtype=jnp.uint32), jnp.zeros(half, jnp.uint32)])
    return np.asarray(threefry_2x32(jax.random.key_data(key), counters)).reshape(2, half).T.ravel()


def in_the_clear(codes: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return (codes[counted].astype(np.uint64).sum(axis=0) % 2**32).astype(np.uint32)


@pytest.mark.parametrize("name", list(GRAPHS))
@pytest.mark.parametrize("absent", [(), (3,), (0, 2, 5, 6, 7)])
def test_masks_cancel_in_the_sum(name, absent):
    """Bit for bit, also where some places are empty; no message shows the vector that it hides."""
    graph = GRAPHS[name]
    codes, enrolled = random_codes(graph.num_clients), np.ones(graph.num_clients, bool)
    enrolled[list(absent)] = False
    messages, total, _, recoverable, around = send_and_sum(
        jax.random.key(1), codes, enrolled, np.zeros_like(enrolled), graph
    )
    np.testing.assert_array_equal(total, in_the_clear(codes, enrolled))
    assert recoverable
    size = int(around.size)
    assert size == enrolled.sum()
    assert sorted(np.asarray(around.place)[:size]) == np.flatnonzero(enrolled).tolist()
    assert (np.asarray(messages)[:size] != codes[np.asarray(around.place)[:size]]).mean() > 0.99
    # Every pair of a complete graph, or n k / 2 pairs, where more clients take part than have k neighbours.
    pairs = size * min(graph.num_neighbours, size - 1) // 2
    assert int(masking.num_links(around)) == pairs


@pytest.mark.parametrize("name", ["complete", "sparse"])
def test_masks_shared_with_clients_that_dropped_out_are_removed(name):
    graph = GRAPHS[name]
    codes, everyone = random_codes(11), np.ones(11, bool)
    failed = np.isin(np.arange(11), [2, 9] if name == "complete" else [4])
    messages, total, sent, recoverable, _ = send_and_sum(jax.random.key(2), codes, everyone, failed, graph)
    np.testing.assert_array_equal(total, in_the_clear(codes, ~failed))
    assert recoverable
    left_on = np.asarray(messages)[np.asarray(sent)].astype(np.uint64).sum(axis=0) % 2**32
    assert (left_on != np.asarray(total)).any()


def test_a_sum_with_fewer_clients_than_the_threshold_is_not_recoverable():
    # Eleven clients have ten neighbours each and a threshold of 7: all need seven other senders. With eight senders
    # each has seven or eight, with seven a sender has six.
    everyone = np.ones(11, bool)
    assert GRAPHS["complete"].threshold == 7
    for dropped, possible in ((3, True), (4, False)):
        failed = np.arange(11) < dropped
        *_, recoverable, _ = send_and_sum(jax.random.key(0), random_codes(11), everyone, failed, GRAPHS["complete"])
        assert bool(recoverable) is possible


def test_one_missing_mask_breaks_the_sum():
    """Place 2's message, from the seeds as documented; without its mask for place 5 the sum is another (control)."""
    codes, everyone = random_codes(11), np.ones(11, bool)
    messages, total, sent, _, around = send_and_sum(
        jax.random.key(3), codes, everyone, np.zeros(11, bool), GRAPHS["complete"]
    )
    keys = [jax.random.fold_in(jax.random.fold_in(around.key, min(2, v)), max(2, v)) for v in range(11)]
    masks = [mask_of(key) for key in keys]
    position = int(np.flatnonzero(np.asarray(around.place) == 2)[0])
    expected = codes[2].astype(np.int64) + sum((-1 if v < 2 else 1) * masks[v].astype(np.int64) for v in range(11))
    np.testing.assert_array_equal(np.asarray(messages)[position], (expected % 2**32).astype(np.uint32))
    pair_mask = masks[5]
    without = np.array(messages)
    without[position] -= pair_mask
    broken = masking.unmask(around, jnp.asarray(without.sum(axis=0, dtype=np.uint32)), sent)
    np.testing.assert_array_equal(np.asarray(broken), np.asarray(total) - pair_mask)
    assert (np.asarray(broken) != in_the_clear(codes, everyone)).all()


def test_a_vector_has_a_mask_of_its_own_beside_those_of_its_pairs():
    """Who knows all seeds of pairs, as after a false alarm that a client dropped out, still sees nothing."""
    codes = random_codes(2)
    both = np.ones(2, bool)
    messages, _, _, _, around = send_and_sum(jax.random.key(6), codes, both, ~both, mask_graph("secagg", 2))
    pair = mask_of(jax.random.fold_in(jax.random.fold_in(around.key, 0), 1))
    own = mask_of(jax.random.fold_in(jax.random.fold_in(around.key, 0), 0))
    message = np.asarray(messages)[np.asarray(around.place) == 0][0]
    assert (message - pair != codes[0]).all()
    np.testing.assert_array_equal(message - pair - own, codes[0])
    # An odd number of values takes one word of the last block.
    np.testing.assert_array_equal(masking.expand(jax.random.key(0), 5), mask_of(jax.random.key(0), 6)[:5])


def test_what_the_server_receives_is_uniform():
    """Chi-square over the bytes of masked zeros: masked they pass, in the clear they do not."""
    zeros = np.zeros((8, 2000), np.uint32)
    everyone = np.ones(8, bool)
    messages, *_ = send_and_sum(jax.random.key(4), zeros, everyone, ~everyone, GRAPHS["even"])
    for message in np.asarray(messages):
        assert stats.chisquare(np.bincount(message.view(np.uint8), minlength=256)).pvalue > 1e-4
    assert stats.chisquare(np.bincount(zeros[0].view(np.uint8), minlength=256)).pvalue < 1e-12
    # Two messages look independent: their difference, which would cancel a shared mask, is uniform as well.
    difference = np.asarray(messages)[0] - np.asarray(messages)[1]
    assert stats.chisquare(np.bincount(difference.view(np.uint8), minlength=256)).pvalue > 1e-4
    again, *_ = send_and_sum(jax.random.key(5), zeros, everyone, ~everyone, GRAPHS["even"])
    assert (np.asarray(again) != np.asarray(messages)).mean() > 0.99


def updates(count: int, seed: int = 0, size: int = 12):
    values = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    return {"a": jnp.asarray(values[:, :3]), "b": jnp.asarray(values[:, 3:].reshape(count, 3, -1))}


def flat(tree, count: int | None = None) -> np.ndarray:
    shape = (-1,) if count is None else (count, -1)
    return np.concatenate([np.asarray(leaf, np.float64).reshape(shape) for leaf in jax.tree.leaves(tree)], axis=-1)


WEIGHTS = np.array([3.0, 0.0, 1.0, 2.0, 5.0], np.float32)


def summed(aggregator, stack, weights, key=0):
    return jax.jit(aggregator.aggregate)(jax.random.key(key), aggregator.init(None), stack, jnp.asarray(weights))


@pytest.mark.parametrize(
    ("rounding", "steps", "clip"), [("nearest", 0.5, 8.0), ("toward_zero", 1.0, 8.0), ("stochastic", 1.0, 1e4)]
)
def test_the_float_sum_is_within_the_stated_bound(rounding, steps, clip):
    stack = updates(5)
    state, total = summed(secure_sum("secagg", max_weight=5.0, clip=clip, rounding=rounding), stack, WEIGHTS)
    exact = WEIGHTS.astype(np.float64) @ flat(stack, 5)
    step = 1.0 / quantize.fixed_point(clip * 5.0, 5).scale
    assert step <= 5 * clip * 5.0 / 2**29
    error = np.abs(flat(total.total) - exact).max()
    # Four clients; products and the decoded sum are rounded to float32.
    assert error <= 4 * steps * step + 5 * 2.0**-24 * np.abs(WEIGHTS @ np.abs(flat(stack, 5))).max()
    assert error > 0.0
    assert total.weight == 11.0
    assert [int(count) for count in state] == [0, 0, 0, 0, 0, 6]


def test_the_sum_is_that_of_the_encoded_vectors():
    """Encoding written out in NumPy; no float is added up anywhere."""
    stack = updates(5)
    fixed = quantize.fixed_point(8.0 * 5.0, 5)
    products = flat(stack, 5).astype(np.float32) * WEIGHTS[:, None]
    integers = np.rint(products.astype(np.float64) * fixed.scale).astype(np.int64)
    _, total = summed(secure_sum("secaggplus", max_weight=5.0, clip=8.0), stack, WEIGHTS)
    np.testing.assert_array_equal(
        flat(total.total).astype(np.float32), integers.sum(axis=0).astype(np.float32) / np.float32(fixed.scale)
    )


def test_values_beyond_the_bound_are_clipped_and_counted():
    stack = {"a": jnp.array([[3.0, -100.0, np.nan, 1.0], [1.0, 1.0, 1.0, np.inf], [np.nan, 9e9, 1.0, 1.0]])}
    aggregator = secure_sum("secagg", max_weight=2.0, clip=4.0)
    state, total = summed(aggregator, stack, [2.0, 1.0, 0.0])
    # 2 * -100 and infinity are clipped to 2 * 4, NaN is 0; the third client takes no part.
    np.testing.assert_allclose(total.total["a"], [7.0, -7.0, 1.0, 10.0], atol=1e-6)
    assert state.clipped_values == 3
    heavy, _ = summed(aggregator, {"a": jnp.ones((2, 1))}, [3.0, 1.0])
    assert heavy.clipped_values == 1


def test_a_sum_that_cannot_be_recovered_is_withheld_and_counted():
    stack = updates(5)
    aggregator = secure_sum("secagg", max_weight=5.0, clip=8.0, dropout_rate=0.3)
    seen = set()
    for key in range(30):
        state, total = summed(aggregator, stack, WEIGHTS, key)
        withheld = bool(state.withheld_sums)
        seen.add((withheld, float(total.weight)))
        assert withheld == (float(total.weight) == 0.0)
        assert not withheld or not flat(total.total).any()
    # Of weights 3, 1, 2, 5 nobody dropped: 11. Three neighbours, all of them needed: any dropout is too many.
    assert seen == {(False, 11.0), (True, 0.0)}
    lenient = secure_sum("secagg", max_weight=1.0, clip=8.0, dropout_rate=0.15)
    sums = [summed(lenient, updates(9), np.ones(9), key) for key in range(12)]
    # Eight neighbours and a threshold of 6: seven senders are enough.
    assert {int(state.withheld_sums) for state, total in sums if float(total.weight) >= 7} == {0}
    assert {7.0, 8.0} & {float(total.weight) for _, total in sums}


def test_the_host_stops_when_a_sum_was_withheld_or_overflowed():
    fine = {"round": 6, "withheld_sums": 0, "dropped_clients": 1, "overflowed_values": 0}
    federated.check_sums([fine, {"round": 7}])
    with pytest.raises(ValueError, match=r"in round 7 5 clients dropped out .* 2 sum\(s\) could not be rec"):
        federated.check_sums([fine, fine | {"round": 7, "withheld_sums": 2, "dropped_clients": 5}])
    with pytest.raises(ArithmeticError, match="in round 6 3 values of a secure sum are larger than its clients can"):
        federated.check_sums([fine | {"overflowed_values": 3}])


def test_a_single_client_is_bare_and_said_to_be():
    state, total = summed(secure_sum("secagg", max_weight=5.0, clip=8.0), updates(5), [0.0, 0.0, 2.0, 0.0, 0.0])
    assert state.bare_sums == 1
    assert state.withheld_sums == state.mask_pairs == 0
    np.testing.assert_allclose(flat(total.total), 2.0 * flat(updates(5), 5)[2], atol=1e-6)


def test_memory_is_that_of_the_messages_and_not_of_the_pairs():
    places, size = 40, 2048
    aggregator = secure_sum("secagg", max_weight=1.0, clip=1.0)
    arguments = (jax.random.key(0), aggregator.init(None), {"a": jnp.zeros((places, size))}, jnp.ones(places))
    memory = jax.jit(aggregator.aggregate).lower(*arguments).compile().memory_analysis()
    # Pairs of clients would take 20 times the messages' bytes.
    assert memory.temp_size_in_bytes < 14 * 4 * places * size


def one_round(aggregator, *, sampler=None, mesh=None, key=0):
    data = client_data([4, 2, 6, 3, 5, 1])
    train = federated.local_training(models.loss, optax.sgd(0.1), window_length=4, batch_size=8)
    algorithm = federated.clustered_fedavg(
        models.init,
        train,
        federated.fixed(np.array([0, 1, 0, 1, 0, 1])),
        aggregator,
        optax.sgd(1.0),
        sample_cohort=sampler,
        map_clients=federated.client_map(None, mesh),
    )
    state = algorithm.init(jax.random.key(key), data)
    return federated.run(algorithm, jax.random.key(key + 1), state, data, 3)


SAMPLERS = {
    "all": None,
    "fixed_size": federated.fixed_size_cohort(6, 4),
    "poisson": federated.poisson_cohort(6, 4),
}


@pytest.mark.parametrize(
    ("protocol", "sampler"), [("secagg", "all"), ("secaggplus", "fixed_size"), ("secagg", "poisson")]
)
def test_scanned_rounds_of_clusters_equal_those_in_the_clear(sampler, protocol):
    aggregator = secure_sum(protocol, max_weight=6.0, clip=8.0)
    clear, (info, _) = one_round(weighted_sum(), sampler=SAMPLERS[sampler])
    secure, (secure_info, _) = one_round(aggregator, sampler=SAMPLERS[sampler])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), clear.params, secure.params)
    np.testing.assert_array_equal(info.cluster_sizes, secure_info.cluster_sizes)
    reported = secure_info.aggregation
    assert info.aggregation == {}
    sizes = np.asarray(info.cluster_sizes)
    np.testing.assert_array_equal(reported["mask_pairs"], (sizes * (sizes - 1) // 2).sum(axis=1))
    np.testing.assert_array_equal(reported["bare_sums"], (sizes == 1).sum(axis=1))
    for name in ("clipped_values", "overflowed_values", "withheld_sums"):
        assert not np.asarray(reported[name]).any()


def test_a_round_is_the_same_on_one_and_on_four_devices():
    """The four divide the coordinates of the masks among them."""
    one, _ = one_round(secure_sum("secagg", max_weight=6.0, clip=8.0))
    mesh = federated.clients_mesh(jax.devices()[:4])
    four, _ = one_round(secure_sum("secagg", max_weight=6.0, clip=8.0, mesh=mesh), mesh=mesh)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), one.params, four.params)


def test_vmap_over_seeds_gives_the_sums_one_by_one():
    aggregator = secure_sum("secagg", max_weight=5.0, clip=8.0)
    stacks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[updates(5, seed) for seed in range(3)])
    weights = jnp.stack([jnp.asarray(np.roll(WEIGHTS, seed)) for seed in range(3)])
    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), aggregator.init(None))
    _, together = jax.jit(jax.vmap(aggregator.aggregate))(
        jax.random.split(jax.random.key(0), 3), states, stacks, weights
    )
    for seed in range(3):
        _, alone = summed(aggregator, updates(5, seed), np.roll(WEIGHTS, seed))
        jax.tree.map(lambda a, b, s=seed: np.testing.assert_array_equal(a[s], b), together, alone)


def test_one_client_moves_the_private_sum_by_at_most_the_sensitivity():
    """Whatever the client sends; and the bound is reached, so it is not loose."""
    mechanism = gaussian(0.5, 0.0)
    aggregator = private(secure_sum("secagg", max_weight=1.0, clip=0.5, rounding="toward_zero"), mechanism, 1.0)
    for seed, scale in ((0, 1e-3), (1, 1.0), (2, 1e6)):
        stack = jax.tree.map(lambda leaf, scale=scale: scale * leaf, updates(5, seed))
        state, everyone = summed(aggregator, stack, np.ones(5))
        _, others = summed(aggregator, stack, np.array([1.0, 1.0, 0.0, 1.0, 1.0]))
        moved = np.linalg.norm(flat(everyone.total) - flat(others.total))
        assert moved <= mechanism.sensitivity * (1 + 1e-6)
        assert scale < 1.0 or moved >= mechanism.sensitivity * (1 - 1e-5)
        assert state.clipped_values == 0


def test_rounding_toward_zero_never_lengthens_an_update_and_to_the_nearest_step_may():
    """With steps so coarse that it shows: 2^30 - 1 codes for 2^26 units leave 2^3 steps to a unit."""
    stack = {"a": jnp.full((2, 16), 0.45 / 4.0)}  # of norm 0.45, each element 0.9 of a step
    for rounding, longer in (("toward_zero", False), ("nearest", True)):
        _, total = summed(secure_sum("secagg", max_weight=1.0, clip=2.0**26, rounding=rounding), stack, [1.0, 0.0])
        assert (np.linalg.norm(flat(total.total)) > 0.45) is np.bool_(longer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_weight": 0.0, "clip": 1.0}, "max_weight=0.0 must be positive"),
        ({"max_weight": 1.0, "clip": -1.0}, "clip=-1.0 must be positive"),
        ({"max_weight": 1.0, "clip": 1.0, "dropout_rate": 1.0}, r"dropout_rate=1.0 must lie in \[0, 1\)"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        secure_sum("secagg", **settings)


def test_a_sum_of_one_place_is_refused():
    with pytest.raises(ValueError, match="num_clients=1: masks are shared by at least 2 clients"):
        summed(secure_sum("secagg", max_weight=1.0, clip=1.0), updates(1), [1.0])
