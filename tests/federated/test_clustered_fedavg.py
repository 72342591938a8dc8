import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_anomaly import federated
from fedjax_anomaly.federated.optimizers import server_optimizer
from tests.federated import models
from tests.fleet import client_data

RATE = 0.1
SIZES = [4, 2, 6, 3]
WINDOW_LENGTH = 4


def algorithm(clustering, *, server=None, aggregator=None, **settings):
    # A batch holds every window of a client, so that local training is one step whose result is known.
    train = federated.local_training(models.loss, optax.sgd(RATE), window_length=WINDOW_LENGTH, batch_size=8)
    return federated.clustered_fedavg(
        models.init, train, clustering, aggregator or federated.weighted_sum(), server or optax.sgd(1.0), **settings
    )


def one_round(method, data, key=0):
    state = method.init(jax.random.key(key), data)
    return state, *method.round(jax.random.key(key + 1), state, data)


@pytest.mark.parametrize("assignment", [[0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 2, 3]])
def test_a_round_equals_a_plain_loop_in_numpy(assignment):
    """FedAvg, two clusters, and local-only training are the same function."""
    data = client_data(SIZES)
    before, after, info = one_round(algorithm(federated.fixed(np.array(assignment))), data)
    for k in sorted(set(assignment)):
        center, scale = np.asarray(before.params["center"][k]), 1.0
        members = [c for c, own in enumerate(assignment) if own == k]
        steps = [models.numpy_sgd_step(center, scale, data.series[c, : SIZES[c]], RATE) for c in members]
        weights = np.array([SIZES[c] for c in members]) / sum(SIZES[c] for c in members)
        np.testing.assert_allclose(
            after.params["center"][k], sum(w * s[0] for w, s in zip(weights, steps, strict=True)), atol=1e-6
        )
        np.testing.assert_allclose(
            after.params["scale"][k], sum(w * s[1] for w, s in zip(weights, steps, strict=True)), atol=1e-6
        )
    assert info.cluster_sizes.tolist() == np.bincount(assignment).tolist()
    assert info.num_participants == 4
    assert after.round == 1


def test_all_clusters_of_a_fixed_assignment_start_alike():
    state = algorithm(federated.fixed(np.array([0, 1, 0, 1]))).init(jax.random.key(0), client_data(SIZES))
    np.testing.assert_array_equal(state.params["center"][0], state.params["center"][1])


def test_a_cluster_without_a_participant_keeps_its_model_and_its_momentum():
    method = algorithm(federated.fixed(np.array([0, 0, 0, 1])), server=server_optimizer("fedavgm"))
    data = client_data(SIZES)
    state, _, _ = one_round(method, data)
    _, state, _ = one_round(method, data)
    alone = data._replace(mask=data.mask & (np.arange(4) != 3)[:, None])
    after, info = method.round(jax.random.key(9), state, alone)
    assert info.cluster_sizes.tolist() == [3, 0]
    jax.tree.map(
        lambda old, new: np.testing.assert_array_equal(old[1], new[1]),
        (state.params, state.server_optimizer),
        (after.params, after.server_optimizer),
    )
    assert (state.params["center"][0] != after.params["center"][0]).any()


@pytest.mark.usefixtures("optax_promotion")
def test_the_server_optimizers_step_as_their_papers_say():
    data = client_data(SIZES)
    clustering = federated.single(4)
    before, plain, _ = one_round(algorithm(clustering), data)
    mean = np.asarray(plain.params["center"][0] - before.params["center"][0])
    expected = {
        # Reddi et al. 2021, algorithm 2, first round with zero moments and optax's bias correction:
        # m = mean, v = mean^2, so the step is rate * mean / (|mean| + tau).
        "fedadam": 0.01 * mean / (np.abs(mean) + 1e-3),
        "fedavgm": mean,
        "fedavg": mean,
    }
    for name, step in expected.items():
        _, after, _ = one_round(algorithm(clustering, server=server_optimizer(name)), data)
        np.testing.assert_allclose(after.params["center"][0] - before.params["center"][0], step, atol=1e-5)


@pytest.mark.usefixtures("optax_promotion")
def test_fedyogi_moves_against_the_gradient_and_differs_from_fedadam():
    data = client_data(SIZES)
    before, plain, _ = one_round(algorithm(federated.single(4)), data)
    mean = np.asarray(plain.params["center"] - before.params["center"])
    moves = {}
    for name in ("fedadam", "fedyogi"):
        _, after, _ = one_round(algorithm(federated.single(4), server=server_optimizer(name)), data)
        moves[name] = np.asarray(after.params["center"] - before.params["center"])
        assert (np.sign(moves[name]) == np.sign(mean)).all()
    assert (moves["fedadam"] != moves["fedyogi"]).any()


def test_the_server_step_decays_along_half_a_cosine(optax_promotion):
    server = server_optimizer("fedavg", 0.4, decay_rounds=4)
    state, steps = server.init(jnp.zeros(())), []
    for _ in range(5):
        update, state = server.update(jnp.ones(()), state)
        steps.append(-float(update))
    # 0.4 (1 + cos(pi r / 4)) / 2 in round r.
    np.testing.assert_allclose(steps, [0.4 * (1 + np.cos(np.pi * r / 4)) / 2 for r in range(5)], atol=1e-7)


def test_an_adaptivity_far_below_the_update_makes_its_size_irrelevant(optax_promotion):
    def first_step(size: float, adaptivity: float) -> float:
        server = server_optimizer("fedadam", 0.01, adaptivity=adaptivity)
        return -float(server.update(jnp.full((), size), server.init(jnp.zeros(())))[0])

    # Adam's first step is the learning rate times u / (|u| + tau), whatever its decays.
    assert first_step(1e-4, 1e-9) == pytest.approx(0.01, rel=1e-4)
    assert first_step(1e-4, 1e-3) == pytest.approx(0.01 * 1e-4 / 1.1e-3, rel=1e-4)


def test_an_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match="optimizer 'lion' is unknown; the choices are fedavg"):
        server_optimizer("lion")


def test_only_the_cohort_trains():
    data = client_data(SIZES)
    method = algorithm(
        federated.fixed(np.arange(4)),
        sample_cohort=lambda key, round: federated.Cohort(jnp.array([2, 0]), jnp.array([True, False])),
    )
    before, after, info = one_round(method, data)
    moved = np.asarray((before.params["center"] != after.params["center"]).any(axis=1))
    assert moved.tolist() == [False, False, True, False]
    assert info.num_participants == 1


def test_a_fixed_size_cohort_is_a_uniform_sample_without_repeats():
    sample = federated.fixed_size_cohort(10, 4)
    cohorts = np.asarray(jax.vmap(lambda key: sample(key, 0).client)(jax.random.split(jax.random.key(0), 2000)))
    assert all(len(set(cohort)) == 4 for cohort in cohorts)
    # 800 expected per client, standard deviation below 22: five of them.
    assert np.abs(np.bincount(cohorts.ravel(), minlength=10) - 800).max() < 110


def test_a_poisson_cohort_draws_every_client_independently():
    sample = federated.poisson_cohort(10, 4)
    active = np.asarray(jax.vmap(lambda key: sample(key, 0).active)(jax.random.split(jax.random.key(0), 4000)))
    np.testing.assert_allclose(active.mean(axis=0), 0.4, atol=0.04)
    # Binomial(10, 0.4) has variance 2.4; a cohort of fixed size would have none.
    assert active.sum(axis=1).var() == pytest.approx(2.4, rel=0.15)


def test_clients_take_turns_in_a_fixed_order():
    """Seven clients by three: three blocks, of which the last has two empty places."""
    order = jnp.array([3, 0, 6, 5, 1, 2, 4])
    cohorts = jax.vmap(lambda number: federated.cyclic_cohort(order, 3)(jax.random.key(0), number))(jnp.arange(8))
    turns = [np.asarray(cohorts.client[r])[np.asarray(cohorts.active[r])].tolist() for r in range(8)]
    assert turns == [[3, 0, 6], [5, 1, 2], [4], [3, 0, 6], [5, 1, 2], [4], [3, 0, 6], [5, 1, 2]]


def cyclic(num_clients: int, cohort_size: int):
    return federated.cyclic_cohort(jnp.arange(num_clients), cohort_size)


@pytest.mark.parametrize("sampler", [federated.fixed_size_cohort, federated.poisson_cohort, cyclic])
def test_a_cohort_larger_than_the_federation_is_refused(sampler):
    with pytest.raises(ValueError, match="clients_per_round=5 must lie between 1 and num_clients=4"):
        sampler(4, 5)
