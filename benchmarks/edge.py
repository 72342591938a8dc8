"""What a node needs that runs an exported scorer: installed size, file size, memory and latency, measured.

The node's program is the one in docs/edge.md; beside it, the same with JAX and the StableHLO artifact. Each has an
environment of its own. Events are those of the telemetry simulator, one at a time over a pipe.
"""

import argparse
import importlib.metadata
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from contest.environments import Environment, install
from harness import add_arguments, markdown_table, write_results
from latency import NUM_SERVICES, write_models

from fedjax_anomaly.data import telemetry
from fedjax_anomaly.live.export import export_scorer

DOCUMENT = Path(__file__).parents[1] / "docs" / "edge.md"

STABLEHLO_NODE = """
import json, sys
from collections import deque
import jax.export, numpy as np
scorer = jax.jit(jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call)
about = json.load(open(sys.argv[1] + ".json"))
rows = deque(maxlen=about["num_rows"])
for line in sys.stdin:
    event = json.loads(line)
    row = np.array([event[name] for name in about["numeric_columns"]], np.float32)
    rows.extend([row] if rows else [row] * about["num_rows"])
    score, _ = scorer(np.stack(rows)[None])
    print(json.dumps({"score": float(score[0])}), flush=True)
"""


def documented_node() -> str:
    """The node's program as docs/edge.md shows it."""
    program = re.search(r"```python\n(import json.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert program is not None
    return program.group(1)


def requirement(package: str) -> str:
    """The version that is installed here."""
    return f"{package}=={importlib.metadata.version(package)}"


def installed_mib(python: Path) -> float:
    """Of all packages of an environment apart from pip and setuptools."""
    (packages,) = (python.parents[1] / "lib").glob("python*/site-packages")
    total = 0
    for path in packages.rglob("*"):
        tool = path.relative_to(packages).parts[0].startswith(("pip", "setuptools", "pkg_resources", "_distutils"))
        if path.is_file() and not tool and "__pycache__" not in path.parts:
            total += path.stat().st_size
    return total / 2**20


def run_node(command: list[str | Path], events: list[bytes]) -> dict[str, Any]:
    """Sends events one at a time; the first decision is the end of the start. Memory is the largest resident set."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None and process.stdout is not None
        decided, scores = [begin], []
        for event in events:
            process.stdin.write(event)
            scores.append(json.loads(process.stdout.readline())["score"])
            decided.append(time.perf_counter())
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        process.stdin.close()
    assert peak is not None
    first, *latency = np.diff(decided)
    p50, p99 = 1e3 * np.percentile(latency, [50, 99])
    return {
        "start_seconds": first,
        "p50_ms": p50,
        "p99_ms": p99,
        "memory_mib": int(peak.group(1)) / 1024,
        "scores": scores,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument(
        "--environments", type=Path, default=Path("environments"), help="folder for the nodes' packages"
    )
    arguments = parser.parse_args()
    folder = (arguments.output_dir / "edge").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    write_models(folder)
    test = telemetry.load(seed=0, num_services=NUM_SERVICES, train_days=0.05, test_days=1.0).test
    lines = [
        json.dumps(dict(zip(test.numeric_names, row, strict=True))).encode() + b"\n"
        for row in test.numeric[: 200 if arguments.quick else 1440].tolist()
    ]
    nodes = {
        "onnx": (("onnxruntime", "numpy"), documented_node()),
        "stablehlo": (("jax", "jaxlib", "flatbuffers", "numpy"), STABLEHLO_NODE),
    }
    rows, scores = [], {}
    for form, (packages, program) in nodes.items():
        requirements = tuple(requirement(package) for package in packages)
        python = install(Environment(f"edge_{form}", requirements), arguments.environments)
        scorer, script = folder / f"scorer.{form}", folder / f"node_{form}.py"
        export_scorer(folder, scorer, form, client="0")  # type: ignore[arg-type]
        script.write_text(program)
        measured = run_node([python, script, scorer], lines)
        scores[form] = measured.pop("scores")
        sizes = {"packages": " ".join(requirements), "installed_mib": installed_mib(python)}
        rows.append({"node": form, **sizes, "file_kib": scorer.stat().st_size / 1024, **measured})
    np.testing.assert_allclose(scores["onnx"], scores["stablehlo"], rtol=1e-4, atol=1e-4)
    print(markdown_table(rows))
    ratios = {
        f"stablehlo_vs_onnx_{name}": rows[1][name] / rows[0][name] for name in ("installed_mib", "memory_mib", "p50_ms")
    }
    write_results(arguments.output_dir, "edge", rows, ratios)


if __name__ == "__main__":
    main()
