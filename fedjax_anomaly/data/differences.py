"""First differences as further columns: what changed since the row before, next to where it stands."""

import dataclasses

import numpy as np

from fedjax_anomaly.data.table import Dataset, Table

CHANGE_OF = "change of "
"""What the name of a column of differences begins with."""


def with_differences(dataset: Dataset) -> Dataset:
    """Adds to every numeric column its change since the source's row before; a source's first row changes by 0.

    A row's change needs no later row, so a live detector can compute it.

    Args:
      dataset: in time order.

    Returns:
      The data set with 2 P numeric columns: the P as they were, then one called `change of NAME` for each.

    Raises:
      ValueError: when the rows are not in time order.
    """
    if dataset.row_order != "time":
        raise ValueError(
            f"difference_columns=True needs rows in time order, but the row order of {dataset.name!r} is "
            f"{dataset.row_order!r}; leave --difference_columns out."
        )
    return dataclasses.replace(dataset, train=_with_differences(dataset.train), test=_with_differences(dataset.test))


def _with_differences(table: Table) -> Table:
    change = np.diff(table.numeric, axis=0, prepend=table.numeric[:1])
    if table.source is not None:
        change[1:][np.diff(table.source.codes) != 0] = 0.0
    return dataclasses.replace(
        table,
        numeric=np.concatenate([table.numeric, change], axis=1),
        numeric_names=table.numeric_names + tuple(f"{CHANGE_OF}{name}" for name in table.numeric_names),
    )
