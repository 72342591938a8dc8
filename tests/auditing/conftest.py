"""The small fleet of `tests/experiment`, for audits."""

from tests.experiment.conftest import small_dataset

__all__ = ["small_dataset"]
