"""A run on two processes, each with a device of its own."""

import dataclasses
import importlib
import json
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from fedjax_anomaly import Config
from fedjax_anomaly.experiment import build, run_experiment
from fedjax_anomaly.experiment.processes import check_shared
from fedjax_anomaly.federated import clients_mesh
from tests.experiment.conftest import dense
from tests.ports import free_port

WORKER = Path(__file__).with_name("distributed_worker.py")
ROOT = Path(__file__).parents[2]


def start(*command: str | Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def without_clocks(result: dict) -> dict:
    return {name: part for name, part in result.items() if name not in ("timing", "latency_ms")}


def losses(folder: Path) -> list[dict]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "round_seconds"} for record in records]


def test_two_processes_end_at_the_bits_of_one_after_a_stop_and_fail_together(
    small_dataset, small_config, tmp_path, monkeypatch
):
    """The run is stopped by the second process and continued; then the second process fails while the first waits."""
    config = dataclasses.replace(
        dense(small_config), num_clusters="1", clients_per_round=2, client_data="host", output_dir=str(tmp_path / "two")
    )
    (tmp_path / "task.pickle").write_bytes(pickle.dumps((small_dataset, config)))
    port = free_port()
    processes = [start("-m", "tests.experiment.distributed_worker", tmp_path, str(port), str(i)) for i in range(2)]

    monkeypatch.setattr("fedjax_anomaly.experiment.pictures.draw_figures", lambda *arguments: [])
    building = importlib.import_module("fedjax_anomaly.experiment.build")
    monkeypatch.setattr(building, "clients_mesh", lambda: clients_mesh(jax.devices()[:2]))
    alone = run_experiment(dataclasses.replace(config, output_dir=str(tmp_path / "one")), small_dataset)

    try:
        printed = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()  # One that hangs.
    assert processes[0].returncode == processes[1].returncode == 1, printed
    assert "error: process 1 of 2: the second process cannot go on\n" in printed[0][1]
    assert "ValueError: the second process cannot go on" in printed[1][1]
    assert not (tmp_path / "nothing comes here").exists()
    assert all(f"output_dir {tmp_path / 'two'}" in output for output, _ in printed)

    ends = [np.load(tmp_path / f"process-{i}.npz") for i in range(2)]
    assert [end["stopped_after"] for end in ends] == [2, 2]
    assert [end["has_result"] for end in ends] == [True, False]
    assert [end["calls"] > 0 for end in ends] == [True, False]
    assert all(end["sign_of_zero"].all() for end in ends)
    for end in ends:
        for number, leaf in enumerate(jax.tree.leaves(alone.state)):
            np.testing.assert_array_equal(end[f"arr_{number}"], leaf)
    result = json.loads((tmp_path / "two" / "result.json").read_text())
    assert without_clocks(result) == without_clocks(alone.result)
    assert losses(tmp_path / "two") == losses(tmp_path / "one")
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["num_processes"] == 2


def test_a_coordinator_that_is_not_there_or_cannot_listen_gets_one_line():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code = f"""
from fedjax_anomaly import distributed
try:
    with distributed.joined("localhost:{port}", 2, 0):
        pass
except OSError as error:
    print(error)
with distributed.joined("localhost:{free_port()}", 2, 1, timeout_seconds=1):
    pass
"""
        process = start("-c", code)
        output, error = process.communicate(timeout=60)
    assert "process 0 cannot listen there (Address already in use); choose another port" in output
    assert process.returncode == 1
    assert "not all processes came together within 1 s; start each with a process_id of its own" in error
    assert error.count("\n") == 1


def test_processes_with_other_settings_or_other_data_are_told_apart(small_dataset, small_config, monkeypatch):
    """The first process is played by the text that it would send."""
    config = dense(small_config)
    sent = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr("fedjax_anomaly.distributed.meet", lambda: None)
    monkeypatch.setattr("fedjax_anomaly.distributed.text_from_first", lambda text: sent.append(text) or sent[0])
    experiment = build(config, small_dataset)
    check_shared(experiment)
    check_shared(dataclasses.replace(experiment, config=dataclasses.replace(config, output_dir="x", host_devices=3)))
    with pytest.raises(ValueError, match=r"num_rounds=3 differs from process 0, which has 4"):
        check_shared(dataclasses.replace(experiment, config=dataclasses.replace(config, num_rounds=3)))
    rows = experiment.train.series.copy()
    nearly = np.nextafter(rows, np.float32(9.0))
    check_shared(dataclasses.replace(experiment, train=experiment.train._replace(series=nearly)))
    rows[0, :9] += 1.0
    with pytest.raises(ValueError, match=r"sum of squares of the training rows=.* differs from process 0"):
        check_shared(dataclasses.replace(experiment, train=experiment.train._replace(series=rows)))


JOINED = {"coordinator_address": "head:1234", "num_processes": 2, "process_id": 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_processes": 2}, "num_processes=2 has no effect without coordinator_address"),
        ({"coordinator_address": "head"}, "coordinator_address='head' must be HOST:PORT"),
        ({"coordinator_address": "head:70000"}, "with a port of 1 to 65535"),
        ({"coordinator_address": "head:1234"}, "give --num_processes and --process_id"),
        (JOINED | {"process_id": 2}, "process_id=2 must lie between 0 and num_processes - 1 = 1"),
        (JOINED | {"num_seeds": 2}, "which more than one seed or swept value does not allow"),
        (JOINED | {"method": "pca"}, "which method=pca does not allow"),
        ({"coordinator_address": "auto", "method": "centralized"}, "which method=centralized does not allow"),
    ],
)
def test_what_cannot_be_divided_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_where_a_run_took_place_is_not_kept_and_hinders_no_resumption():
    config = Config(**JOINED, resume=True)
    assert config.stored() == Config()
    assert config.differences(Config(host_devices=4)) == []
