"""What the documents show runs as it stands."""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from fedjax_anomaly import Config, data
from fedjax_anomaly.data.own_files import load_files
from fedjax_anomaly.data.partition import Scheme

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
        ("a.csv", "cpu\n1\n2\n\n", {}),
        ("a.csv", "cpu\n1\n?\n3\n", {}),
        ("b.csv", "cpu\n1\n2\n", {}),
        ("a.csv", "cpu,label\n1,0\n2,0\n", {}),
        ("a.csv", "cpu,when\n1,1767225600000\n2,1767225660000\n", {"time_column": "when"}),
        ("a.csv", "cpu;mem\n1;2\n", {}),
    ],
)
def test_the_listed_errors_are_those_that_come(tmp_path, name, text, settings):
    """Each error's quoted words, in their order, are in a line of the document."""
    (tmp_path / "a.csv").write_text("cpu,mem\n1,2\n2,3\n")
    (tmp_path / name).write_text(text if text != "cpu\n1\n2\n\n" else "cpu,mem\n1,2\n2,3\n,4\n")
    listed = [row.split("`")[1] for row in (DOCS / "own_data.md").read_text().splitlines() if row.startswith("| `...")]
    with pytest.raises(ValueError) as error:
        load_files(tmp_path, **settings)
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


@pytest.mark.parametrize("document", ["own_data.md", "add_a_dataset.md", "partitions.md"])
def test_every_flag_in_a_command_exists(document):
    settings = {field.name for field in dataclasses.fields(Config)} | set(inspect.signature(data.load).parameters)
    flags = set(re.findall(r"--(\w+)", (DOCS / document).read_text())) - {"flagfile"}
    assert flags <= settings
    presets = re.findall(r"--flagfile=(\S+)", (DOCS / document).read_text())
    assert all((DOCS.parent / preset).is_file() for preset in presets)
