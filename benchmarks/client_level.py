"""Client-level differential privacy with 2,000 simulated clients, some 200 of them in a round.

UNSW-NB15 dealt to 2,000 clients, by the preset `unsw_nb15_client_dp`: without privacy, at two epsilons, with a clip
norm that is fixed or follows the updates, and with clients that take turns instead of being drawn, whose noise is
independent or cancels over rounds. Writes client_level.md and .json into --output_dir, anew after every run. A run has
a folder OUTPUT/runs/KEY of its own; what is finished there is read and not run again. --quick is a smoke test.
"""

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import carry_out
import comparison
import harness
from comparison import Method, Run

from fedjax_anomaly.data.table import Dataset
from fedjax_anomaly.experiment import run_experiment
from fedjax_anomaly.experiment.build import load_dataset
from fedjax_anomaly.reporting.atomic import write_atomically

PRESET = "unsw_nb15_client_dp"
WRONG_BY = 10.0
"""How far from the preset's a clip norm is that was not tuned."""

NO_PRIVACY: dict[str, Any] = {"dp_unit": "none", "dp_epsilon": 0.0}
TURNS: dict[str, Any] = {"client_sampling": "cyclic"}
ADAPTIVE: dict[str, Any] = {"clip_quantile": 0.5}
_QUICK: dict[str, Any] = {"num_rounds": 4, "rounds_per_report": 2, "hidden_size": 4, "latent_size": 2}
_QUICK |= {"num_clients": 40, "clients_per_round": 8}

Row = dict[str, Any]


def methods(clip_norm: float) -> list[Method]:
    """The rows of the table, as what they change in a preset of this clip norm."""
    too_large = {"clip_norm": WRONG_BY * clip_norm}
    at_8 = {"dp_epsilon": 8.0}
    return [
        Method(
            "no_model", "no model: distance to the mean", NO_PRIVACY | {"method": "no_model", "clients_per_round": 0}
        ),
        Method("no_privacy", "no privacy", NO_PRIVACY),
        Method("epsilon_8", "epsilon 8", at_8),
        Method("epsilon_4", "epsilon 4", {"dp_epsilon": 4.0}),
        Method("adaptive", "clip norm follows the median", at_8 | ADAPTIVE),
        Method("turns", "clients take turns", at_8 | TURNS),
        Method("turns_correlated", "... with correlated noise", at_8 | TURNS | {"dp_mechanism": "correlated"}),
        Method("large", "clip norm 10 times as large", at_8 | too_large),
        Method("large_adaptive", "... and follows the median", at_8 | too_large | ADAPTIVE),
    ]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    harness.add_arguments(parser)
    parser.add_argument("--data_dir", type=Path, required=True, help="folder with the raw files")
    return parser.parse_args()


def plan(arguments: argparse.Namespace) -> list[Run]:
    """The runs in the order of the table.

    Raises:
      ValueError: where a run's folder holds a run of other settings.
    """
    preset = dataclasses.replace(comparison.preset(PRESET), data_dir=str(arguments.data_dir.resolve()))
    if arguments.quick:
        preset = dataclasses.replace(preset, **_QUICK)
    runs = []
    for method in methods(preset.clip_norm):
        folder = str(arguments.output_dir / "runs" / method.key)
        runs.append(Run(method, dataclasses.replace(preset, **method.settings, output_dir=folder), arguments.quick))
        comparison.check_folder(runs[-1])
    return runs


def carry_out_run(run: Run, dataset: Dataset) -> dict[str, Any]:
    """Its `result.json`, read where it was finished before."""
    finished = run.folder / "result.json"
    if not finished.exists():
        shutil.rmtree(run.folder, ignore_errors=True)  # It was stopped.
        print(run.method.label, flush=True)
        run_experiment(run.config, dataset)
    return json.loads(finished.read_text())


def row_of(run: Run, result: dict[str, Any]) -> Row:
    """What the table and programs need of a run."""
    config, privacy = run.config, result["privacy"] or {}
    return {
        "key": run.method.key,
        "label": run.method.label,
        "epsilon": privacy.get("epsilon"),
        "delta": privacy.get("delta"),
        "sampling": privacy.get("sampling"),
        "mechanism": config.dp_mechanism if privacy else None,
        "clip_norm": config.clip_norm if privacy else None,
        "clip_quantile": config.clip_quantile or None,
        "noise_multiplier": privacy.get("noise_multiplier"),
        "noise_to_clip_ratio": privacy.get("noise_to_clip_ratio"),
        "num_clients": result["dataset"]["num_clients"],
        "clients_per_round": config.clients_per_round,
        "num_rounds": config.num_rounds,
        **{metric: result["test"][metric] for metric in ("auroc", "auprc", "f1")},
        "total_seconds": result["timing"]["total_seconds"],
    }


def markdown(rows: list[Row], quick: bool) -> str:
    """The page: a table, and how to read it."""
    shown = [
        {
            "run": row["label"],
            "epsilon": "–" if row["epsilon"] is None else f"{row['epsilon']:.2f}",
            "noise multiplier": "–" if row["noise_multiplier"] is None else f"{row['noise_multiplier']:.2f}",
            "noise / clip norm": "–" if row["noise_to_clip_ratio"] is None else f"{row['noise_to_clip_ratio']:.2f}",
            "AUROC": f"{row['auroc']:.3f}",
            "F1": f"{row['f1']:.3f}",
            "seconds": f"{row['total_seconds']:.0f}",
        }
        for row in rows
    ]
    title = f"# Client-level privacy{f': {comparison.SMOKE_TEST}' if quick else ''}"
    return "\n".join([title, "", harness.markdown_table(shown), "", CAPTION]) + "\n"


CAPTION = (
    "One seed. The unit is one client with all that it holds; epsilon is by PLD, for the sampling that was run. Noise "
    "/ clip norm: expected norm of the noise on a round's mean update, in clip norms."
)


def ratios_of(rows: list[Row]) -> dict[str, float]:
    """AUROC against that of the run without privacy, where both are there."""
    auroc = {row["key"]: row["auroc"] for row in rows}
    if "no_privacy" not in auroc:
        return {}
    return {f"auroc_{key}_vs_no_privacy": value / auroc["no_privacy"] for key, value in auroc.items()}


def main() -> None:
    arguments = parse()
    carry_out.configure_jax(arguments)
    try:
        runs = plan(arguments)
        dataset = load_dataset(runs[0].config)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    dataset = carry_out.thinned(dataset) if arguments.quick else dataset
    rows: list[Row] = []
    for run in runs:
        rows.append(row_of(run, carry_out_run(run, dataset)))
        text = markdown(rows, arguments.quick)
        write_atomically(arguments.output_dir / "client_level.md", text.encode())
        harness.write_results(arguments.output_dir, "client_level", rows, ratios_of(rows))
    print(text)


if __name__ == "__main__":
    main()
