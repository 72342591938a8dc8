import dataclasses
import os
import signal

import jax
import numpy as np
import pytest

from fedjax_anomaly.command import stop_on_signals
from fedjax_anomaly.experiment import Diverged, build, train
from fedjax_anomaly.experiment.checkpoints import Checkpoints
from tests.experiment.conftest import dense


def assert_identical(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_a_resumed_run_is_bit_identical(small_dataset, private_config, tmp_path):
    """Privacy noise, sampled cohorts and a server with momentum included; the stop falls inside the run."""
    config = dataclasses.replace(private_config, server_optimizer="fedavgm", num_rounds=6)
    experiment = build(config, small_dataset)
    records = {"whole": [], "resumed": []}
    whole = train(experiment, report=lambda p: records["whole"].extend(p.records))
    kept = tmp_path / "checkpoints"
    first = train(
        experiment,
        checkpoint_dir=kept,
        report=lambda p: records["resumed"].extend(p.records),
        stop_requested=lambda: True,
    )
    assert first.interrupted
    assert first.state.round == 2
    resumed = train(experiment, checkpoint_dir=kept, resume=True, report=lambda p: records["resumed"].extend(p.records))
    assert not resumed.interrupted
    assert_identical(whole.state, resumed.state)
    for record in records["whole"] + records["resumed"]:
        del record["round_seconds"]  # measured by the clock
    assert records["whole"] == records["resumed"]


def test_a_rest_shorter_than_a_chunk_is_not_run_over_and_one_call_is_traced(small_dataset, small_config, tmp_path):
    config = dataclasses.replace(dense(small_config), num_rounds=3, profile=str(tmp_path / "trace"))
    experiment = build(config, small_dataset)
    records = []
    trained = train(experiment, report=lambda p: records.extend(p.records))
    assert trained.state.round == 3
    assert [record["round"] for record in records] == [1, 2, 3]
    (trace,) = tmp_path.glob("trace/plugins/profile/*/*.xplane.pb")
    assert b"jit_chunk" in trace.read_bytes()


def test_the_loss_falls_and_every_round_is_reported(small_dataset, small_config):
    records = []
    train(
        build(dataclasses.replace(small_config, num_rounds=10), small_dataset),
        report=lambda p: records.extend(p.records),
    )
    assert records[-1]["train_loss"] < 0.7 * records[0]["train_loss"]
    assert records[-1]["validation_loss"] < 0.7 * records[0]["validation_loss"]
    assert {record["participants"] for record in records} == {4}


def test_a_loss_gone_to_nan_stops_the_run_and_keeps_the_last_good_checkpoint(small_dataset, small_config, tmp_path):
    experiment = build(dataclasses.replace(dense(small_config), num_rounds=2), small_dataset)
    kept = tmp_path / "checkpoints"
    train(experiment, checkpoint_dir=kept)
    wild = build(dataclasses.replace(dense(small_config), client_optimizer="sgd", learning_rate=1e30), small_dataset)
    message = r"not finite in round 3 .*smaller --learning_rate.* last good checkpoint, after round 2, is kept"
    momentum = dataclasses.replace(experiment, algorithm=wild.algorithm, config=wild.config)
    with pytest.raises(Diverged, match=message):
        train(momentum, checkpoint_dir=kept, resume=True)
    with Checkpoints(kept) as checkpoints:
        assert checkpoints.latest_round == 2


def test_resuming_from_nothing_is_refused(small_dataset, small_config, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint in .*start without --resume"):
        train(build(dense(small_config), small_dataset), checkpoint_dir=tmp_path / "none", resume=True)


def test_nothing_compiles_after_the_first_chunk(small_dataset, small_config):
    compiled_after = []
    counter = {"count": 0}

    def count(event: str, duration: float, **_: object) -> None:
        counter["count"] += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        experiment = build(dataclasses.replace(dense(small_config), num_rounds=8), small_dataset)
        train(experiment, report=lambda progress: compiled_after.append(counter["count"]))
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert compiled_after[0] > 0
    assert len(compiled_after) == 4
    assert set(compiled_after[1:]) == {compiled_after[1]}
    assert compiled_after[1] == compiled_after[0]


@pytest.fixture
def usual_interrupt():
    """Python's own handler, which a process started in the background does not have."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("usual_interrupt")
def test_the_first_signal_asks_to_stop_and_the_second_acts_as_usual():
    with stop_on_signals() as stop_requested:
        assert not stop_requested()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop_requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_clients_on_the_host_end_at_the_same_bits_also_after_a_stop(small_dataset, small_config, tmp_path):
    config = dataclasses.replace(dense(small_config), num_clusters="1", clients_per_round=2, num_rounds=3)
    experiment = build(config, small_dataset)
    resident = train(experiment)
    on_host = dataclasses.replace(experiment, config=dataclasses.replace(config, client_data="host"))
    stopped = train(on_host, checkpoint_dir=tmp_path, stop_requested=lambda: True)
    assert stopped.state.round == 2
    assert_identical(train(on_host, checkpoint_dir=tmp_path, resume=True).state, resident.state)
