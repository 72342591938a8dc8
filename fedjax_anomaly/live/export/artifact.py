"""From a run's folder to the files of a scorer."""

import json
from pathlib import Path
from typing import Literal

from fedjax_anomaly.live.bundle import Bundle, read_bundle
from fedjax_anomaly.live.export.edge_scorer import EdgeScorer
from fedjax_anomaly.live.export.onnx_graph import onnx_model
from fedjax_anomaly.live.export.stablehlo import stablehlo_artifact
from fedjax_anomaly.reporting.atomic import write_atomically

ExportFormat = Literal["onnx", "stablehlo"]


def export_scorer(run_dir: str | Path, output: str | Path, form: ExportFormat, client: str = "") -> EdgeScorer:
    """Writes the scorer of one client of a run.

    Args:
      run_dir: folder of the finished run.
      output: the file. An ONNX model carries its metadata; those of a StableHLO artifact go to `output` with `.json`
        added to its name.
      form: of the file.
      client: its name or number; may be left out where there is only one.

    Returns:
      What was written.

    Raises:
      FileNotFoundError: when the run holds no detector.
      ValueError: for a client that is not among its clients, or a model that the format cannot hold.
      OSError: when a file cannot be written.
    """
    bundle = read_bundle(run_dir)
    scorer = EdgeScorer(bundle, _number(bundle, client))
    if form == "onnx":
        write_atomically(Path(output), onnx_model(scorer).SerializeToString())
        return scorer
    write_atomically(Path(output), stablehlo_artifact(scorer))
    metadata = {name: json.loads(value) for name, value in scorer.metadata().items()}
    write_atomically(Path(f"{output}.json"), json.dumps(metadata, indent=1).encode())
    return scorer


def _number(bundle: Bundle, client: str) -> int:
    if not client and bundle.num_clients == 1:
        return 0
    if client in bundle.client_names:
        return bundle.client_names.index(client)
    if client.isdecimal() and int(client) < bundle.num_clients:
        return int(client)
    names = ", ".join(bundle.client_names[:5]) + (", ..." if bundle.num_clients > 5 else "")
    raise ValueError(
        f"client={client!r} must be one of the run's {bundle.num_clients} clients, by name ({names}) or by number."
    )
