"""python -m fedjax_anomaly.retrain: further federated rounds on rows that a live detector has kept, beside it."""

import json
import os
from pathlib import Path

import jax
import numpy as np
from absl import app, flags

from fedjax_anomaly.command import carry_out
from fedjax_anomaly.compilation_cache import keep_programs
from fedjax_anomaly.experiment.retraining import retrainer
from fedjax_anomaly.live.recent import Recent
from fedjax_anomaly.live.retraining import EXCHANGE, RECENT, REPORT
from fedjax_anomaly.live.versions import Versions
from fedjax_anomaly.reporting.atomic import write_atomically

_RUN = flags.DEFINE_string("run", "", "Folder of the finished run.")
_MODELS = flags.DEFINE_string("models", "", "Folder models in the output folder of the detector.")
_START = flags.DEFINE_string("start", "", "Name of the model to begin with; empty is the run's own.")
_NAME = flags.DEFINE_string("name", "", "Of the new model.")
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Further federated rounds.", lower_bound=1)

_NICENESS = 10


def main(arguments: list[str]) -> int:
    """Trains, as `detect --on_drift=retrain` asks for; returns the exit status."""
    return carry_out(arguments, _retrain)


def _retrain() -> int:
    os.nice(_NICENESS)
    jax.config.update("jax_num_cpu_devices", 1)
    keep_programs()
    exchange = Path(_MODELS.value) / EXCHANGE
    versions = Versions(_RUN.value, _MODELS.value)
    with np.load(exchange / RECENT, allow_pickle=False) as stored:
        recent = Recent(**stored)
    try:
        bundle, details = retrainer(_RUN.value, _ROUNDS.value)(versions.read(_START.value), recent)
        versions.add(bundle, _NAME.value)
    except (ValueError, ArithmeticError, OSError) as error:
        write_atomically(exchange / REPORT, json.dumps({"reason": str(error)}).encode())
        raise
    write_atomically(exchange / REPORT, json.dumps(details).encode())
    return 0


if __name__ == "__main__":
    app.run(main)
