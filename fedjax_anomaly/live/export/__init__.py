"""The scorer as a file that runs without the training stack."""

from fedjax_anomaly.live.export.artifact import ExportFormat, export_scorer
from fedjax_anomaly.live.export.edge_scorer import EdgeScorer
from fedjax_anomaly.live.export.onnx_graph import onnx_model
from fedjax_anomaly.live.export.stablehlo import stablehlo_artifact

__all__ = ["EdgeScorer", "ExportFormat", "export_scorer", "onnx_model", "stablehlo_artifact"]
