"""python -m fedjax_anomaly.audit: attacks a finished run and says what it gives away."""

import os
from typing import Any, cast

from absl import app, flags
from rich.console import Console

from fedjax_anomaly.auditing import ATTACKS, AuditSettings, audit_run
from fedjax_anomaly.auditing.report import table
from fedjax_anomaly.command import carry_out, divide_cpu
from fedjax_anomaly.compilation_cache import keep_programs

_DEFAULT = AuditSettings()
_RUN = flags.DEFINE_string("run", "", "Folder of the finished run to audit; results go to its folder audit.")
_HOST_DEVICES = flags.DEFINE_integer("host_devices", 0, "CPU devices; 0 takes one per core.", 0)
_COMPILATION_CACHE = flags.DEFINE_string(
    "compilation_cache", "", "Folder for compiled programs; empty takes the user's cache folder, none keeps nothing."
)
flags.DEFINE_list("attacks", list(ATTACKS), f"Attacks to carry out, of {', '.join(ATTACKS)}.")
flags.DEFINE_float("confidence", _DEFAULT.confidence, "Confidence of bounds and intervals.")
flags.DEFINE_integer("seed", _DEFAULT.seed, "Seed of everything that is random in the audit.")
flags.DEFINE_integer("num_canaries", _DEFAULT.num_canaries, "Canaries, in all trainings together.")
flags.DEFINE_integer("canary_rounds", _DEFAULT.canary_rounds, "Rounds of each training with canaries; 0: the run's.")
flags.DEFINE_integer("leakage_targets", _DEFAULT.leakage_targets, "Windows that are attacked one by one.")
flags.DEFINE_integer(
    "leakage_clients",
    _DEFAULT.leakage_clients,
    "Clients of the secure sum that is attacked; the time grows as its cube.",
)


def main(arguments: list[str]) -> int:
    """Audits the run that the flags name; returns the exit status, 2 where the audit contradicts the claim."""
    return carry_out(arguments, _audit)


def _audit() -> int:
    if not _RUN.value:
        raise ValueError("run is missing: give the folder of a finished run as --run.")
    divide_cpu(_HOST_DEVICES.value)
    keep_programs(_COMPILATION_CACHE.value)
    console = Console(highlight=False, soft_wrap=True)
    audit = audit_run(_RUN.value, _settings(), announce=lambda line: console.print(line, markup=False))
    console.print(table(audit))
    console.print(f"verdict: {audit['verdict']}", markup=False)
    console.print(f"numbers, words and picture: {os.path.join(_RUN.value, 'audit')}", markup=False)
    return 2 if audit["canaries"] and audit["canaries"]["contradicts_claim"] else 0


def _settings() -> AuditSettings:
    given: dict[str, Any] = {name: flags.FLAGS[name].value for name in AuditSettings.__dataclass_fields__}
    return AuditSettings(**given | {"attacks": cast(Any, tuple(given["attacks"]))})


def run() -> None:
    """Entry point of the `fedjax-anomaly-audit` command."""
    app.run(main)


if __name__ == "__main__":
    run()
