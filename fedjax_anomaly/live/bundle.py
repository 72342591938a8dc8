"""What a run leaves for the live detector: the folder `detector`, numbers as npz and the rest as JSON."""

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedjax_anomaly.data.encoding import Encoder
from fedjax_anomaly.detection.anomaly_score import ScoreRule
from fedjax_anomaly.detection.streaming import StreamScore, mean_of_columns, pvalue_of_columns
from fedjax_anomaly.detection.threshold import ThresholdRule, ThresholdScope
from fedjax_anomaly.models.autoencoder import Autoencoder
from fedjax_anomaly.models.choice import model_named
from fedjax_anomaly.reporting.atomic import write_atomically
from fedjax_anomaly.types import PyTree

FOLDER = "detector"
_VERSION = 2
_ARRAYS, _SETTINGS = "arrays.npz", "settings.json"
_PARAMS, _ENCODER = "params/", "encoder/"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A trained detector, complete: what scores a row of any client, and what its thresholds are set from.

    Attributes:
      params: the K models, nested dicts whose leaves lead with K.
      cluster: Int[C], the model of each client.
      client_names: of the C clients.
      encoders: the encoding of each client.
      model: the arguments of `model_named`, layout and window length apart.
      window_length: T.
      differences: whether the second half of the numeric columns are changes since the row before.
      step_seconds: Float[C], between a client's rows in training; NaN where rows had no times.
      score: from column errors to a score.
      reference: Float[N, D], column errors of held-out normal rows for `score="pvalue"`; else without rows.
      smoothing: rows of a smoothed score.
      threshold: the rule that the run used.
      threshold_level: its level, see `client_thresholds`.
      threshold_scope: whose scores set a client's threshold.
      thresholds: Float[C], by that rule, for ending windows.
      calibration_scores: Float[N], smoothed, of the ending windows of held-out normal rows.
      calibration_client: Int[N], whose rows they are.
      calibration_time: Float[N], of these rows, in seconds; NaN where rows had no times.
      trained_at: date and time of the end of the training, ISO 8601.
    """

    params: PyTree
    cluster: np.ndarray
    client_names: tuple[str, ...]
    encoders: tuple[Encoder, ...]
    model: dict[str, Any]
    window_length: int
    differences: bool
    step_seconds: np.ndarray
    score: ScoreRule
    reference: np.ndarray
    smoothing: int
    threshold: ThresholdRule
    threshold_level: float
    threshold_scope: ThresholdScope
    thresholds: np.ndarray
    calibration_scores: np.ndarray
    calibration_client: np.ndarray
    calibration_time: np.ndarray
    trained_at: str

    @property
    def num_clients(self) -> int:
        """C."""
        return len(self.cluster)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The D columns that are scored, numeric ones first."""
        return self.encoders[0].column_names

    def build_model(self) -> Autoencoder:
        """The model as functions of its parameters."""
        return model_named(layout=self.encoders[0].layout, window_length=self.window_length, **self.model)

    def build_score(self) -> StreamScore:
        """From the column errors of a row to its score, compiled."""
        return mean_of_columns() if self.score == "mean" else pvalue_of_columns(self.reference)

    def calibration_of(self, client: int, least: int, scope: ThresholdScope | None = None) -> np.ndarray:
        """Float[N], the scores that a client's threshold is set from.

        They are those of the scope, or of the next wider one where these are too few.

        Args:
          client: its number.
          least: how many are enough.
          scope: None takes the run's.
        """
        own = {
            "client": self.calibration_client == client,
            "cluster": self.cluster[self.calibration_client] == self.cluster[client],
            "global": np.ones(len(self.calibration_client), bool),
        }
        scopes = list(own)
        for wide_enough in scopes[scopes.index(scope or self.threshold_scope) :]:
            if np.count_nonzero(own[wide_enough]) >= least:
                break
        return self.calibration_scores[own[wide_enough]]


def write_bundle(run_dir: str | Path, bundle: Bundle) -> None:
    """Writes the folder `detector` of a run; a reader sees a whole bundle, or is told that its files do not fit.

    Guarantees:
      What is read back is equal, bit by bit (test: `tests/live/test_bundle.py::test_a_bundle_is_read_as_written`).
    """
    arrays = {_PARAMS + name: leaf for name, leaf in _flat(bundle.params).items()}
    for name in ("mean", "deviation"):
        arrays[_ENCODER + name] = np.stack([getattr(encoder, name) for encoder in bundle.encoders])
    settings: dict[str, Any] = {"version": _VERSION}
    for field in dataclasses.fields(bundle):
        value = getattr(bundle, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif field.name not in ("params", "encoders"):
            settings[field.name] = value
    encoder = bundle.encoders[0]
    settings["encoder"] = {name: getattr(encoder, name) for name in ("vocabularies", "clip", "column_names")}
    contents = io.BytesIO()
    np.savez(contents, allow_pickle=False, **arrays)
    settings["arrays_sha256"] = hashlib.sha256(contents.getvalue()).hexdigest()
    folder = Path(run_dir) / FOLDER
    write_atomically(folder / _ARRAYS, contents.getvalue())
    write_atomically(folder / _SETTINGS, json.dumps(settings, indent=1).encode())


def read_bundle(run_dir: str | Path) -> Bundle:
    """Reads the folder `detector` of a run.

    Raises:
      FileNotFoundError: when there is none.
      ValueError: when it is damaged, or of another version.
    """
    folder = Path(run_dir) / FOLDER
    if not (folder / _SETTINGS).is_file():
        raise FileNotFoundError(
            f"run={run_dir} holds no folder {FOLDER}: give the folder of a finished run of one seed that trained a "
            "model (no classical method, no private preprocessing)."
        )
    settings = json.loads((folder / _SETTINGS).read_text())
    contents = (folder / _ARRAYS).read_bytes()
    if settings.pop("version") != _VERSION:
        raise ValueError(f"{folder} is of another version; train anew.")
    if settings.pop("arrays_sha256") != hashlib.sha256(contents).hexdigest():
        raise ValueError(f"{folder / _ARRAYS} is not the file that {_SETTINGS} was written for; train anew.")
    with np.load(io.BytesIO(contents), allow_pickle=False) as stored:
        arrays = dict(stored)
    params = _nested(
        {name.removeprefix(_PARAMS): arrays.pop(name) for name in list(arrays) if name.startswith(_PARAMS)}
    )
    shared = {name: _tuples(value) for name, value in settings.pop("encoder").items()}
    means, deviations = arrays.pop(_ENCODER + "mean"), arrays.pop(_ENCODER + "deviation")
    encoders = tuple(Encoder(mean=m, deviation=d, **shared) for m, d in zip(means, deviations, strict=True))
    settings = {name: _tuples(value) for name, value in settings.items()}
    settings["model"] = {name: _tuples(value) for name, value in settings["model"].items()}
    return Bundle(params=params, encoders=encoders, **settings, **arrays)


def digest(run_dir: str | Path) -> str:
    """What tells one bundle from another."""
    return hashlib.sha256((Path(run_dir) / FOLDER / _SETTINGS).read_bytes()).hexdigest()


def _flat(params: PyTree) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}


def _nested(leaves: dict[str, np.ndarray]) -> PyTree:
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *folders, last = name.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = leaf
    return tree


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
