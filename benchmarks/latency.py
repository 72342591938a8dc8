"""Event-to-decision latency and sustained events per second of the live detector, beside detectors that people use.

Events are those of a day of the telemetry simulator, faults and attacks included, under each of its load profiles; more
streams than services repeat them, shifted in time. H = 64, T = 16, four models. Every contestant gets the same events
in the same run, in turn, on the same cores (one by default) and with one thread:

- ours: the whole live detector: checked and encoded records, scores, thresholds, and a line in a file for each event;
- a plain PyTorch scorer of the same models, given rows as arrays, which checks and writes nothing; its scores are
  compared with ours;
- river's HalfSpaceTrees, a forest for each model, one event after the other.

`lone`: the next event comes when the last one is decided. `sustained`: all events are there at once, and go in batches
of at most 256. `replay`: events come at their own times, so many times faster than the simulation, and an event that
has to wait counts its waiting. A contestant that is slower than the events come is marked `overloaded`.
"""

import argparse
import contextlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from contest.contestants import TORCH
from contest.environments import Environment, NotInstalled, install
from contest.process import ContestantProcess
from contest.weights import to_torch_names
from harness import add_arguments, markdown_table, write_results
from rivals.live_protocol import Mode

from fedjax_anomaly import models
from fedjax_anomaly.data import telemetry
from fedjax_anomaly.data.encoding import Encoder, encoding_sums, fit_encoder
from fedjax_anomaly.data.table import Table
from fedjax_anomaly.live.bundle import Bundle, write_bundle
from fedjax_anomaly.reporting.atomic import write_atomically

PAPER_MS = 105.0
"""The latency that the paper reports."""

NUM_SERVICES, NUM_MODELS = 20, 4
WINDOW_LENGTH, HIDDEN_SIZE, LATENT_SIZE = 16, 64, 8
SHIFT_MINUTES = 97
"""Between two streams that repeat one service."""


class Workload(NamedTuple):
    """Streams under a load profile, and how fast their events come in the replay."""

    streams: int
    profile: telemetry.LoadProfile
    events_per_second: float

    @property
    def name(self) -> str:
        """Of its file, and in tables."""
        return f"{self.streams}_{self.profile}"


WORKLOADS = (
    Workload(1, "normal", 200.0),
    Workload(20, "low", 2000.0),
    Workload(20, "normal", 2000.0),
    Workload(20, "high", 2000.0),
    Workload(20, "bursty", 2000.0),
    Workload(1000, "normal", 5000.0),
    Workload(10_000, "normal", 5000.0),
)


def write_events(folder: Path, workload: Workload, count: int) -> float:
    """Writes what `rivals.live_protocol.Events` reads; returns the share of anomalous events."""
    minutes = 1 + -(-count // workload.streams)
    table = telemetry.load(
        seed=0, num_services=NUM_SERVICES, load_profile=workload.profile, train_days=0.05, test_days=1.0
    ).test
    assert table.source is not None and table.time is not None
    rng = np.random.default_rng(0)
    per_service = len(table) // NUM_SERVICES
    stream = np.tile(np.arange(workload.streams), minutes)
    client = stream % NUM_SERVICES
    minute = np.repeat(np.arange(minutes), workload.streams)
    row = client * per_service + (minute + SHIFT_MINUTES * (stream // NUM_SERVICES)) % per_service
    # Each stream has its own second within a minute.
    phase = np.concatenate([[0.0], np.sort(rng.uniform(size=workload.streams - 1))])
    seconds_per_minute = workload.streams / workload.events_per_second
    services = table.source.names
    np.savez(
        folder / f"{workload.name}.npz",
        numeric=table.numeric[row],
        stream=stream,
        time=60.0 * minute,
        due=(minute - 1 + phase[stream]) * seconds_per_minute,
        client=np.arange(workload.streams) % NUM_SERVICES,
        names=np.array([f"{services[s % NUM_SERVICES]}/{s}" for s in range(workload.streams)]),
    )
    return float(table.label[row].mean())


def write_models(folder: Path) -> dict[str, Any]:
    """Writes a detector for ours and for the rivals; returns what both have to know.

    Its weights are drawn and not trained: that makes no difference to its speed.
    """
    train = telemetry.load(seed=0, num_services=NUM_SERVICES, train_days=1.0, test_days=0.05).train
    normal = train.take(np.flatnonzero(~train.label))
    encoder = fit_encoder([encoding_sums(normal)], train.numeric_names)
    model = models.lstm_autoencoder(encoder.layout, hidden_size=HIDDEN_SIZE, latent_size=LATENT_SIZE)
    params = jax.vmap(model.init)(jax.random.split(jax.random.key(0), NUM_MODELS))
    cluster = np.arange(NUM_SERVICES) % NUM_MODELS
    scores, client = _calibration(model, params, cluster, encoder, normal)
    threshold = float(np.quantile(scores, 0.999))
    assert train.source is not None
    bundle = Bundle(
        params=jax.tree.map(np.asarray, params),
        cluster=cluster,
        client_names=train.source.names,
        encoders=(encoder,) * NUM_SERVICES,
        model={
            "name": "lstm_autoencoder",
            "latent_per": "step",
            "feature_groups": None,
            "hidden_size": HIDDEN_SIZE,
            "latent_size": LATENT_SIZE,
            "num_layers": 1,
            "matmul_dtype": "float32",
        },
        window_length=WINDOW_LENGTH,
        differences=False,
        step_seconds=np.full(NUM_SERVICES, telemetry.SAMPLING_SECONDS),
        score="mean",
        reference=np.zeros((0, encoder.layout.num_columns), np.float32),
        smoothing=1,
        threshold="quantile",
        threshold_level=0.999,
        threshold_scope="global",
        thresholds=np.full(NUM_SERVICES, threshold),
        calibration_scores=scores,
        calibration_client=client,
        calibration_time=telemetry.SAMPLING_SECONDS * np.arange(len(client)),
        trained_at="",
    )
    write_bundle(folder, bundle)
    np.savez(folder / "encoding.npz", mean=encoder.mean, deviation=encoder.deviation, cluster=cluster)
    for k in range(NUM_MODELS):
        weights: dict[str, Any] = to_torch_names(jax.tree.map(lambda leaf, k=k: leaf[k], params))
        np.savez(folder / f"weights_{k}.npz", **weights)
    return {
        "window_length": WINDOW_LENGTH,
        "hidden_size": HIDDEN_SIZE,
        "latent_size": LATENT_SIZE,
        "columns": train.numeric_names,
        "threshold": threshold,
        "clip": encoder.clip,
    }


def _calibration(
    model: models.Autoencoder, params: Any, cluster: np.ndarray, encoder: Encoder, normal: Table
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of windows of normal rows, and the client of each."""
    assert normal.source is not None
    score = jax.jit(
        lambda k, windows: model.column_errors(jax.tree.map(lambda p: p[k], params), windows)[:, -1].mean(1)
    )
    scores, clients = [], []
    for c in range(NUM_SERVICES):
        rows = encoder.transform(normal.take(np.flatnonzero(normal.source.codes == c)[: 256 + WINDOW_LENGTH - 1]))
        windows = np.lib.stride_tricks.sliding_window_view(rows, WINDOW_LENGTH, axis=0).swapaxes(1, 2)
        scores.append(np.asarray(score(cluster[c], windows)))
        clients.append(np.full(len(windows), c))
    return np.concatenate(scores), np.concatenate(clients)


def measurements(quick: bool) -> list[tuple[Workload, Mode, int]]:
    """A workload, a mode and a number of events."""
    lone, sustained, seconds = (200, 1024, 0.5) if quick else (3000, 20_480, 4.0)
    found: list[tuple[Workload, Mode, int]] = []
    for workload in WORKLOADS:
        if workload.profile == "normal":
            found += [(workload, "lone", lone)] if workload.streams <= NUM_SERVICES else []
            found.append((workload, "sustained", sustained))
        found.append((workload, "replay", int(seconds * workload.events_per_second)))
    return found


def summary(workload: Workload, mode: Mode, name: str, results: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """A row of the table; several repetitions of a measurement are one sample of latencies."""
    latency = 1e3 * np.concatenate([result["latency_seconds"] for result in results])
    count = len(results[0]["latency_seconds"])
    row: dict[str, Any] = {"streams": workload.streams, "profile": workload.profile, "mode": mode, "detector": name}
    p50, p95, p99, p999 = np.percentile(latency, [50, 95, 99, 99.9])
    speeds = [count / float(result["elapsed_seconds"]) for result in results]
    row |= {"events": len(latency), "events_per_second": float(np.median(speeds))}
    if mode != "sustained":
        row |= {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "p99.9_ms": p999}
    if mode == "replay":
        row["times_real_time"] = workload.events_per_second * telemetry.SAMPLING_SECONDS / workload.streams
        row["overloaded"] = bool(row["events_per_second"] < 0.9 * workload.events_per_second)
    return row


def check_scores(ours: dict[str, np.ndarray], torch: dict[str, np.ndarray]) -> None:
    """Both must have scored the same events alike.

    Raises:
      RuntimeError: when they have not.
    """
    difference = float(np.abs(ours["score"] - torch["score"]).max())
    if difference > 1e-4:
        raise RuntimeError(f"scores of ours and PyTorch's differ by {difference}, so they did not do the same work.")


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of ours to the paper's latency and to the rivals; above 1 ours is better."""
    of = {(row["streams"], row["profile"], row["mode"], row["detector"]): row for row in rows}
    found = {}
    for (streams, profile, mode, name), row in of.items():
        ours = of[streams, profile, mode, "ours"]
        label = f"{streams}_{profile}_{mode}"
        if name == "ours" and mode != "sustained":
            found[f"paper_vs_{label}_p99"] = PAPER_MS / row["p99_ms"]
        elif name != "ours" and mode == "sustained":
            found[f"{label}_vs_{name}"] = ours["events_per_second"] / row["events_per_second"]
        elif name != "ours" and not row.get("overloaded"):
            found |= {f"{name}_vs_{label}_{p}": row[f"{p}_ms"] / ours[f"{p}_ms"] for p in ("p50", "p99")}
    return found


def contestants(environments: Path) -> dict[str, Path]:
    """The Python of each; PyTorch's is left out where it cannot be installed."""
    found = {"ours": Path(sys.executable), "river": Path(sys.executable)}
    try:
        found["torch"] = install(Environment("torch", (TORCH, "numpy")), environments)
    except NotInstalled as error:
        print(f"torch: {error}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--environments", type=Path, default=Path("environments"), help="folder for PyTorch's packages")
    parser.add_argument("--cores", type=int, default=1, help="for every contestant")
    arguments = parser.parse_args()
    folder = (arguments.output_dir / "latency").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pythons = contestants(arguments.environments)
    plan = measurements(arguments.quick)
    settings = write_models(folder)
    most = {workload: max(n for w, _, n in plan if w == workload) for workload in WORKLOADS}
    attacks = {workload: write_events(folder, workload, most[workload]) for workload in WORKLOADS}
    task = {"settings": settings, "measurements": [(workload.name, mode, count) for workload, mode, count in plan]}
    write_atomically(folder / "task.json", json.dumps(task).encode())
    rows = measure_all(plan, pythons, folder, 1 if arguments.quick else 2, arguments.cores)
    for row in rows:
        row |= {"cores": arguments.cores}
    for workload, share in attacks.items():
        print(f"{workload.name}: {100 * share:.1f} % of the events are anomalous")
    text = "\n\n".join(
        [
            __doc__ or "",
            *(markdown_table([row for row in rows if row["mode"] == mode]) for mode in ("lone", "sustained", "replay")),
        ]
    )
    write_atomically(arguments.output_dir / "latency.md", text.encode())
    print(text.split("\n\n", 1)[1])
    write_results(arguments.output_dir, "latency", rows, ratios(rows))


def measure_all(
    plan: list[tuple[Workload, Mode, int]], pythons: dict[str, Path], folder: Path, repetitions: int, cores: int
) -> list[dict[str, Any]]:
    """Makes every measurement with every contestant, in turn."""
    if platform.system() == "Linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])  # What is started from here inherits it.
    rows = []
    with contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(
                ContestantProcess(python, f"live_{name}", folder, folder / f"{name}.log", {"OMP_NUM_THREADS": "1"})
            )
            for name, python in pythons.items()
        }
        for number, (workload, mode, _) in enumerate(plan, start=1):
            results: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in processes}
            for _ in range(repetitions):
                for name, process in processes.items():
                    process.run(number, timeout_seconds=600.0)
                    with np.load(folder / f"{name}.{number}.npz") as stored:
                        results[name].append(dict(stored))
            if "torch" in results:
                check_scores(results["ours"][0], results["torch"][0])
            rows += [summary(workload, mode, name, found) for name, found in results.items()]
            print(f"{time.strftime('%H:%M:%S')} {workload.name} {mode}", flush=True)
    return rows


if __name__ == "__main__":
    main()
