"""What is written round by round, and what a resumed run finds."""

import errno
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedjax_anomaly.reporting.atomic import write_atomically
from fedjax_anomaly.reporting.logbook import Logbook, read_metrics


def read_events(directory: Path) -> list[Any]:
    """Every event of every TensorBoard file, in the order in which TensorBoard reads the files.

    A record is framed as: length (uint64), its checksum (4 bytes), the event, its checksum (4 bytes).
    """
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for path in sorted((directory / "tensorboard").iterdir()):
        contents = path.read_bytes()
        while contents:
            (length,) = struct.unpack("<Q", contents[:8])
            events.append(Event.FromString(contents[12 : 12 + length]))
            contents = contents[16 + length :]
    return events


def visible_scalars(directory: Path) -> dict[tuple[int, str], float]:
    """(round, name) -> value as TensorBoard shows them: a session start hides earlier values from its step on."""
    shown: dict[tuple[int, str], float] = {}
    for event in read_events(directory):
        if event.HasField("session_log") and event.session_log.status == event.session_log.START:
            shown = {key: value for key, value in shown.items() if key[0] < event.step}
        for value in event.summary.value:
            assert (event.step, value.tag) not in shown
            shown[event.step, value.tag] = value.simple_value
    return shown


def write_rounds(directory: Path, first: int, last: int, resume_round: int | None = None) -> None:
    with Logbook(directory, resume_round) as logbook:
        for number in range(first, last + 1):
            logbook.write(number, {"train_loss": 1.0 / number, "participants": number})


def test_written_rounds_are_read_back(tmp_path: Path) -> None:
    write_rounds(tmp_path, 1, 3)
    expected = [{"round": r, "train_loss": 1.0 / r, "participants": r} for r in (1, 2, 3)]
    assert read_metrics(tmp_path) == expected
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == expected


def test_a_round_can_be_read_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with Logbook(tmp_path) as logbook:
        logbook.write(1, {"train_loss": 0.5})
        assert read_metrics(tmp_path) == [{"round": 1, "train_loss": 0.5}]
        assert visible_scalars(tmp_path) == {(1, "train_loss"): 0.5}


def test_tensorboard_gets_the_same_numbers_under_the_same_names(tmp_path: Path) -> None:
    write_rounds(tmp_path, 1, 4)
    expected = {
        (line["round"], name): line[name] for line in read_metrics(tmp_path) for name in ("train_loss", "participants")
    }
    assert visible_scalars(tmp_path) == pytest.approx(expected, rel=1e-7)  # event files hold float32


def test_a_number_that_json_lacks_becomes_null(tmp_path: Path) -> None:
    metrics = {
        "a": float("nan"),
        "b": np.float32("inf"),
        "c": -np.inf,
        "d": None,
        "e": np.float32(0.25),
        "f": np.int64(3),
    }
    with Logbook(tmp_path) as logbook:
        logbook.write(1, metrics)
    assert read_metrics(tmp_path) == [{"round": 1, "a": None, "b": None, "c": None, "d": None, "e": 0.25, "f": 3}]
    assert visible_scalars(tmp_path) == {(1, "e"): 0.25, (1, "f"): 3.0}


def test_a_resumed_run_leaves_one_line_per_round(tmp_path: Path) -> None:
    write_rounds(tmp_path, 1, 7)
    write_rounds(tmp_path, 5, 9, resume_round=4)
    assert [line["round"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert sorted(r for r, name in visible_scalars(tmp_path) if name == "train_loss") == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_resuming_cuts_exactly_the_later_rounds(tmp_path: Path) -> None:
    write_rounds(tmp_path, 1, 7)
    before = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    Logbook(tmp_path, resume_round=4).close()
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(before[:4])
    assert {r for r, _ in visible_scalars(tmp_path)} == {1, 2, 3, 4}


def test_a_half_written_last_line_is_dropped(tmp_path: Path) -> None:
    write_rounds(tmp_path, 1, 3)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-5])  # as a process killed within a write leaves it
    assert [line["round"] for line in read_metrics(tmp_path)] == [1, 2]
    write_rounds(tmp_path, 3, 4, resume_round=3 - 1)
    assert [line["round"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4]


def test_a_new_run_replaces_an_old_logbook(tmp_path: Path) -> None:
    write_rounds(tmp_path, 1, 7)
    write_rounds(tmp_path, 1, 2)
    assert [line["round"] for line in read_metrics(tmp_path)] == [1, 2]
    assert {r for r, _ in visible_scalars(tmp_path)} == {1, 2}


def test_a_broken_line_in_the_middle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"round": 1}\n{"rou\n{"round": 3}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_metrics(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"metrics\.jsonl"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("again", [2, 1])
def test_a_round_is_written_once(tmp_path: Path, again: int) -> None:
    with Logbook(tmp_path, resume_round=0) as logbook:
        logbook.write(2, {})
        with pytest.raises(ValueError, match=f"round_number={again} must exceed the last written round, 2"):
            logbook.write(again, {})


@pytest.mark.parametrize("metrics", [{"x": np.zeros(2)}, {"x": "high"}, {"round": 3}])
def test_what_is_no_metric_is_refused_and_not_written(tmp_path: Path, metrics: dict[str, Any]) -> None:
    with Logbook(tmp_path) as logbook, pytest.raises(ValueError, match=next(iter(metrics))):
        logbook.write(1, metrics)
    assert read_metrics(tmp_path) == []


def test_importing_the_module_does_not_import_tensorboard() -> None:
    script = (
        "import sys, types; package = types.ModuleType('fedjax_anomaly'); package.__path__ = sys.argv[1:]; "
        "sys.modules['fedjax_anomaly'] = package; import fedjax_anomaly.reporting.logbook; "
        "assert not {'tensorboardX', 'jax', 'matplotlib'} & set(sys.modules)"
    )
    package = str(Path(__file__).parents[2] / "fedjax_anomaly")
    subprocess.run([sys.executable, "-W", "error", "-c", script, package], check=True)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "new" / "x.txt", b"old")

    def full_disk(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(tmp_path / "new" / "x.txt", b"new")
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == {"x.txt": b"old"}
