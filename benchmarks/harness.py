"""What a benchmark writes beside its figures: the machine, the date, the command, the versions."""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import socket
import sys
from pathlib import Path
from typing import Any

import jax

from fedjax_anomaly.reporting.atomic import write_atomically


def machine() -> dict[str, Any]:
    """The hardware as far as the platform tells it."""
    device = jax.devices()[0]
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": f"{device.platform}: {device.device_kind}",
        "num_devices": jax.device_count(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def free_port() -> int:
    """One that nobody listens on; nothing keeps it free."""
    with socket.create_server(("", 0)) as probe:
        return probe.getsockname()[1]


def parse_arguments(description: str) -> argparse.Namespace:
    """Parses the arguments of a benchmark that takes no others."""
    parser = argparse.ArgumentParser(description=description)
    add_arguments(parser)
    return parser.parse_args()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the two arguments that every benchmark takes."""
    parser.add_argument("--output_dir", type=Path, default=Path("benchmark_results"), help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="less work, for a check that it runs")


def write_results(output_dir: Path, name: str, rows: list[dict[str, Any]], ratios: dict[str, float]) -> Path:
    """Writes NAME.json in the format that programs check claims by."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    content = {
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "rows": rows,
        "ratios": ratios,
    }
    path = output_dir / f"{name}.json"
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
    return path


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    for row in rows:
        cells = [f"{row[c]:.3g}" if isinstance(row[c], float) else str(row[c]) for c in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
