"""An audit of a finished run: loads it, attacks it, and writes what came of it."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jax

from fedjax_anomaly.auditing import report
from fedjax_anomaly.auditing.canary_audit import CanaryAudit, as_json, canary_audit
from fedjax_anomaly.auditing.leakage_audit import Leak, leakage_audit
from fedjax_anomaly.auditing.membership_audit import MembershipAudit, membership_audit
from fedjax_anomaly.config import TRAINED_IN_ROUNDS, load_config
from fedjax_anomaly.data.table import Dataset
from fedjax_anomaly.experiment.build import Experiment, build
from fedjax_anomaly.experiment.checkpoints import Checkpoints
from fedjax_anomaly.experiment.outputs import environment
from fedjax_anomaly.federated.algorithm import FederatedState
from fedjax_anomaly.reporting.atomic import write_atomically

Attack = Literal["membership", "canaries", "leakage"]
ATTACKS: tuple[Attack, ...] = get_args(Attack)


@dataclasses.dataclass(frozen=True)
class AuditSettings:
    """What an audit tries, and how hard.

    Attributes:
      attacks: which of the three.
      confidence: of bounds and intervals.
      seed: of everything that is random in the audit.
      num_canaries: see `canary_audit`.
      canary_rounds: see `canary_audit`; 0 takes the run's.
      leakage_targets: windows that are attacked one by one.
      leakage_clients: clients of the secure sum that is attacked; 0 takes 4, or all where there are fewer.
    """

    attacks: tuple[Attack, ...] = ATTACKS
    confidence: float = 0.95
    seed: int = 0
    num_canaries: int = 200
    canary_rounds: int = 0
    leakage_targets: int = 3
    leakage_clients: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.attacks if name not in ATTACKS]
        if unknown or not self.attacks:
            raise ValueError(f"attacks={','.join(unknown)!r} is unknown; the choices are {', '.join(ATTACKS)}.")
        if not 0.5 < self.confidence < 1.0:
            raise ValueError(f"confidence={self.confidence} must lie in (0.5, 1).")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must be at least 0.")


def load_run(directory: str | Path, dataset: Dataset | None = None) -> tuple[Experiment, FederatedState]:
    """Rebuilds a finished run from its folder: its parts, and the state after its last round.

    Args:
      directory: `output_dir` of the run.
      dataset: rows of the caller's own, where the run was given any.

    Raises:
      FileNotFoundError: when the folder holds no run, or its data is missing.
      ValueError: when the run has no model, is many runs in one, or is not finished.
    """
    directory = Path(directory)
    stored = directory / "config.json"
    if not stored.is_file():
        raise FileNotFoundError(f"run={directory} is not the folder of a run: it holds no config.json.")
    config = load_config(stored)
    if len(config.members()) > 1:
        raise ValueError(f"run={directory} is many runs in one; give the folder of a run of one seed.")
    if config.method not in TRAINED_IN_ROUNDS:
        raise ValueError(
            f"run={directory} is of method={config.method}, which has no model that is trained in rounds; audits are "
            f"for {', '.join(TRAINED_IN_ROUNDS)}."
        )
    if not (directory / "result.json").is_file():
        raise ValueError(
            f"run={directory} is not finished; continue it with fedjax_anomaly.train --resume --output_dir={directory}."
        )
    experiment = build(config, dataset)
    shapes = jax.eval_shape(experiment.algorithm.init, jax.random.key(0), experiment.train)
    with Checkpoints(directory / "checkpoints") as checkpoints:
        return experiment, checkpoints.restore(shapes)


def audit_run(
    directory: str | Path,
    settings: AuditSettings = AuditSettings(),
    dataset: Dataset | None = None,
    *,
    announce: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Audits a finished run and writes `audit.json`, `audit.md` and `audit.png` into its folder `audit`.

    Args:
      directory: `output_dir` of the run.
      settings: what to try.
      dataset: rows of the caller's own, where the run was given any.
      announce: called before each attack.

    Returns:
      The content of `audit.json`.

    Raises:
      FileNotFoundError, ValueError: see `load_run` and the attacks.
    """
    begin = time.perf_counter()
    experiment, state = load_run(directory, dataset)
    membership: MembershipAudit | None = None
    canaries: CanaryAudit | None = None
    leaks: Sequence[Leak] = ()
    if "membership" in settings.attacks:
        announce("membership inference: losses of training windows against held-out ones")
        membership = membership_audit(experiment, state, confidence=settings.confidence, seed=settings.seed)
    if "canaries" in settings.attacks:
        announce(f"canaries: training again with {settings.num_canaries} of them")
        canaries = canary_audit(
            experiment,
            num_canaries=settings.num_canaries,
            num_rounds=settings.canary_rounds,
            confidence=settings.confidence,
            seed=settings.seed,
        )
    if "leakage" in settings.attacks:
        announce("gradient leakage: inverting updates of one step")
        leaks = leakage_audit(
            experiment,
            num_targets=settings.leakage_targets,
            num_summed=settings.leakage_clients,
            seed=settings.seed,
        )
    audit: dict[str, Any] = {
        "attacked": {
            "run": str(directory),
            "dataset": experiment.config.dataset,
            "method": experiment.config.method,
            "dp_unit": experiment.config.dp_unit,
            "secure_aggregation": experiment.config.secure_aggregation,
            "num_rounds": int(state.round),
        },
        "formal": _formal(experiment, int(state.round)),
        "settings": dataclasses.asdict(settings),
        "membership": membership and membership.as_json(),
        "canaries": canaries and as_json(canaries, experiment),
        "leakage": {leak.name: leak.as_json() for leak in leaks} or None,
        "environment": environment(),
        "seconds": time.perf_counter() - begin,
    }
    audit["verdict"] = report.verdict(audit)
    folder = Path(directory) / "audit"
    write_atomically(folder / "audit.json", json.dumps(audit, indent=2, allow_nan=False).encode())
    write_atomically(folder / "audit.md", report.markdown(audit).encode())
    report.draw(canaries, leaks, folder / "audit.png")
    return audit


def _formal(experiment: Experiment, rounds_done: int) -> dict[str, Any] | None:
    """The claim of the run; None without differential privacy."""
    plan, config = experiment.privacy, experiment.config
    if plan is None:
        return None
    done = dataclasses.replace(plan, release=dataclasses.replace(plan.release, num_rounds=rounds_done))
    epsilon = done.epsilon(config.dp_delta)
    return {
        "unit": config.dp_unit,
        "epsilon": epsilon if math.isfinite(epsilon) else None,
        "delta": config.dp_delta,
        "noise_multiplier": plan.noise_multiplier,
    }
