"""Nothing is lost, nothing is counted twice: at the end of a source, after SIGTERM, and after kill -9."""

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedjax_anomaly.config_live import LiveSettings
from fedjax_anomaly.live.alertmanager import alert
from fedjax_anomaly.live.bundle import write_bundle
from fedjax_anomaly.live.incidents import Incident
from fedjax_anomaly.live.sources import PipeSource
from fedjax_anomaly.live.start import start
from tests.live.fleet import Kept, in_time_order, lines, write_lines
from tests.live.webhook import server
from tests.ports import free_port

BAD = ["no JSON", '{"stream": "nobody"}', '{"stream": 0, "time": 0}']


@pytest.fixture(scope="module")
def texts(small):
    """Lines of 560 events and, among them, 30 that are rejected."""
    table = small[0].federation.dataset.test
    texts = list(lines(table, in_time_order(table)))[:560]
    for i in range(30):
        texts.insert(19 * i, BAD[i % 3])
    return texts


@pytest.fixture
def run_dir(bundle, tmp_path):
    write_bundle(tmp_path, bundle)
    return tmp_path


def score_files(folder: Path) -> tuple[list[str], list[str], dict]:
    scores, dead = ((folder / name).read_text().splitlines() for name in ("scores.jsonl", "dead_letters.jsonl"))
    counts = json.loads((folder / "counts.json").read_text())
    assert counts["read"] == counts["scored"] + sum(counts["rejected"].values())
    assert counts["scored"] == len(scores)
    assert sum(counts["rejected"].values()) == len(dead)
    assert counts["alarms"] == sum(json.loads(line)["alarm"] for line in scores)
    return scores, dead, counts


def uninterrupted(run_dir: Path, texts: list[str], **others) -> tuple[list[str], list[str], dict]:
    source = write_lines(run_dir / "whole.jsonl", texts)
    settings = LiveSettings(
        run=str(run_dir), source=str(source), follow=False, output_dir=str(run_dir / "whole"), max_batch=16, **others
    )
    start(settings).run()
    return score_files(run_dir / "whole")


def close(mine: list[str], other: list[str]) -> None:
    """The same events in the same order; scores in batches of other sizes differ by rounding."""
    assert len(mine) == len(other)
    for a, b in zip(map(json.loads, mine), map(json.loads, other), strict=True):
        assert a.pop("score") == pytest.approx(b.pop("score"), rel=1e-5)
        assert a == b


@pytest.fixture
def detect(run_dir):
    """Starts the command; what still runs at the end of the test is killed."""
    processes = []

    def begin(**settings) -> subprocess.Popen:
        flags = [f"--{name}={value}" for name, value in settings.items()]
        command = [sys.executable, "-m", "fedjax_anomaly.detect", f"--run={run_dir}", "--max_batch=16", *flags]
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.PIPE, text=True))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def wait_until(condition) -> None:
    until = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < until, "nothing happened for a minute"
        time.sleep(0.02)


def num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_kill_9_and_restart_lose_nothing_and_count_nothing_twice(detect, run_dir, texts):
    """Incidents that ended long before the kill wait in the state for a webhook that is down until the restart."""
    source, output = run_dir / "events.jsonl", run_dir / "live"
    write_lines(source, texts[:200])
    port = free_port()
    webhook = f"http://127.0.0.1:{port}/api/v2/alerts"
    settings = {"source": source, "snapshot_seconds": 0.1, "alarm_rule": "run", "webhook": webhook}
    killed = detect(**settings)
    wait_until(lambda: (output / "state.npz").exists() and num_lines(output / "scores.jsonl") > 150)
    # More comes, and the kill falls anywhere between two stored states.
    with source.open("a") as file:
        for text in texts[200:400]:
            file.write(f"{text}\n")
            file.flush()
            time.sleep(0.002)
    killed.kill()
    killed.wait()
    with (output / "scores.jsonl").open("a") as file:
        file.write('{"stream": "half a li')
    write_lines(source, texts)
    with server([], port) as (_, accepted):
        restarted = detect(**settings)
        wait_until(lambda: num_lines(output / "scores.jsonl") + num_lines(output / "dead_letters.jsonl") >= len(texts))
        restarted.send_signal(signal.SIGTERM)
        _, told = restarted.communicate(timeout=60)
    assert restarted.returncode == 0, told
    scores, dead, counts = score_files(output)
    expected_scores, expected_dead, expected_counts = uninterrupted(run_dir, texts, alarm_rule="run")
    close(scores, expected_scores)
    assert dead == expected_dead
    assert counts == expected_counts
    assert counts["read"] == len(texts)
    assert f"{len(texts)} read = {counts['scored']} scored + " in told
    assert {json.loads(line)["reason"] for line in dead} == {"unreadable", "unknown_stream", "missing_field"}
    incidents = [Incident(**json.loads(line)) for line in (output / "incidents.jsonl").read_text().splitlines()]
    ended = [alert(incident) for incident in incidents if incident.ended]
    assert len(ended) >= 2
    assert all(entry in [entry for batch in accepted for entry in batch] for entry in ended)


STUCK = """
import os, sys, time
marker, replace, states = sys.argv.pop(), os.replace, []

def stuck_with_the_third_state(source, target):
    states.append(target) if str(target).endswith("state.npz") else None
    if len(states) == 3:
        open(marker, "w").close()
        time.sleep(600)
    replace(source, target)

os.replace = stuck_with_the_third_state
from fedjax_anomaly.detect import run
run()
"""


def test_a_kill_during_a_store_goes_on_from_the_state_before(run_dir, texts):
    """A store that takes for ever: events are scored on meanwhile, and no second one begins."""
    source, output, marker = run_dir / "events.jsonl", run_dir / "live", run_dir / "storing"
    write_lines(source, texts[:200])
    flags = [f"--run={run_dir}", f"--source={source}", "--max_batch=16", "--snapshot_seconds=0.05"]
    stuck = subprocess.Popen([sys.executable, "-c", STUCK, *flags, str(marker)])
    try:
        wait_until(marker.exists)
        stored = (output / "state.npz").read_bytes()
        write_lines(source, texts[:400])
        wait_until(lambda: num_lines(output / "scores.jsonl") > 350)
    finally:
        stuck.kill()
        stuck.wait()
    assert (output / "state.npz").read_bytes() == stored
    assert len(list(output.glob(".state.npz.*"))) == 1
    write_lines(source, texts)
    start(LiveSettings(run=str(run_dir), source=str(source), follow=False, max_batch=16)).run()
    (scores, dead, counts), expected = score_files(output), uninterrupted(run_dir, texts)
    close(scores, expected[0])
    assert (dead, counts) == expected[1:]
    assert not list(output.glob(".state.npz.*"))


@pytest.mark.parametrize("write_scores", ["all", "none"])
def test_a_full_disk_ends_the_run_and_leaves_the_old_state(run_dir, texts, write_scores):
    """Files may not grow beyond 1 KiB: with scores their lines do not fit, without them the state does not."""
    texts, output = [text for text in texts if text not in BAD], run_dir / "live"
    source = write_lines(run_dir / "events.jsonl", texts)
    settings = LiveSettings(run=str(run_dir), source=str(source), follow=False, max_batch=16, write_scores=write_scores)
    engine = start(settings)
    stored, (soft, hard) = (output / "state.npz").read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            engine.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.filename == str(output / ("scores.jsonl" if write_scores == "all" else "state.npz"))
    assert (output / "state.npz").read_bytes() == stored
    assert not list(output.glob(".state.npz.*"))
    assert start(settings).run().read == len(texts)


def test_a_stop_scores_what_cannot_be_read_again_and_leaves_the_rest(run_dir, texts):
    """Of 100 lines, 16 are read before the stop; the pipe's source has taken in the others as well."""
    settings = LiveSettings(run=str(run_dir), source=str(write_lines(run_dir / "in.jsonl", texts[:100])), max_batch=16)

    def stop_after_one_read() -> Callable[[], bool]:
        answers = iter([False])
        return lambda: next(answers, True)

    read, write = os.pipe()
    os.write(write, "".join(f"{text}\n" for text in texts[:100]).encode())
    piped = dataclasses.replace(settings, source="-", output_dir=str(run_dir / "piped"))
    assert start(piped, PipeSource(read, "jsonl")).run(stop_after_one_read()).read == 100
    os.close(write)
    os.close(read)
    assert start(settings).run(stop_after_one_read()).read == 16
    assert start(dataclasses.replace(settings, follow=False)).run().read == 100
    (scores, _, counts), (piped_scores, _, piped_counts) = (score_files(run_dir / name) for name in ("live", "piped"))
    close(scores, piped_scores)
    assert counts == piped_counts


def test_one_event_is_scored_at_once_and_a_stop_ends_the_run(run_dir, texts):
    read, write = os.pipe()
    sink, asked = Kept(), []

    def stop() -> bool:
        """Sends the next event once the last one is decided; asks to stop after the third."""
        if len(sink.events) == len(asked):
            if len(asked) == 3:
                return True
            asked.append(0)
            os.write(write, f"{good[len(asked)]}\n".encode())
        return False

    good = [text for text in texts if text not in BAD]
    settings = LiveSettings(run=str(run_dir), max_batch=2, write_scores="none")
    counts = start(settings, PipeSource(read), [sink]).run(stop)
    os.close(write)
    os.close(read)
    assert counts.scored == 3
    assert max(event.latency_seconds for event in sink.events) < 0.1


def test_a_state_of_another_detector_is_refused(run_dir, texts, bundle):
    uninterrupted(run_dir, texts[:40])
    write_bundle(run_dir, dataclasses.replace(bundle, thresholds=2.0 * bundle.thresholds))
    live = LiveSettings(
        run=str(run_dir), source=str(run_dir / "whole.jsonl"), output_dir=str(run_dir / "whole"), max_batch=2
    )
    with pytest.raises(ValueError, match="was written for another detector"):
        start(live)


def test_only_alarms_are_written_where_asked(run_dir, texts):
    source = write_lines(run_dir / "events.jsonl", texts)
    settings = LiveSettings(
        run=str(run_dir), source=str(source), follow=False, max_batch=16, write_scores="alarms", alarm_rule="run"
    )
    counts = start(settings).run()
    written = [json.loads(line) for line in (run_dir / "live" / "scores.jsonl").read_text().splitlines()]
    assert len(written) == counts.alarms > 0
    assert all(line["alarm"] and line["score"] > line["threshold"] for line in written)
    assert np.isfinite([line["score"] for line in written]).all()
