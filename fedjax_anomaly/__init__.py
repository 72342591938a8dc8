"""Federated sequential anomaly detection in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedjax_anomaly import data, detection, distributed, federated, models, privacy
    from fedjax_anomaly.config import Config
    from fedjax_anomaly.experiment import run_experiment

__all__ = ["Config", "data", "detection", "distributed", "federated", "models", "privacy", "run_experiment"]

_INSIDE = {"Config": "config", "run_experiment": "experiment"}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: a program that only trains need not wait for the rest."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _INSIDE:
        return getattr(importlib.import_module(f"{__name__}.{_INSIDE[name]}"), name)
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return __all__
