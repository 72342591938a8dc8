"""The paper's comparison: its methods, and the run of each on each data set.

A run is one method on one data set, all seeds side by side in one program. It has a folder OUTPUT/runs/DATASET/METHOD
of its own. One that is finished there is not run again, an interrupted one goes on from its last checkpoint, and one of
other settings is an error: nothing is overwritten.
"""

import argparse
import dataclasses
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fedjax_anomaly
from fedjax_anomaly.config import TRAINED_IN_ROUNDS, Config, load_config

DATASETS = ("nsl_kdd", "kddcup99", "unsw_nb15", "smd", "nezha", "telemetry")

_PRESETS = Path(fedjax_anomaly.__file__).parent / "presets"
_QUICK: dict[str, Any] = {"num_rounds": 4, "rounds_per_report": 2, "hidden_size": 8, "latent_size": 4, "num_clients": 4}


@dataclasses.dataclass(frozen=True)
class Method:
    """A row of the comparison.

    Attributes:
      key: its name in files and folders.
      label: its name in tables.
      settings: what it changes in a data set's preset.
      preset: what follows the data set in the name of its preset; data sets without such a preset are left out.
    """

    key: str
    label: str
    settings: dict[str, Any]
    preset: str = ""

    @property
    def trained_in_rounds(self) -> bool:
        """True where there are rounds to follow."""
        return self.settings["method"] in TRAINED_IN_ROUNDS


def _method(key: str, label: str, method: str, **settings: Any) -> Method:
    return Method(key, label, {"method": method, "num_clusters": "1"} | settings)


SMOKE_TEST = "SMOKE TEST, its figures mean nothing"
"""Stands in the title of whatever a quick run writes."""

OURS = "federated_clustered"
PRIVATE = "federated_private"
METHODS = (
    _method(OURS, "federated LSTM-AE, clustered", "federated", num_clusters="auto"),
    Method(PRIVATE, "federated LSTM-AE, one model, private", {"method": "federated", "num_clusters": "1"}, "_dp"),
    _method("fedavg", "FedAvg LSTM-AE, one model", "federated"),
    _method("centralized", "centralized LSTM-AE", "centralized"),
    _method("local_only", "local-only LSTM-AE", "local_only"),
    _method("plain_autoencoder", "federated plain autoencoder", "federated", model="dense_autoencoder"),
    _method(
        "feddetect",
        "FedDetect: plain autoencoder, mean + 3 sigma",
        "federated",
        model="dense_autoencoder",
        threshold="mean_3sigma",
    ),
    _method("pca", "PCA reconstruction", "pca"),
    _method("kmeans", "k-means distance", "kmeans"),
    _method("isolation_forest", "isolation forest", "isolation_forest"),
    _method("one_class_svm", "one-class SVM", "one_class_svm"),
    _method("linear_svm", "linear SVM (saw attack labels)", "linear_svm"),
    _method("rbf_svm", "RBF SVM (saw attack labels)", "rbf_svm"),
    _method("no_model", "no model: distance to the mean", "no_model"),
)
"""In the order of the table; the cheap ones are at the end."""

QUICK_METHODS = (OURS, "pca", "linear_svm", "no_model")
"""What a quick run does on all data sets but its first."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A method on a data set; `config.output_dir` is its folder."""

    method: Method
    config: Config
    quick: bool

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return Path(self.config.output_dir)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what chooses the runs of the comparison."""
    parser.add_argument("--datasets", default="", help=f"some of {','.join(DATASETS)}; left out, all that can be had")
    parser.add_argument("--data_dir", type=Path, help="folder with the raw files; without it only telemetry is run")
    parser.add_argument("--num_seeds", type=int, help="seeds side by side; 5, or 2 with --quick")


def chosen_datasets(arguments: argparse.Namespace) -> list[str]:
    """The data sets that the arguments name.

    Raises:
      ValueError: for an unknown name, and for one whose raw files are not given.
    """
    names = (
        arguments.datasets.split(",") if arguments.datasets else list(DATASETS if arguments.data_dir else ["telemetry"])
    )
    for name in names:
        if name not in DATASETS:
            raise ValueError(
                f"datasets={arguments.datasets!r}: {name!r} is unknown; choose from {', '.join(DATASETS)}."
            )
        if name != "telemetry" and not arguments.data_dir:
            raise ValueError(f"datasets={arguments.datasets!r}: {name} is read from raw files; give --data_dir=FOLDER.")
    return names


def plan(arguments: argparse.Namespace, methods: Iterable[Method] = METHODS) -> list[Run]:
    """The runs in the order in which they are carried out: data set by data set, cheap methods first.

    Compiling is most of what a quick run does, so that all methods are run on the first data set only, and
    `QUICK_METHODS` on the others.

    Raises:
      ValueError: for arguments that do not fit, and where a run's folder holds a run of other settings.
    """
    by_default = 2 if arguments.quick else 5
    changes: dict[str, Any] = {"num_seeds": by_default if arguments.num_seeds is None else arguments.num_seeds}
    changes |= {"data_dir": str(arguments.data_dir.resolve())} if arguments.data_dir else {}
    names = chosen_datasets(arguments)

    def start(name: str) -> Config:
        return quickened(preset(name)) if arguments.quick else preset(name)

    runs = [
        Run(
            method,
            dataclasses.replace(
                start(name + method.preset),
                **changes | method.settings,
                output_dir=str(arguments.output_dir / "runs" / name / method.key),
            ),
            arguments.quick,
        )
        for name in names
        for method in reversed(list(methods))
        if has_preset(name + method.preset) and (not arguments.quick or name == names[0] or method.key in QUICK_METHODS)
    ]
    for run in runs:
        check_folder(run)
    return runs


def has_preset(name: str) -> bool:
    """Whether there is a flag file of this name."""
    return (_PRESETS / f"{name}.flags").exists()


def preset(name: str) -> Config:
    """The settings of a preset's flag file."""
    kinds = typing.get_type_hints(Config)
    settings: dict[str, Any] = {}
    for line in (_PRESETS / f"{name}.flags").read_text().splitlines():
        if line.startswith("--"):
            key, equals, value = line[2:].partition("=")
            kind = kinds[key] if kinds[key] in (int, float) else str
            settings[key] = kind(value) if equals else True
    return Config(**settings)


def quickened(config: Config) -> Config:
    """A model, windows and a training as small as they can be."""
    return dataclasses.replace(config, **_QUICK, window_length=min(config.window_length, 8))


def check_folder(run: Run) -> None:
    """Raises ValueError where the run's folder holds a run of other settings."""
    stored = run.folder / "config.json"
    if not stored.exists():
        return
    before = load_config(stored)
    places = {"output_dir", "data_dir", "cache_dir", "resume"}
    differences = [
        f"{field.name} {getattr(before, field.name)!r} -> {getattr(run.config, field.name)!r}"
        for field in dataclasses.fields(Config)
        if field.name not in places and getattr(before, field.name) != getattr(run.config, field.name)
    ]
    if differences:
        raise ValueError(
            f"{run.folder} holds a run of other settings ({'; '.join(differences)}); give another --output_dir, or "
            "remove that folder."
        )
