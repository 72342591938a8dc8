"""A detector that was never trained, and events of the rows that it is to score."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from fedjax_anomaly.config import Config
from fedjax_anomaly.data import telemetry
from fedjax_anomaly.data.table import Dataset, Table
from fedjax_anomaly.experiment.build import Experiment, build
from fedjax_anomaly.experiment.bundle import make_bundle
from fedjax_anomaly.experiment.outcome import Detector
from fedjax_anomaly.live.bundle import Bundle
from fedjax_anomaly.live.incidents import Incident
from fedjax_anomaly.live.interfaces import ScoredEvent, Sink

SMALL = Config(
    num_clients=4,
    window_length=4,
    model="dense_autoencoder",
    hidden_size=4,
    latent_size=2,
    num_clusters="2",
    clustering="ifca",
    threshold_quantile=0.9,
)


def small_telemetry() -> Dataset:
    """Four services for a few hours, with faults; ten minutes of the first service's test are missing."""
    dataset = telemetry.load(seed=0, num_services=4, train_days=0.2, test_days=0.1, train_faults_per_service_day=0.0)
    kept = np.ones(len(dataset.test), bool)
    kept[50:60] = False
    return dataclasses.replace(dataset, test=dataset.test.take(kept))


def untrained(experiment: Experiment) -> Detector:
    """Random models, client by client in turn; what only an evaluation needs is left out."""
    rng, num_models = np.random.default_rng(0), experiment.num_clusters
    shapes = jax.eval_shape(experiment.model.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: rng.normal(0.0, 0.3, (num_models, *leaf.shape)).astype(np.float32), shapes)
    cluster, nothing = np.arange(experiment.federation.num_clients) % num_models, np.zeros(0)
    return Detector(cluster, params, lambda rows: nothing, dict, nothing, nothing, nothing)


def small_bundle(config: Config = SMALL, dataset: Dataset | None = None) -> tuple[Experiment, Bundle]:
    """The parts of a run and the bundle of its untrained models."""
    experiment = build(config, small_telemetry() if dataset is None else dataset)
    bundle = make_bundle(experiment, untrained(experiment))
    assert bundle is not None
    return experiment, bundle


def in_time_order(table: Table) -> np.ndarray:
    """The rows of all sources by time, as they would come."""
    assert table.time is not None and table.source is not None
    return np.lexsort((table.source.codes, table.time))


def lines(table: Table, rows: Sequence[int] | np.ndarray) -> Iterator[str]:
    """A JSON line for each row."""
    assert table.time is not None and table.source is not None
    source = table.source.strings()
    for row in rows:
        fields = {"stream": str(source[row]), "time": float(table.time[row])}
        fields |= dict(zip(table.numeric_names, table.numeric[row].tolist(), strict=True))
        for name, column in zip(table.categorical_names, table.categorical, strict=True):
            fields[name] = column.names[column.codes[row]]
        yield json.dumps(fields)


def write_lines(path: Path, texts: Iterator[str] | Sequence[str]) -> Path:
    """Writes lines."""
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


class Kept(Sink):
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.events: list[ScoredEvent] = []
        self.incidents: list[Incident] = []

    def scored(self, events: Sequence[ScoredEvent]) -> None:
        self.events += events

    def incident(self, incident: Incident) -> None:
        self.incidents.append(incident)
