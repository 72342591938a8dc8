"""Further federated rounds from the models of a finished run, on rows that a live detector has kept."""

import dataclasses
import datetime
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from fedjax_anomaly import trees
from fedjax_anomaly.compiler_options import compiler_options
from fedjax_anomaly.config import Config, load_config
from fedjax_anomaly.data.windows import run_numbers, window_starts
from fedjax_anomaly.detection.anomaly_score import mean_score
from fedjax_anomaly.detection.recalibration import MOST_ALARMED, without_outliers
from fedjax_anomaly.detection.sampling import sample_windows
from fedjax_anomaly.detection.scoring import ending_row_errors
from fedjax_anomaly.detection.smoothing import causal_mean
from fedjax_anomaly.detection.threshold import client_thresholds
from fedjax_anomaly.experiment.build import build_algorithm, tunables
from fedjax_anomaly.experiment.privacy_plan import training_stride
from fedjax_anomaly.experiment.training import Diverged, mean_loss
from fedjax_anomaly.federated.algorithm import run
from fedjax_anomaly.federated.clustering import fixed
from fedjax_anomaly.federated.parallel import client_map
from fedjax_anomaly.live.bundle import Bundle
from fedjax_anomaly.live.recent import Recent
from fedjax_anomaly.live.retraining import HELD_OUT_PART, Retrain
from fedjax_anomaly.models.choice import model_named
from fedjax_anomaly.types import ClientData, PyTree, RowSet

_COMPARED_WINDOWS = 2048
_ROW_STEP, _WINDOW_STEP = 512, 128  # Sizes are rounded up, so that the next training finds its program compiled.


def retrainer(run_dir: str | Path, num_rounds: int) -> Retrain:
    """What trains the models of a run further.

    Args:
      run_dir: its folder.
      num_rounds: further federated rounds.

    Raises:
      FileNotFoundError: when the folder holds no run.
      ValueError: when the run is one whose models cannot be trained further.
    """
    path = Path(run_dir) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"run={run_dir} is not the folder of a run: it holds no config.json.")
    config = load_config(path)
    check(config)
    return lambda bundle, recent: retrain(config, bundle, recent, num_rounds)


def check(config: Config) -> None:
    """Refuses a run whose models cannot be trained further on live rows.

    Raises:
      ValueError: with the reason.
    """
    if config.dp_unit != "none":
        reason = f"dp_unit={config.dp_unit}: further rounds would spend privacy that its ledger does not count"
    elif config.secure_aggregation != "none":
        reason = f"secure_aggregation={config.secure_aggregation}: its rounds take clients that hold their own rows"
    elif config.method not in ("federated", "local_only"):
        reason = f"method={config.method}: its model was not trained in federated rounds"
    else:
        return
    raise ValueError(f"on_drift=retrain does not go with {reason}; take --on_drift=recalibrate, or train anew.")


def retrain(config: Config, bundle: Bundle, recent: Recent, num_rounds: int) -> tuple[Bundle, dict[str, Any]]:
    """Trains the models of a bundle further, each client on its own recent rows.

    Settings, clusters and encoding are those of the run; the optimizers begin anew. Stretches of at least half a window
    of alarms are taken for faults and left out, and their held-out scores are replaced, see `without_outliers`; shorter
    ones are the rare side of normal operation, and without them each model would know less of it than the one before. A
    client with fewer windows than `min_client_windows`, or with more than `MOST_ALARMED` of its rows left out, does not
    take part. The last third of a client's rows is held out, is what models are compared on, and sets the thresholds: a
    model knows what lies between its training rows better than what comes after them.

    Args:
      config: of the run.
      bundle: to begin with.
      recent: rows of all streams.
      num_rounds: R, further rounds.

    Returns:
      The bundle with new models and thresholds, and what was done: rounds, clients, the held-out loss before and after,
      bytes sent, seconds.

    Raises:
      ValueError: when no client has enough rows, or the held-out loss has not become less.
      Diverged: when the loss is no longer finite.

    Guarantees:
      The rounds are those of `federated.run` on the clients' windows, the latest rows are not learned from, and the
      old model is kept where the new one is worse or not finite (tests: `tests/experiment/test_retraining.py`).
    """
    check(config)
    begin = time.perf_counter()
    model = model_named(
        layout=bundle.encoders[0].layout,
        window_length=bundle.window_length,
        **bundle.model,
        input_masking=config.input_masking,
    )
    parts = [_divide(recent, client, bundle.window_length) for client in range(bundle.num_clients)]
    stride = training_stride(config, bundle.window_length, differenced=config.difference_columns)
    data = _windows(parts, bundle.window_length, stride, config.min_client_windows)
    took_part = data.mask.any(axis=1)
    if not took_part.any():
        raise ValueError(
            f"no client has min_client_windows={config.min_client_windows} windows of recent rows, and at most "
            f"{MOST_ALARMED:.0%} of its rows in stretches of alarms."
        )
    parts = [part if own else _none_of(part) for part, own in zip(parts, took_part, strict=True)]
    held_out = _held_out_rows(parts, bundle.window_length)
    sample = sample_windows(held_out.normal, bundle.window_length, _COMPARED_WINDOWS)
    if not len(sample.starts):
        raise ValueError("no client has a held-out window of recent rows outside of stretches of alarms.")
    windows = sample.series.reshape(len(sample.starts), bundle.window_length, -1)
    cluster = jnp.asarray(bundle.cluster[sample.client[sample.starts]])

    algorithm = build_algorithm(
        dataclasses.replace(config, num_clients=bundle.num_clients, num_rounds=num_rounds),
        model,
        fixed(bundle.cluster, len(jax.tree.leaves(bundle.params)[0])),
        client_map(None if config.client_batch_size == -1 else config.client_batch_size),
        tunables(config, None),
        window_length=bundle.window_length,
        max_windows=data.mask.shape[1],
    )

    def train(key: jax.Array, params: PyTree, data: ClientData) -> tuple[PyTree, tuple[jax.Array, jax.Array]]:
        key_init, key_run = jax.random.split(key)
        state = algorithm.init(key_init, data)._replace(params=params)
        state, (info, _) = run(algorithm, key_run, state, data, num_rounds)
        return state.params, (info.num_participants, info.train_loss)

    start = jax.tree.map(jnp.asarray, bundle.params)
    compiled = jax.jit(train, compiler_options=compiler_options())
    params, (participants, train_loss) = jax.device_get(compiled(jax.random.key(config.seed), start, data))
    loss = jax.jit(lambda params: mean_loss(model, params, cluster, jnp.asarray(windows)))
    before, after = float(loss(bundle.params)), float(loss(params))
    if not (np.isfinite(train_loss).all() and math.isfinite(after)):
        raise Diverged(f"the loss is not finite (train {train_loss[-1]:.3g}, held-out {after:.3g}).")
    if after >= before:
        raise ValueError(f"the held-out loss on recent rows is {after:.4g}, not less than {before:.4g} before.")
    trained = _with_thresholds(config, bundle, params, held_out, took_part, model.column_errors)
    sent = 2 * int(participants.sum()) * trees.num_bytes(jax.tree.map(lambda leaf: leaf[0], bundle.params))
    return trained, {
        "rounds": num_rounds,
        "clients": int(took_part.sum()),
        "loss_before": before,
        "loss_after": after,
        "bytes_sent": sent if config.method == "federated" else 0,
        "seconds": time.perf_counter() - begin,
    }


class _Part(NamedTuple):
    """One client's recent rows; windows lie within a `segment`, which faults and held-out rows end as well."""

    rows: Float[np.ndarray, "L F"]
    time: Float[np.ndarray, " L"]
    run: Int[np.ndarray, " L"]
    segment: Int[np.ndarray, " L"]
    fault: Bool[np.ndarray, " L"]
    held_out: Bool[np.ndarray, " L"]


class _HeldOut(NamedTuple):
    """Held-out rows of all clients: all of them, for scores, and windows of those outside of faults."""

    rows: RowSet
    time: Float[np.ndarray, " L"]
    runs: Int[np.ndarray, " L"]
    fault: Bool[np.ndarray, " L"]
    normal: RowSet


def _divide(recent: Recent, client: int, length: int) -> _Part:
    own = recent.client == client
    rows, when, run = recent.rows[own], recent.time[own], recent.run[own]
    fault = _stretches(recent.alarm[own], run, max(2, length // 2))
    place = np.argsort(np.argsort(when, kind="stable"), kind="stable")  # In time, over the client's streams.
    held_out = place >= len(rows) - round(len(rows) / HELD_OUT_PART)

    def pieces(*columns: np.ndarray) -> np.ndarray:
        breaks = np.zeros(len(rows), bool)
        breaks[1:] = np.any([np.diff(column.astype(np.int64)) != 0 for column in columns], axis=0)
        return run_numbers(breaks)

    return _Part(rows, when, pieces(run, held_out), pieces(run, held_out, fault), fault, held_out)


def _windows(parts: list[_Part], length: int, stride: int, least: int) -> ClientData:
    """The training windows, padded to the largest client."""
    series, starts = [], []
    for part in parts:
        kept = ~part.held_out & ~part.fault
        own = window_starts(part.segment[kept], length, stride)
        series.append(part.rows[kept])
        fit = len(own) >= least and _few(part.fault[part.held_out]) and _few(part.fault)
        starts.append(own if fit else own[:0])
    num_rows = _rounded(max(len(own) for own in series), _ROW_STEP)
    num_windows = _rounded(max(len(own) for own in starts), _WINDOW_STEP)
    data = ClientData(
        np.zeros((len(parts), num_rows, parts[0].rows.shape[1]), np.float32),
        np.zeros((len(parts), num_windows), np.int32),
        np.zeros((len(parts), num_windows), bool),
    )
    for client, (rows, own) in enumerate(zip(series, starts, strict=True)):
        data.series[client, : len(rows)] = rows
        data.starts[client, : len(own)] = own
        data.mask[client, : len(own)] = True
    return data


def _stretches(alarm: np.ndarray, run: np.ndarray, least: int) -> np.ndarray:
    """Bool[L], the alarms that at least so many in a row are."""
    begins = np.ones(len(alarm), bool)
    begins[1:] = (np.diff(alarm.astype(int)) != 0) | (np.diff(run) != 0)
    number = np.cumsum(begins) - 1
    return alarm & (np.bincount(number, minlength=1)[number] >= least)


def _few(alarm: np.ndarray) -> bool:
    return bool(np.count_nonzero(alarm) <= MOST_ALARMED * len(alarm))


def _none_of(part: _Part) -> _Part:
    return _Part(*(column[:0] for column in part))


def _held_out_rows(parts: list[_Part], length: int) -> _HeldOut:
    rows = np.concatenate([part.rows[part.held_out] for part in parts])
    client = np.repeat(np.arange(len(parts), dtype=np.int32), [np.count_nonzero(part.held_out) for part in parts])
    alarm = np.concatenate([part.fault[part.held_out] for part in parts])
    runs = _joined([part.run[part.held_out] for part in parts])
    segments = _joined([part.segment[part.held_out] for part in parts])
    of_table = np.arange(len(rows))
    whole = RowSet(rows, np.zeros(0, np.int32), client, of_table)
    starts = window_starts(segments[~alarm], length, length).astype(np.int32)
    time = np.concatenate([part.time[part.held_out] for part in parts])
    return _HeldOut(whole, time, runs, alarm, RowSet(rows[~alarm], starts, client[~alarm], of_table[~alarm]))


def _with_thresholds(
    config: Config, bundle: Bundle, params: PyTree, held_out: _HeldOut, took_part: np.ndarray, column_errors: Any
) -> Bundle:
    """The bundle of new models, with the scores that these give held-out rows."""
    rows, length = held_out.rows, bundle.window_length
    errors = ending_row_errors(column_errors, params, bundle.cluster, rows, held_out.runs, length)
    of_rows = causal_mean(mean_score(errors), held_out.runs, bundle.smoothing).astype(np.float32)
    scores, clients, times = [], [], []
    for client in range(bundle.num_clients):
        own = rows.client == client
        if took_part[client]:
            scores.append(_normal_scores(of_rows[own], held_out.fault[own]))
            times.append(held_out.time[own])
        elif not took_part[bundle.cluster == bundle.cluster[client]].any():  # Its model is the old one.
            before = bundle.calibration_client == client
            scores.append(bundle.calibration_scores[before])
            times.append(bundle.calibration_time[before])
        else:
            continue
        clients.append(np.full(len(scores[-1]), client))
    calibration = np.concatenate(scores).astype(np.float32)
    of_client = np.concatenate(clients).astype(bundle.calibration_client.dtype)
    return dataclasses.replace(
        bundle,
        params=params,
        thresholds=client_thresholds(
            bundle.threshold, bundle.threshold_level, bundle.threshold_scope, calibration, of_client, bundle.cluster
        ),
        calibration_scores=calibration,
        calibration_client=of_client,
        calibration_time=np.concatenate(times),
        trained_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _normal_scores(scores: np.ndarray, alarm: np.ndarray) -> np.ndarray:
    """A client's scores; of those of faults only is used that they are the greatest."""
    if not alarm.any():
        return scores
    likely = without_outliers(scores, alarm, float(np.quantile(scores[~alarm], 1.0 - alarm.mean())))
    replaced = scores.copy()
    replaced[alarm] = likely[len(scores) - np.count_nonzero(alarm) :]
    return replaced


def _joined(runs: list[np.ndarray]) -> np.ndarray:
    """Run numbers of several clients as those of one sequence."""
    firsts = np.cumsum([0, *(own[-1] + 1 if len(own) else 0 for own in runs[:-1])])
    return np.concatenate([own + first for own, first in zip(runs, firsts, strict=True)])


def _rounded(number: int, step: int) -> int:
    return max(1, math.ceil(number / step)) * step
