"""What attacks get out of the federated detector without privacy and with it, beside the epsilon that it claims.

One seed of each data set's clustered federated run, and of its private run where there is a preset DATASET_dp.flags,
both as in table1.py, audited by canaries, membership inference and gradient leakage. Writes privacy_audits.md and .json
into --output_dir, anew after every audit; table1.py with the same --output_dir shows them in its privacy column. A run
has a folder OUTPUT/audited/runs/DATASET/METHOD of its own, with its audit in words and as a picture: what is finished
there is read and not done again, and stopped with Ctrl-C the same command goes on. --quick is a smoke test.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import carry_out
import comparison
import harness
from comparison import METHODS, OURS, PRIVATE, SMOKE_TEST, Run

from fedjax_anomaly.auditing import AuditSettings, audit_run
from fedjax_anomaly.command import stop_on_signals
from fedjax_anomaly.experiment import run_experiment
from fedjax_anomaly.experiment.build import load_dataset
from fedjax_anomaly.reporting.atomic import write_atomically

DATASETS = ("nsl_kdd", "kddcup99", "unsw_nb15", "telemetry")
AUDITED = (OURS, PRIVATE)
_QUICK = AuditSettings(num_canaries=16, canary_rounds=2, leakage_targets=1, leakage_clients=2)

Row = dict[str, Any]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    harness.add_arguments(parser)
    parser.add_argument("--datasets", default="", help=f"left out, those that can be had of {','.join(DATASETS)}")
    parser.add_argument("--data_dir", type=Path, help="folder with the raw files; without it only telemetry is run")
    parser.add_argument("--canary_rounds", type=int, default=0, help="of each training with canaries; 0: the run's")
    parser.add_argument("--leakage_clients", type=int, default=0, help="of the attacked secure sum; 0: 4")
    return parser.parse_args()


def plan(arguments: argparse.Namespace) -> list[Run]:
    """One seed of the comparison's federated runs, data set by data set.

    Raises:
      ValueError: see `comparison.plan`.
    """
    names = arguments.datasets or ",".join(DATASETS if arguments.data_dir else ("telemetry",))
    given = vars(arguments) | {"datasets": names, "num_seeds": 1, "output_dir": arguments.output_dir / "audited"}
    return comparison.plan(argparse.Namespace(**given), [method for method in METHODS if method.key in AUDITED])


def audited(run: Run, settings: AuditSettings, say: Callable[[str], None] = print) -> dict[str, Any] | None:
    """The content of the run's `audit.json`; None when its training was interrupted. What was done before is read."""
    stored = run.folder / "audit" / "audit.json"
    name = f"{run.config.dataset}, {run.method.label}"
    if stored.exists():
        audit: dict[str, Any] = json.loads(stored.read_text())
        if audit["settings"] == json.loads(json.dumps(dataclasses.asdict(settings))):
            say(f"{name}: was audited before")
            return audit
    dataset = load_dataset(run.config)
    dataset = carry_out.thinned(dataset) if run.quick else dataset
    if not (run.folder / "result.json").exists():
        say(f"{name}: training")
        with stop_on_signals() as stop_requested:
            outcome = run_experiment(carry_out.continued(run), dataset, stop_requested=stop_requested)
        if outcome.result is None:
            return None
    return audit_run(run.folder, settings, dataset, announce=lambda line: say(f"{name}: {line}"))


def row_of(run: Run, audit: dict[str, Any]) -> Row:
    """What the tables and programs need of an audit."""
    formal, canaries, leaks = audit["formal"] or {}, audit["canaries"], audit["leakage"]
    sent = leaks["clipped and noised" if formal else "plain"]
    summed = None if formal else leaks["secure sum"]
    return {
        "dataset": run.config.dataset,
        "method": run.method.key,
        "label": run.method.label,
        "seed": run.config.seed,
        "smoke_test": run.quick,
        "num_rounds": run.config.num_rounds,
        "epsilon": formal.get("epsilon"),
        "delta": formal.get("delta"),
        "unit": formal.get("unit"),
        "empirical_epsilon": canaries["epsilon_lower_bound"],
        "empirical_ceiling": canaries["epsilon_ceiling"],
        "canary_rounds": canaries["num_rounds"],
        "contradicts_claim": canaries["contradicts_claim"],
        "membership_auc": {name: audit["membership"]["trained"][name] for name in ("auc", "auc_low", "auc_high")},
        "membership_auc_untrained": audit["membership"]["untrained"]["auc"],
        "leak_update": _error(sent),
        "leak_sum": summed and _error(summed),
        "leak_sum_clients": summed and len(summed["relative_errors"]),
        "seconds": audit["seconds"],
    }


def _error(leak: dict[str, Any]) -> dict[str, Any]:
    """What is left unknown of a window; the search failed where even the update was not explained."""
    return {"median": leak["median_relative_error"], "least": leak["least_relative_error"], "misfit": leak["misfit"]}


def markdown(rows: Sequence[Row], quick: bool) -> str:
    """The page: a table, and how to read it."""
    shown = [
        {
            "data set": row["dataset"],
            "run": row["label"],
            "formal epsilon": _formal(row),
            "epsilon by canaries": f"at least {row['empirical_epsilon']:.2f} of {row['empirical_ceiling']:.2f}",
            "membership AUC": "{auc:.3f} [{auc_low:.3f}, {auc_high:.3f}]".format(**row["membership_auc"]),
            "untrained": f"{row['membership_auc_untrained']:.3f}",
            "error from an update": _rebuilt(row["leak_update"]),
            "from a secure sum": "–"
            if row["leak_sum"] is None
            else f"{_rebuilt(row['leak_sum'])} of {row['leak_sum_clients']} clients",
        }
        for row in rows
    ]
    title = f"# Privacy, claimed and attacked{f': {SMOKE_TEST}' if quick else ''}"
    return "\n".join([title, "", CAPTION, "", harness.markdown_table(shown)]) + "\n"


def _formal(row: Row) -> str:
    if row["unit"] is None:
        return "none"
    return f"{'infinite' if row['epsilon'] is None else format(row['epsilon'], '.2f')} at {row['delta']:g}"


def _rebuilt(error: dict[str, Any]) -> str:
    return f"{error['median']:.3f}" + ("" if error["misfit"] < 2.0 else " (search failed)")


CAPTION = (
    "One seed of each run. Epsilon by canaries: what is disproved at 95 % confidence, of the most that so many "
    "canaries could disprove. Membership: 0.5 is guessing, and what is found on the untrained model is not membership. "
    "Error: distance of a rebuilt training window from the true one over that of the mean of normal windows, median; 0 "
    "is exact, 1 no better than the mean. It is of the update of one window in one step from the initial model, "
    "clipped and noised where the run is private. An attack that fails proves nothing; the formal epsilon bounds all "
    "attacks."
)


def write(arguments: argparse.Namespace, rows: list[Row]) -> None:
    """Writes what is known so far."""
    text = markdown(rows, arguments.quick)
    write_atomically(arguments.output_dir / "privacy_audits.md", text.encode())
    harness.write_results(arguments.output_dir, "privacy_audits", rows, {})


def main() -> int:
    arguments = parse()
    carry_out.configure_jax(arguments)
    runs = carry_out.planned(lambda: plan(arguments))
    chosen = AuditSettings(canary_rounds=arguments.canary_rounds, leakage_clients=arguments.leakage_clients)
    settings = _QUICK if arguments.quick else chosen
    rows: list[Row] = []
    for run in runs:
        try:
            audit = audited(run, settings)
        except KeyboardInterrupt:  # An audit is not divided; a training goes on from its last checkpoint.
            audit = None
        if audit is None:
            print("stopped; the same command goes on from here")
            return 130
        rows.append(row_of(run, audit))
        write(arguments, rows)
    print(f"the table: {arguments.output_dir / 'privacy_audits.md'}")
    return 2 if any(row["contradicts_claim"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
