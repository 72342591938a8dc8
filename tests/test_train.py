"""The command line as a user meets it: one clear line for what is wrong, a non-zero exit, nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.ports import free_port

SMALL = [
    "--telemetry_services=4",
    "--num_clients=4",
    "--hidden_size=4",
    "--latent_size=2",
    "--num_rounds=4",
    "--rounds_per_report=1",
    "--window_stride=16",
    "--scoring_stride=16",
]


def train(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "fedjax_anomaly.train", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset=nsl_kdd", "--data_dir=nowhere"], "nowhere"),
        (["--clustering=ifca"], "clustering=ifca needs a number of models"),
        (["--partition=zipf"], "value should be one of <iid|dirichlet|quantity|natural|shards|"),
        (["--num_clinets=3"], "Unknown command line flag 'num_clinets'"),
        (["--num_clients=21"], "needs at least num_clients=21 values of 'source'"),
        (["extra"], "unknown argument 'extra'"),
        (["--label_column=label"], "label_column=label has no effect with dataset=telemetry"),
        (["--dataset=files"], "dataset=files needs --data_dir"),
        (["--dataset=files", "--data_dir=.", "--test_fraction=1"], "test_fraction=1.0 must lie in (0, 1)"),
        (["--resume"], "give its folder as --output_dir"),
    ],
    ids=[
        "data_dir",
        "contradiction",
        "choice",
        "flag",
        "clients",
        "argument",
        "resume",
        "column",
        "no files",
        "fraction",
    ],
)
def test_bad_input_gets_one_clear_line_and_writes_nothing(arguments, message, tmp_path):
    done = train(*arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = train(*SMALL, "--output_dir=file/run", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: Not a directory: file/run")


def test_ctrl_c_ends_at_the_next_chunk_and_resume_finishes_the_run(tmp_path):
    command = [sys.executable, "-u", "-m", "fedjax_anomaly.train", *SMALL, "--num_rounds=200", "--output_dir=run"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 200
    while not (metrics.exists() and metrics.read_text()) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "continue with the same flags and --resume --output_dir=run" in printed
    stopped_after = len(metrics.read_text().splitlines())
    assert 0 < stopped_after < 200
    rounds = stopped_after + 2
    resumed = train(*SMALL, f"--num_rounds={rounds}", "--output_dir=run", "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert [json.loads(line)["round"] for line in metrics.read_text().splitlines()] == list(range(1, rounds + 1))
    assert "results, figures and report: run" in resumed.stdout
    assert {"result.json", "report.html"} <= set(os.listdir(tmp_path / "run"))


@pytest.mark.slow
def test_two_processes_stop_at_a_signal_to_one_and_a_single_one_goes_on(tmp_path):
    address = f"localhost:{free_port()}"
    command = [sys.executable, "-m", "fedjax_anomaly.train", *SMALL, "--num_rounds=500", "--output_dir=run"]
    command += ["--host_devices=1", f"--coordinator_address={address}", "--num_processes=2"]
    processes = [
        subprocess.Popen([*command, f"--process_id={i}"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for i in range(2)
    ]
    metrics = tmp_path / "run" / "metrics.jsonl"
    try:
        deadline = time.monotonic() + 200
        while not (metrics.exists() and metrics.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        processes[1].send_signal(signal.SIGTERM)
        printed = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [130, 130]
    assert "continue with the same flags and --resume --output_dir=run" in printed[0]
    assert [line for line in printed[1].splitlines() if not line.startswith("[Gloo]")] == []
    rounds = len(metrics.read_text().splitlines()) + 2
    stored = "--config=run/config.json"
    resumed = train(stored, f"--num_rounds={rounds}", "--host_devices=2", "--output_dir=run", "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert [json.loads(line)["round"] for line in metrics.read_text().splitlines()] == list(range(1, rounds + 1))


def test_help_documents_the_flags(tmp_path):
    done = train("--helpfull", cwd=tmp_path)
    for flag in ("--num_clients", "--dp_epsilon", "--threshold_scope"):
        assert flag in done.stdout
