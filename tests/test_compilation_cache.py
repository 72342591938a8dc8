"""A second start compiles nothing; what is wrong with the folder costs time and one line, never the run."""

import json
import os
import subprocess
import sys

import pytest

from fedjax_anomaly import compilation_cache
from fedjax_anomaly.compilation_cache import keep_programs

START = """
import json, resource, sys
import jax
from fedjax_anomaly.command import carry_out
from fedjax_anomaly.compilation_cache import keep_programs
from absl import flags

folder, most_bytes = json.loads(sys.argv[1])
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name.rsplit("/", 1)[-1]))
if most_bytes:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

def work():
    keep_programs(folder)
    for n in (2, 3):
        assert jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((n, n))) == n**3
    return 0

flags.FLAGS(["test"])
status = carry_out(["test"], work)
print(json.dumps([status, events.count("cache_hits"), events.count("cache_misses")]))
"""


def start(folder: str, most_bytes: int = 0) -> tuple[list[int], list[str]]:
    """[exit status, programs found, programs compiled] of a fresh process, and its lines of warning."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    command = [sys.executable, "-c", START, json.dumps([folder, most_bytes])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=True)
    return json.loads(done.stdout), done.stderr.splitlines()


def test_a_second_start_compiles_nothing_and_damage_costs_one_line(tmp_path):
    (status, found, compiled), told = start(str(tmp_path))
    assert (status, found, told) == (0, 0, []) and compiled >= 2
    assert start(str(tmp_path)) == ([0, compiled, 0], [])
    entries = list(tmp_path.rglob("*-cache"))
    assert len(entries) == compiled
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:-20])
    (status, found, recompiled), told = start(str(tmp_path))
    assert (status, found, recompiled) == (0, 0, compiled)
    assert len(told) == 1 and told[0].startswith("warning: Error reading persistent compilation cache entry")


def test_a_disk_that_fills_up_costs_one_line(tmp_path):
    (status, _, _), told = start(str(tmp_path), most_bytes=99)
    assert status == 0
    assert len(told) == 1 and told[0].startswith("warning: Error writing persistent compilation cache entry")


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match=r"file cannot be used \(Not a directory\), .* give another"):
        assert keep_programs(tmp_path / "file") is None


def test_a_full_disk_is_told_and_old_programs_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation_cache.jax.config, "update", lambda name, value: None)
    folder = keep_programs(tmp_path)
    for age in range(4):
        (folder / f"jit_{age}-cache").write_bytes(bytes(10))
        os.utime(folder / f"jit_{age}-cache", (1000 - age, 1000 - age))
    monkeypatch.setattr(compilation_cache, "_MOST_BYTES", 25)
    keep_programs(tmp_path)
    assert sorted(entry.name for entry in folder.iterdir()) == ["jit_0-cache", "jit_1-cache"]
    monkeypatch.setattr(compilation_cache, "_LEAST_FREE_BYTES", 2**80)
    with pytest.warns(UserWarning, match="its disk is full"):
        assert keep_programs(tmp_path) is None
