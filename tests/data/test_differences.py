import dataclasses

import numpy as np
import pytest

from fedjax_anomaly.data.differences import with_differences
from tests.fleet import dataset, table


def test_a_column_of_changes_follows_each_numeric_column():
    rows = table(6, source=["api"] * 3 + ["db"] * 3)
    numeric = np.array([[1, 10], [4, 10], [2, 13], [7, 5], [7, 6], [9, 4]], np.float32)
    rows = dataclasses.replace(rows, numeric=numeric)
    wider = with_differences(dataset(rows, rows, "time")).train
    assert wider.numeric_names == ("bytes", "count", "change of bytes", "change of count")
    np.testing.assert_array_equal(wider.numeric[:, :2], numeric)
    # The first row of the api and of the db has no row before it.
    changes = [[0, 0], [3, 0], [-2, 3], [0, 0], [0, 1], [2, -2]]
    np.testing.assert_array_equal(wider.numeric[:, 2:], changes)


def test_rows_of_no_source_are_one_sequence():
    rows = table(5)
    wider = with_differences(dataset(rows, rows, "time")).test
    np.testing.assert_array_equal(wider.numeric[1:, 2:], rows.numeric[1:] - rows.numeric[:-1])


@pytest.mark.parametrize("row_order", ["none", "capture"])
def test_rows_that_are_not_in_time_order_are_refused(row_order):
    rows = table(5)
    with pytest.raises(ValueError, match="needs rows in time order, but the row order of 'tiny' is"):
        with_differences(dataset(rows, rows, row_order))
