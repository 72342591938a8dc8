"""A data set from a caller's own arrays."""

import numpy as np
import pytest

from fedjax_anomaly.data import federate, from_arrays, partition


def rows(*sizes: int, width: int = 2) -> list[np.ndarray]:
    """Arrays whose values tell the client and the row."""
    return [1000.0 * c + np.arange(size)[:, None] + np.zeros(width) for c, size in enumerate(sizes)]


def test_without_a_test_part_the_last_rows_are_tested():
    dataset = from_arrays(rows(10, 20), test_fraction=0.3)
    # 30 % of 10 and of 20 rows are 3 and 6.
    np.testing.assert_array_equal(dataset.train.numeric[:, 1], [*range(7), *range(1000, 1014)])
    np.testing.assert_array_equal(dataset.test.numeric[:, 0], [*range(7, 10), *range(1014, 1020)])
    np.testing.assert_array_equal(dataset.train.time, 60.0 * np.array([*range(7), *range(14)]))
    np.testing.assert_array_equal(dataset.test.time, 60.0 * np.array([*range(7, 10), *range(14, 20)]))
    assert dataset.test.source.strings().tolist() == ["client 0"] * 3 + ["client 1"] * 6
    assert dataset.category_columns == ("source",)
    assert dataset.train.numeric_names == ("column 0", "column 1")
    assert dataset.train.numeric.dtype == np.float32


def test_a_test_part_goes_on_where_training_ends():
    dataset = from_arrays(rows(4, 6), rows(2, 3), seconds_per_row=5.0, columns=("cpu", "mem"), client_names=("z", "a"))
    np.testing.assert_array_equal(dataset.train.time, 5.0 * np.array([0, 1, 2, 3, 0, 1, 2, 3, 4, 5]))
    np.testing.assert_array_equal(dataset.test.time, 5.0 * np.array([4, 5, 6, 7, 8]))
    assert dataset.test.source.strings().tolist() == ["z"] * 2 + ["a"] * 3
    assert dataset.test.numeric_names == ("cpu", "mem")


def test_times_of_the_caller_are_kept():
    times = [[0, 1, 1, 7], [3.5, 4, 5, 6]]
    dataset = from_arrays(rows(4, 4), times=times, test_fraction=0.5)
    np.testing.assert_array_equal(dataset.train.time, [0, 1, 3.5, 4])
    np.testing.assert_array_equal(dataset.test.time, [1, 7, 5, 6])
    dataset = from_arrays(rows(4, 4), rows(1, 1), times=times, test_times=[[8], [9]])
    np.testing.assert_array_equal(dataset.test.time, [8, 9])


def test_rows_without_order_are_drawn():
    dataset = from_arrays(rows(50, 50), row_order="none", seed=1)
    assert dataset.row_order == "none"
    assert dataset.test.time is None
    train, test = set(dataset.train.numeric[:, 0]), set(dataset.test.numeric[:, 0])
    assert (len(train), len(test), len(train | test)) == (70, 30, 100)
    assert test != {*range(35, 50), *range(1035, 1050)}
    again, other = (from_arrays(rows(50, 50), row_order="none", seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(dataset.test.numeric, again.test.numeric)
    assert not np.array_equal(dataset.test.numeric, other.test.numeric)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (np.array([False, True, False]), ["normal", "anomaly", "normal"]),
        ([0, 1, 0], ["normal", "anomaly", "normal"]),
        ([0.0, 1.0, 1.0], ["normal", "anomaly", "anomaly"]),
        (["", "dos ", "BENIGN"], ["normal", "dos", "normal"]),
        (["Normal", "True", "0"], ["normal", "anomaly", "normal"]),
        (np.array([True, "scan", "false"], object), ["anomaly", "scan", "normal"]),
    ],
)
def test_labels_of_any_usual_kind_become_names_of_attacks(given, names):
    dataset = from_arrays(rows(4, 4), rows(3, 3), labels=[[0, 0, 0], given])
    assert dataset.labelled
    assert dataset.test.attack.strings().tolist() == ["normal"] * 3 + names
    assert not dataset.train.label.any()


def test_labels_follow_their_rows_through_the_split():
    # The attack of a row is its number.
    labels = [[f"row {row}" for row in range(size)] for size in (10, 7)]
    for order in ("time", "none"):
        dataset = from_arrays(rows(10, 7), labels=labels, row_order=order)
        for table in (dataset.train, dataset.test):
            expected = [f"row {int(value) % 1000}" for value in table.numeric[:, 0]]
            assert table.attack.strings().tolist() == expected


def test_without_labels_the_test_rows_say_so():
    assert not from_arrays(rows(9, 9)).labelled
    dataset = from_arrays(rows(3, 3), rows(2, 2), train_labels=[[0, 1, 0], [0, 0, 0]])
    assert not dataset.labelled
    assert not dataset.test.label.any()
    assert dataset.train.label.tolist() == [False, True, False, False, False, False]


def test_a_client_is_a_source_and_trains_on_normal_rows_only():
    labels = [np.zeros(200, bool), np.zeros(300, bool)]
    labels[1][50] = True
    dataset = from_arrays(rows(200, 300), labels=labels)
    train_client, test_client = partition(dataset, "natural", 2, seed=0)
    for table, client in ((dataset.train, train_client), (dataset.test, test_client)):
        assert len({*zip(table.source.strings(), client, strict=True)}) == 2
    fleet = federate(
        dataset,
        train_client,
        test_client,
        window_length=8,
        window_stride=1,
        scoring_stride=8,
        validation_fraction=0.1,
        seed=0,
    )
    encoded = fleet.encoder.transform(dataset.train.take(dataset.train.label))[0]
    assert not (fleet.train.series == encoded).all(axis=-1).any()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 2, 0], r"^the labels of test\[0\]: 2 in row 1 is neither 0"),
        ([0, np.nan, 0], r"^the labels of test\[0\]: nan in row 1 is neither 0"),
        ([None, "dos", ""], r"^the labels of test\[0\]: values of type object are no labels"),
        ([0, 1], r"^the labels of test\[0\] have shape \(2,\), but it has 3 rows"),
    ],
)
def test_labels_that_say_nothing_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(rows(4), rows(3), labels=[labels])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(train=[]), "^train holds no client"),
        (dict(train=[np.zeros(3)]), r"^train\[0\] has shape \(3,\)"),
        (dict(train=[np.zeros((3, 0))]), r"^train\[0\] has shape \(3, 0\)"),
        (dict(train=[np.zeros((3, 2)), np.zeros((3, 1))]), r"^train\[1\] has shape \(3, 1\), expected \[rows, 2 col"),
        (dict(train=[np.array([["a"]])]), r"^train\[0\] holds values of type <U1"),
        (dict(train=[np.array([[1.0], [np.nan]])]), r"^train\[0\] holds nan in row 1 of 'column 0'"),
        (dict(train=[np.array([[1.0], [1e40]])]), r"^train\[0\] holds 1e\+40 in row 1"),
        (dict(train=rows(1)), r"^train\[0\] has 1 row, too few"),
        (dict(train=rows(4, 4), test=rows(4)), "^test holds 1 arrays, but train holds 2"),
        (dict(train=rows(4), test=rows(4, width=3)), r"^test\[0\] has shape \(4, 3\), expected \[rows, 2 columns\]"),
        (dict(train=rows(4), train_labels=[[0] * 4]), "^train_labels and test_times need test"),
        (dict(train=rows(4, 4), labels=[[0] * 4]), "^labels of train holds 1 arrays"),
        (dict(train=rows(4), times=[[0, 1, 3, 2]]), r"^the times of train\[0\] are not in order: 2 in row 3 follows 3"),
        (dict(train=rows(4), times=[[0, 1, np.nan, 2]]), r"^the times of train\[0\] are not in order: nan in row 2"),
        (dict(train=rows(4), times=[[0, 1]]), r"^the times of train\[0\] have shape \(2,\)"),
        (dict(train=rows(4), test=rows(1), times=[[0, 1, 2, 3]]), "^times and test_times are given one without"),
        (dict(train=rows(4), times=[[0, 1, 2, 3]], row_order="none"), "^times have no meaning"),
        (dict(train=rows(4), row_order="random"), "^row_order='random' is unknown"),
        (dict(train=rows(4), columns=["a", "a"]), "^columns holds 2 names, 1 of them distinct"),
        (dict(train=rows(4), client_names=["a", "b"]), "^client_names holds 2 names"),
        (dict(train=rows(4), test_fraction=1.0), r"^test_fraction=1.0 must lie in \(0, 1\)"),
        (dict(train=rows(4), seconds_per_row=0.0), r"^seconds_per_row=0.0 must be positive"),
    ],
)
def test_what_does_not_fit_is_named(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        from_arrays(**arguments)
    assert "\n" not in str(error.value)
