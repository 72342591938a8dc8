"""A fleet small enough to train in seconds."""

import base64
import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from fedjax_anomaly.config import Config
from fedjax_anomaly.data.table import Categorical, Dataset, Table
from fedjax_anomaly.reporting.atomic import write_atomically

SERVICES = ("api", "cache", "db", "queue")

SMALL = Config(
    num_clients=4,
    window_length=4,
    hidden_size=8,
    latent_size=2,
    num_rounds=4,
    rounds_per_report=2,
    batch_size=16,
    client_optimizer="momentum",
    learning_rate=0.05,
    num_clusters="auto",
)

_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module", autouse=True)
def undrawn_figures() -> Iterator[None]:
    """Figures are made and not drawn, which takes longer than the rounds; `test_run.py` and the figures' tests draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedjax_anomaly.reporting.figures.save", lambda figure, path: write_atomically(path, _PIXEL))
        yield


def _table(seed: int, num_rows: int, anomalous: slice) -> Table:
    """Four services of two groups; an anomaly multiplies every metric."""
    rng = np.random.default_rng(seed)
    numeric, attack = [], []
    for service in range(4):
        phase = 2.0 * np.pi * np.arange(num_rows) / 48.0 + 3.0 * (service % 2)
        rows = np.exp(np.sin(phase)[:, None] + 2.0 * (service % 2) + 0.1 * rng.normal(size=(num_rows, 3)))
        rows[anomalous] *= 20.0
        numeric.append(rows)
        names = np.full(num_rows, "normal", dtype="<U8")
        names[anomalous] = "spike"
        attack.append(names)
    return Table(
        np.concatenate(numeric).astype(np.float32),
        ("requests", "latency", "errors"),
        (),
        (),
        Categorical.from_strings(np.concatenate(attack)),
        np.tile(60.0 * np.arange(num_rows), 4),
        Categorical.from_strings(np.repeat(SERVICES, num_rows)),
    )


@pytest.fixture(scope="session")
def small_dataset() -> Dataset:
    return Dataset(
        "telemetry",
        _table(0, 400, slice(100, 103)),
        _table(1, 200, slice(120, 140)),
        "time",
        category_columns=("source",),
        normal_groups={name: i % 2 for i, name in enumerate(SERVICES)},
    )


@pytest.fixture
def small_config(tmp_path) -> Config:
    return dataclasses.replace(SMALL, output_dir=str(tmp_path / "run"))


def dense(config: Config) -> Config:
    """The same run of the plain autoencoder, which compiles faster, for what does not depend on the model."""
    return dataclasses.replace(config, model="dense_autoencoder")


@pytest.fixture
def private_config(small_config) -> Config:
    return dataclasses.replace(
        dense(small_config), dp_unit="client", dp_noise_multiplier=1.0, clients_per_round=3, client_sampling="poisson"
    )
