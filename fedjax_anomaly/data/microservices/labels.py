"""Exact labels: a row is anomalous where the faults changed its expected metrics materially."""

from collections.abc import Mapping, Sequence

import numpy as np

from fedjax_anomaly.data.microservices.faults import Fault
from fedjax_anomaly.data.table import NORMAL

SPREAD = "spread"
"""The attack name of rows that a fault of another service made anomalous."""

MATERIAL_CHANGE: Mapping[str, tuple[float, float]] = {
    "request_rate_per_second": (0.25, 0.5),
    "error_rate": (0.5, 0.01),
    "latency_p95_ms": (0.25, 1.0),
    "open_connections": (0.3, 3.0),
    "cpu_utilization": (0.25, 0.01),
    "memory_utilization": (0.05, 0.01),
}
"""Metric to (relative, absolute) bound: a change is material beyond `relative * value without faults + absolute`.

These say it for the others: queues show in latency, collection in memory and processor, bytes in requests.
"""


def material_change(with_faults: Mapping[str, np.ndarray], without: Mapping[str, np.ndarray]) -> np.ndarray:
    """Bool[T, S]: where expected metrics, Float[T, S] by name, differ materially between two runs."""
    changed = np.zeros(without["error_rate"].shape, dtype=bool)
    for name, (relative, absolute) in MATERIAL_CHANGE.items():
        changed |= np.abs(with_faults[name] - without[name]) > relative * without[name] + absolute
    return changed


def attack_codes(faults: Sequence[Fault], material: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The attack of each row, as its place in `names`.

    A service's own fault names its rows from the first material minute (a leak's harmless start stays normal) to the
    fault's end, and on for as long as the change stays material (a backlog drains). Every other material row is
    `spread`.

    Args:
      faults: those of one service do not overlap.
      material: Bool[T, S] of `material_change`.
      names: attack names, `NORMAL` and `SPREAD` among them.

    Returns:
      Int32[T, S].

    Guarantees:
      Every material row has an attack name (test:
      `tests/data/microservices/test_labels.py::test_every_material_row_is_labelled`).
    """
    codes = np.where(material, names.index(SPREAD), names.index(NORMAL)).astype(np.int32)
    for fault in sorted(faults, key=lambda fault: fault.start):
        column = material[:, fault.service]
        struck = np.flatnonzero(column[fault.start : fault.end])
        if len(struck) == 0:
            continue
        recovered = np.flatnonzero(~column[fault.end :])
        end = fault.end + (int(recovered[0]) if len(recovered) else len(column) - fault.end)
        codes[fault.start + int(struck[0]) : end, fault.service] = names.index(fault.kind)
    return codes
