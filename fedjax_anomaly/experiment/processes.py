"""What many processes of one run must have in common, looked at before the first round."""

import dataclasses
import hashlib
import json
import math

import jax
import numpy as np

from fedjax_anomaly import distributed
from fedjax_anomaly.config import RUN_PLACES
from fedjax_anomaly.config_machines import check_divisible
from fedjax_anomaly.experiment.build import Experiment


def check_shared(experiment: Experiment) -> None:
    """Makes sure that all processes are about to do the same; does nothing for one.

    Raises:
      ValueError: at a process whose settings or data are not those of process 0, and for a run that cannot be divided.
    """
    if jax.process_count() == 1:
        return
    check_divisible(experiment.config)
    own = _summary(experiment)
    first = json.loads(distributed.text_from_first(json.dumps(own)))
    for name, value in own.items():
        if value != first[name] and not _nearly(value, first[name]):
            raise ValueError(f"{name}={value} differs from process 0, which has {first[name]}; all must have the same.")
    distributed.meet()  # So that nothing is written before.


def _summary(experiment: Experiment) -> dict[str, str | float]:
    """What must be equal: every setting that is not of a place, which windows there are, and what is in their rows."""
    settings = dataclasses.asdict(experiment.config)
    shared: dict[str, str | float] = {
        name: str(settings[name]) for name in settings if name not in {*RUN_PLACES, "resume"}
    }
    series, starts, mask = (np.asarray(leaf) for leaf in experiment.train)
    windows = hashlib.sha256(np.ascontiguousarray(starts).tobytes() + np.ascontiguousarray(mask).tobytes())
    return shared | {
        "number of clients, rows and features": str(series.shape),
        "digest of the training windows": windows.hexdigest()[:12],
        "sum of squares of the training rows": float(np.einsum("clf,clf->", series, series, dtype=np.float64)),
    }


def _nearly(left: str | float, right: str | float) -> bool:
    """Machines of different kinds encode rows differently in the last bits."""
    return isinstance(left, float) and isinstance(right, float) and math.isclose(left, right, rel_tol=1e-5)
