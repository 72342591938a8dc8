"""What the documents show runs as it stands."""

import csv
import dataclasses
import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import jax
import numpy as np
import pytest

from fedjax_anomaly import Config, data, run_experiment
from fedjax_anomaly.auditing import AuditSettings
from fedjax_anomaly.config_live import LiveSettings
from fedjax_anomaly.data.own_files import load_files
from fedjax_anomaly.data.partition import Scheme
from fedjax_anomaly.live.bundle import write_bundle
from fedjax_anomaly.live.events import Reason
from tests.live.fleet import in_time_order, lines, small_bundle, write_lines

DOCS = Path(__file__).parent.parent / "docs"


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / document).read_text(), re.DOTALL)


def run_block(document: str) -> dict:
    """The names that the document's only Python block defines."""
    (example,) = blocks(document, "python")
    names: dict = {}
    exec(compile(example, document, "exec"), names)
    return names


@pytest.mark.usefixtures("optax_promotion")
def test_the_example_with_arrays_runs_and_detects(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result = run_block("own_data.md")["outcome"].result
    assert result["dataset"]["num_clients"] == 12
    assert result["dataset"]["test_rows"] == 12 * 600
    # 30 of each client's 600 test rows are anomalous.
    assert result["dataset"]["anomaly_fraction"] == pytest.approx(0.05)
    assert result["test"]["auroc"] > 0.9
    assert (tmp_path / "my_run" / "report.html").is_file()
    assert "overload" in capsys.readouterr().out


def write_clients(folder: Path, *, labelled: bool) -> None:
    """Twelve files like those of the example, with a fault in the last rows of each."""
    folder.mkdir()
    start, rng = np.datetime64("2026-03-01T00:00:00"), np.random.default_rng(0)
    for number in range(1, 13):
        lines = ["timestamp,cpu,requests,mode" + ",label" * labelled]
        for minute in range(500):
            fault = 450 <= minute < 460
            cpu = 50 + 20 * np.sin(2 * np.pi * minute / 60) + rng.normal() + 80 * fault
            cells = [
                start + np.timedelta64(minute, "m"),
                f"{cpu:.1f}",
                int(2 * cpu),
                ("day", "night")[minute // 60 % 2],
            ]
            lines.append(",".join(map(str, cells + [("normal", "overload")[fault]] * labelled)))
        (folder / f"machine-{number:02d}.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(("position", "labelled"), [(0, True), pytest.param(1, False, marks=pytest.mark.slow)])
def test_the_commands_run_as_they_stand(tmp_path, position, labelled):
    """On twelve small files; the rounds and the model are made smaller."""
    command = shlex.split(blocks("own_data.md", "bash")[position])
    assert command[0] == "python"
    write_clients(tmp_path / "my_csvs", labelled=labelled)
    (tmp_path / "fedjax_anomaly").symlink_to(DOCS.parent / "fedjax_anomaly")
    small = ["--num_rounds=1", "--hidden_size=4", "--latent_size=2", "--output_dir=run"]
    done = subprocess.run(
        [sys.executable, *command[1:], *small], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["dataset"]["num_clients"] == 12
    assert sorted(result["dataset"]["client_names"]) == [f"machine-{number:02d}" for number in range(1, 13)]
    with (tmp_path / "run" / "scores.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    described = re.findall(
        r"^\| (`client`|`row`|`time`|`score`.*?|`attack`) \|", (DOCS / "own_data.md").read_text(), re.M
    )
    columns = re.findall(r"`(\w+)`", " ".join(described))
    assert list(lines[0]) == [name for name in columns if labelled or name != "attack"]
    # The last 150 of 500 minutes; the fault is in the last 50.
    assert [line["time"] for line in lines[:150]] == [str(60 * minute) for minute in range(350, 500)]
    assert [line["row"] for line in lines] == [str(row) for row in range(150)] * 12
    assert sum(int(line["alarm"]) for line in lines) == result["alarms"]["alarm_rows"]
    if labelled:
        assert [row for row, line in enumerate(lines[:150]) if line["attack"] == "overload"] == list(range(100, 110))
        assert result["test"]["auroc"] > 0.9
    else:
        assert result["test"] is result["oracle"] is None
        assert "share of alarms" in done.stdout


def test_the_example_file_is_read_as_described(tmp_path):
    (text,) = blocks("own_data.md", "csv")
    for number in range(1, 13):
        (tmp_path / f"machine-{number:02d}.csv").write_text(text)
    dataset = load_files(tmp_path, time_column="timestamp", label_column="label", test_fraction=0.5)
    assert len(dataset.train.source.names) == 12
    assert dataset.train.numeric_names == ("cpu", "requests")
    assert dataset.train.categorical_names == ("mode",)
    np.testing.assert_array_equal(dataset.test.time, [120, 180] * 12)
    assert dataset.test.attack.strings().tolist() == ["overload", "normal"] * 12


@pytest.mark.parametrize(
    ("name", "text", "settings"),
    [
        ("machine-03.csv", "cpu,mem\n" + "1,2\n" * 29, {}),
        ("machine-03.csv", "cpu,mem\n" + "1,2\n" * 50, {}),
        ("a.csv", "cpu,mem\n1,2\n2,3\n,4\n", {}),
        ("a.csv", "cpu\n1\n?\n3\n", {}),
        ("b.csv", "cpu\n1\n2\n", {}),
        ("a.csv", "cpu,label\n1,0\n2,0\n", {}),
        ("a.csv", "cpu,when\n1,1767225600000\n2,1767225660000\n", {"time_column": "when"}),
        ("a.csv", "cpu;mem\n1;2\n", {}),
    ],
)
def test_the_listed_errors_are_those_that_come(tmp_path, name, text, settings):
    """Each error's quoted words, in their order, are in a line of the document; nothing is written."""
    folder = tmp_path / "my_csvs"
    folder.mkdir()
    (folder / "a.csv").write_text("cpu,mem\n" + "1,2\n" * 400)
    (folder / name).write_text(text)
    errors = (DOCS / "own_data.md").read_text().partition("### Errors")[2]
    listed = re.findall(r"^\| `(.*?)` \|", errors, re.MULTILINE)
    with pytest.raises(ValueError) as error:
        run_experiment(
            Config(dataset="files", data_dir=str(folder), output_dir=str(tmp_path / "run"), **settings),
        )
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
    patterns = [".*".join(re.escape(part.strip()) for part in message.split("...")) for message in listed]
    assert sum(bool(re.search(pattern, str(error.value))) for pattern in patterns) == 1


def test_the_example_of_a_data_set_reads_its_files(tmp_path):
    example = run_block("add_a_dataset.md")
    folder = tmp_path / "flows"
    folder.mkdir()
    rows = [(f"h{row % 2}", ("tcp", "udp")[row % 3 == 0], 10.0 * row, row, "pass") for row in range(80)]
    rows[5] = (*rows[5][:-1], "scan")
    for part in ("train", "test"):
        lines = [",".join(map(str, row)) + "\n" for row in rows]
        (folder / f"flows_{part}.csv").write_text("host,protocol,bytes,packets,verdict\n" + "".join(lines))
    dataset = example["load_flows"](tmp_path)
    for table in (dataset.train, dataset.test):
        np.testing.assert_array_equal(table.numeric, [row[2:4] for row in rows])
        assert table.source.strings().tolist() == [row[0] for row in rows]
        assert table.column("protocol").strings().tolist() == [row[1] for row in rows]
        assert np.flatnonzero(table.label).tolist() == [5]
    fleet = data.federate(
        dataset,
        *data.partition(dataset, "natural", 2, seed=0),
        window_length=4,
        window_stride=1,
        scoring_stride=2,
        validation_fraction=0.2,
        seed=0,
    )
    assert fleet.num_clients == 2
    with pytest.raises(FileNotFoundError, match=r"flows\.example"):
        example["load_flows"](tmp_path / "absent")


def test_the_example_of_a_shift_runs(capsys):
    names = run_block("partitions.md")
    assert names["dataset"].notes
    assert "iid_reference=" in capsys.readouterr().out


def test_every_partition_is_described_and_measured():
    lines = (DOCS / "partitions.md").read_text().splitlines()
    for scheme in get_args(Scheme):
        assert sum(line.startswith((f"| `{scheme}` |", f"| {scheme} |")) for line in lines) == 2


def test_the_example_of_secure_aggregation_sums_who_is_left(capsys):
    (example,) = (block for block in blocks("privacy.md", "python") if "run_protocol" in block)
    names: dict = {}
    exec(compile(example, "privacy.md", "exec"), names)
    others = np.delete(names["vectors"], 4, axis=0)
    np.testing.assert_array_equal(names["done"].total, others.sum(axis=0, dtype=np.uint32))
    assert "[0, 1, 2, 3, 5, 6, 7, 8]" in capsys.readouterr().out


def test_the_example_of_a_trace_lists_its_operations(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    multiply = jax.jit(lambda x: x @ x).lower(np.ones((64, 64), np.float32)).compile()
    with jax.profiler.trace("trace"):
        jax.block_until_ready(multiply(np.ones((64, 64), np.float32)))
    run_block("profiling.md")
    assert " ms  PjitFunction(jit(<lambda>))" in capsys.readouterr().out


def test_the_examples_of_scaling_train(capsys, monkeypatch):
    """A loss is printed for each round."""
    monkeypatch.setattr(sys, "argv", ["fleet.py"])  # As one process.
    on_the_host, on_many_machines = blocks("scaling.md", "python")
    for example, num_rounds in ((on_the_host, 6), (on_many_machines, 5)):
        names: dict = {}
        exec(compile(example, "scaling.md", "exec"), names)
        assert names["state"].round == num_rounds
        assert len(re.findall(r"\d\.\d+", capsys.readouterr().out)) == num_rounds


def test_the_example_of_a_live_detector_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    experiment, bundle = small_bundle()
    write_bundle("runs/fleet", bundle)
    table = experiment.federation.dataset.test
    write_lines(tmp_path / "events.jsonl", lines(table, in_time_order(table)))
    names = run_block("live.md")
    assert names["decision"].score.shape == (4,)
    assert names["counts"].read == names["counts"].scored == len(table)
    assert f"read={len(table)}, scored={len(table)}" in capsys.readouterr().out


def test_every_reason_for_a_rejection_is_described():
    listed = re.findall(r"^\| .* \| rejected, `(\w+)` \|$", (DOCS / "live.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(get_args(Reason))


@pytest.mark.parametrize(
    "document",
    [
        "own_data.md",
        "add_a_dataset.md",
        "partitions.md",
        "privacy.md",
        "profiling.md",
        "scaling.md",
        "live.md",
        "drift.md",
        "opentelemetry.md",
    ],
)
def test_every_flag_in_a_command_exists(document):
    kinds = (Config, AuditSettings, LiveSettings)
    settings = {field.name for kind in kinds for field in dataclasses.fields(kind)} | {"run", "nofollow"}
    settings |= set(inspect.signature(data.load).parameters)
    text = re.sub(r"^#SBATCH .*$", "", (DOCS / document).read_text(), flags=re.MULTILINE)
    flags = set(re.findall(r"--(\w+)", text)) - {"flagfile", "config", "logdir", "quick"}
    assert flags <= settings
    presets = re.findall(r"--flagfile=(\S+)", (DOCS / document).read_text())
    assert all((DOCS.parent / preset).is_file() for preset in presets)
