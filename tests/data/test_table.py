import dataclasses

import numpy as np
import pytest

from fedjax_anomaly.data.table import Categorical
from tests.fleet import table


def test_a_nan_is_named_with_its_column_and_row():
    good = table(5)
    numeric = good.numeric.copy()
    numeric[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"column 'count' holds nan in row 3 \(1 such values"):
        dataclasses.replace(good, numeric=numeric)


def test_an_infinity_is_refused():
    good = table(5)
    numeric = good.numeric.copy()
    numeric[0, 0] = np.inf
    with pytest.raises(ValueError, match="column 'bytes' holds inf in row 0"):
        dataclasses.replace(good, numeric=numeric)


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match="column 'attack' has 3 rows, but numeric has 5"):
        dataclasses.replace(table(5), attack=Categorical.from_strings(["normal"] * 3))


def test_a_wrong_number_of_names_is_refused():
    with pytest.raises(ValueError, match=r"shape \(5, 2\), but there are 1 numeric_names"):
        dataclasses.replace(table(5), numeric_names=("bytes",))


def test_labels_are_the_rows_that_are_not_normal():
    rows = table(4, attack=["normal", "flood", "normal", "scan"])
    assert rows.label.tolist() == [False, True, False, True]


def test_take_keeps_every_column_aligned():
    rows = table(4, attack=["a", "b", "normal", "d"], source=["w", "x", "y", "z"])
    taken = rows.take(np.array([3, 0]))
    assert taken.attack.strings().tolist() == ["d", "a"]
    assert taken.source is not None
    assert taken.source.strings().tolist() == ["z", "w"]
    np.testing.assert_array_equal(taken.numeric, rows.numeric[[3, 0]])
    assert taken.categorical[0].strings().tolist() == rows.categorical[0].strings()[[3, 0]].tolist()


def test_equal_columns_get_equal_codes_whatever_their_first_row():
    first = Categorical.from_strings(["tcp", "udp", "icmp"])
    second = Categorical.from_strings(["icmp", "tcp", "udp"])
    assert first.names == second.names == ("icmp", "tcp", "udp")


def test_an_unknown_column_is_named_beside_those_that_exist():
    with pytest.raises(ValueError, match="no categorical column 'city'; the columns are attack, protocol"):
        table(3).column("city")
