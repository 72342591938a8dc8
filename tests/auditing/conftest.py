"""The small fleet of `tests/experiment`, for audits."""

from tests.experiment.conftest import small_dataset, undrawn_figures

__all__ = ["small_dataset", "undrawn_figures"]
