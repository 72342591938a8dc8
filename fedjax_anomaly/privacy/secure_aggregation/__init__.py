"""Secure aggregation: a server that learns the sum of the clients' vectors and nothing else of them."""

from fedjax_anomaly.privacy.secure_aggregation.cost import ClientSeconds, client_seconds, client_traffic
from fedjax_anomaly.privacy.secure_aggregation.graph import MaskGraph, mask_graph
from fedjax_anomaly.privacy.secure_aggregation.protocol import Aggregate, Traffic, run_protocol
from fedjax_anomaly.privacy.secure_aggregation.quantize import FixedPoint, decode, encode, fixed_point

__all__ = [
    "Aggregate",
    "ClientSeconds",
    "FixedPoint",
    "MaskGraph",
    "Traffic",
    "client_seconds",
    "client_traffic",
    "decode",
    "encode",
    "fixed_point",
    "mask_graph",
    "run_protocol",
]
