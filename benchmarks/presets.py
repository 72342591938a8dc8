"""What one run of each preset reaches on its official test rows, as a user would start it: one process a preset.

Give --data_dir for the data sets whose raw files must be at hand; without it only the embedded one is run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import add_arguments, markdown_table, write_results

import fedjax_anomaly

PRESETS = Path(fedjax_anomaly.__file__).parent / "presets"


def run_preset(name: str, data_dir: Path | None, quick: bool) -> dict[str, Any]:
    """One row of the table, from the run's own `result.json`."""
    with tempfile.TemporaryDirectory() as folder:
        output_dir = Path(folder) / "run"
        command = [sys.executable, "-m", "fedjax_anomaly.train", f"--flagfile={PRESETS / name}.flags"]
        command += [f"--output_dir={output_dir}"]
        command += [f"--data_dir={data_dir}"] if data_dir else []
        command += ["--num_rounds=2"] if quick else []
        subprocess.run(command, check=True)
        result = json.loads((output_dir / "result.json").read_text())
    metrics = {key: result["test"][key] for key in ("auroc", "auprc", "accuracy", "precision", "recall", "f1", "fpr")}
    return {
        "preset": name,
        **metrics,
        "oracle f1": result["oracle"]["f1"],
        "event p50 ms": result["latency_ms"]["p50"],
        "MB sent": result["communication"]["total_bytes"] / 1e6,
        "compile seconds": result["timing"]["compile_seconds"],
        "rounds per second": result["timing"]["rounds_per_second"],
        "total seconds": result["timing"]["total_seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--data_dir", type=Path, help="folder with the raw files of all presets but telemetry")
    arguments = parser.parse_args()
    names = ["telemetry", "nsl_kdd", "kddcup99", "unsw_nb15", "smd", "nezha"] if arguments.data_dir else ["telemetry"]
    rows = [run_preset(name, arguments.data_dir, arguments.quick) for name in names]
    print(markdown_table(rows))
    print(write_results(arguments.output_dir, "presets", rows, {}))


if __name__ == "__main__":
    main()
