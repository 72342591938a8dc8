"""The scripts of `benchmarks/` are modules beside each other, as Python sees them when one is started."""

import sys
from pathlib import Path

from tests.experiment.conftest import small_dataset, undrawn_figures  # noqa: F401

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
