"""What example-level differential privacy costs: AUROC and F1 of the federated detector against epsilon.

Each data set is run by its preset without privacy and by its preset with privacy (`DATASET_dp.flags`) at each epsilon,
over 20 clients and all seeds side by side. Writes privacy_utility.md, .json and .png into --output_dir, anew after
every run. A run has a folder OUTPUT/runs/DATASET/EPSILON of its own: what is finished there is read and not run again,
and stopped with Ctrl-C the same command goes on where it stopped. --quick is a smoke test.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import carry_out
import comparison
import harness
from carry_out import Finished
from comparison import SMOKE_TEST, Method, Run
from matplotlib.figure import Figure

from fedjax_anomaly.detection import paired_test
from fedjax_anomaly.reporting.atomic import write_atomically
from fedjax_anomaly.reporting.figures import style

DATASETS = ("unsw_nb15", "nsl_kdd", "kddcup99")
NO_PRIVACY = "inf"
METRICS = ("auroc", "f1")
_COLOURS = {"auroc": style.AUROC, "f1": style.NORMAL}

Row = dict[str, Any]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    harness.add_arguments(parser)
    parser.add_argument("--datasets", default=",".join(DATASETS), help=f"some of {','.join(DATASETS)}")
    parser.add_argument("--data_dir", type=Path, required=True, help="folder with the raw files")
    parser.add_argument("--num_seeds", type=int, help="seeds side by side; 5, or 2 with --quick")
    parser.add_argument("--epsilons", default="inf,8,2,1", help="inf is the preset without privacy")
    return parser.parse_args()


def plan(arguments: argparse.Namespace) -> list[Run]:
    """The runs, data set by data set.

    Raises:
      ValueError: for a name or an epsilon that is none, and where a run's folder holds a run of other settings.
    """
    runs = []
    for name in arguments.datasets.split(","):
        if name not in DATASETS:
            raise ValueError(f"datasets={arguments.datasets!r}: {name!r} is not one of {', '.join(DATASETS)}.")
        for epsilon in arguments.epsilons.split(","):
            runs.append(_run(arguments, name, epsilon))
            comparison.check_folder(runs[-1])
    return runs


def _run(arguments: argparse.Namespace, name: str, epsilon: str) -> Run:
    private = epsilon != NO_PRIVACY
    config = comparison.preset(f"{name}_dp" if private else name)
    if arguments.quick:
        config = comparison.quickened(config)
    by_default = 2 if arguments.quick else 5
    config = dataclasses.replace(
        config,
        num_clients=config.num_clients or 20,
        num_seeds=by_default if arguments.num_seeds is None else arguments.num_seeds,
        data_dir=str(arguments.data_dir.resolve()),
        dp_epsilon=float(epsilon) if private else 0.0,
        output_dir=str(arguments.output_dir / "runs" / name / f"epsilon-{epsilon}"),
    )
    label = f"epsilon {epsilon}" if private else "no privacy"
    return Run(Method(epsilon, label, {"method": config.method}), config, arguments.quick)


def rows_of(finished: Sequence[Finished]) -> list[Row]:
    """One row for each run with a result; differences are from the run without privacy, seed by seed."""
    done = [one for one in finished if one.result is not None]
    rows = [_row(one) for one in done]
    without = {row["dataset"]: row for row in rows if row["epsilon"] is None}
    for row in rows:
        baseline = without.get(row["dataset"])
        row["cost"] = {
            metric: paired_test(baseline[metric]["values"], row[metric]["values"])
            for metric in METRICS
            if baseline is not None and baseline is not row
        }
    return rows


def _row(finished: Finished) -> Row:
    assert finished.result is not None
    config, ledgers = finished.run.config, [member["privacy"] for member in finished.members]
    spent = ledgers if ledgers[0] else []
    return {
        "dataset": config.dataset,
        "epsilon": config.dp_epsilon or None,
        "delta": config.dp_delta or None,
        "epsilon_spent": max((ledger["epsilon"] for ledger in spent), default=None),
        "epsilon_rdp": max((ledger["epsilon_rdp"] for ledger in spent), default=None),
        "noise_multipliers": [ledger["noise_multiplier"] for ledger in spent],
        "num_seeds": config.num_seeds,
        "num_rounds": config.num_rounds,
        "smoke_test": finished.run.quick,
        **{metric: finished.result["settings"][0]["test"][metric] for metric in METRICS},
    }


def markdown(rows: Sequence[Row], problems: Sequence[str], quick: bool) -> str:
    """The page: a table, and how to read it."""
    lines = [f"# Utility against epsilon{f': {SMOKE_TEST}' if quick else ''}", ""]
    lines += [line for problem in problems for line in (problem, "")]
    shown = [
        {
            "data set": row["dataset"],
            "epsilon": "none" if row["epsilon"] is None else f"{row['epsilon']:g}",
            "by RDP": "–" if row["epsilon_rdp"] is None else f"{row['epsilon_rdp']:.2f}",
            **{metric: _mean(row[metric]) for metric in METRICS},
            **{f"{metric} lost": _lost(row["cost"].get(metric)) for metric in METRICS},
        }
        for row in rows
    ]
    return "\n".join([*lines, CAPTION, "", harness.markdown_table(shown), "", "![curve](privacy_utility.png)"]) + "\n"


CAPTION = (
    "Mean and standard deviation over seeds. The unit of privacy is one training window, each client adds its share of "
    "the noise before a secure sum, delta is 1e-5, epsilon is by PLD and the largest of all clients and seeds. Lost: "
    "without privacy less with it, seed by seed, with a bootstrap interval. The encoding, the clustering and the "
    "thresholds are outside of the guarantee."
)


def _mean(summary: dict[str, Any] | None) -> str:
    if summary is None:
        return "–"
    return f"{summary['mean']:.4f}" + ("" if summary["std"] is None else f" ± {summary['std']:.4f}")


def _lost(test: dict[str, Any] | None) -> str:
    if not test:
        return "–"
    interval = "" if test["low"] is None else f" [{test['low']:.4f}, {test['high']:.4f}]"
    return f"{test['mean_difference']:.4f}{interval}"


def curve(rows: Sequence[Row], warning: str = "") -> Figure:
    """A panel for each data set with private runs: the metrics against epsilon, and as dashed lines without privacy."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows if row["epsilon"]))
    figure = style.new_figure(0.8 + 3.4 * len(datasets), 3.6)
    for axes, name in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True):
        own = sorted((r for r in rows if r["dataset"] == name and r["epsilon"]), key=lambda row: row["epsilon"])
        for metric in METRICS:
            colour = _COLOURS[metric]
            x, y = [row["epsilon"] for row in own], [row[metric]["mean"] for row in own]
            error = [row[metric]["std"] or 0.0 for row in own]
            axes.errorbar(x, y, error, color=colour, marker="o", capsize=3, label=metric.upper())
            for row in rows:
                if row["dataset"] == name and row["epsilon"] is None:
                    axes.axhline(
                        row[metric]["mean"], color=colour, linestyle="--", label=f"{metric.upper()}, no privacy"
                    )
        axes.set_xscale("log", base=2)
        axes.set_xticks([row["epsilon"] for row in own], [f"{row['epsilon']:g}" for row in own])
        axes.set_xlabel("epsilon at delta 1e-5")
        style.panel_title(axes, name)
    style.legend_outside(figure, figure.axes[0], "outside lower center", columns=2)
    if warning:
        figure.suptitle(warning)
    return figure


def write(arguments: argparse.Namespace, finished: Sequence[Finished]) -> None:
    """Writes what is known so far."""
    rows = rows_of(finished)
    if not rows:
        return
    problems = [f"{one.run.config.dataset}, {one.run.method.label}: {one.problem}." for one in finished if one.problem]
    path = arguments.output_dir / "privacy_utility"
    write_atomically(path.with_suffix(".md"), markdown(rows, problems, arguments.quick).encode())
    if any(row["epsilon"] for row in rows):
        style.save(curve(rows, SMOKE_TEST if arguments.quick else ""), path.with_suffix(".png"))
    ratios = {
        f"{metric}_lost_{row['dataset']}_epsilon_{row['epsilon']:g}": row["cost"][metric]["mean_difference"]
        for row in rows
        for metric in METRICS
        if row["cost"].get(metric)
    }
    harness.write_results(arguments.output_dir, "privacy_utility", rows, ratios)


def main() -> int:
    arguments = parse()
    carry_out.configure_jax(arguments)
    runs = carry_out.planned(lambda: plan(arguments))
    return carry_out.follow(runs, lambda finished, wanted: write(arguments, finished))


if __name__ == "__main__":
    sys.exit(main())
