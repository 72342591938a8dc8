"""Changes and rates of cumulative sums, derived by hand."""

import math

import pytest

from fedjax_anomaly.live.otlp.points import Counter, Point
from fedjax_anomaly.live.otlp.sums import Sums

SECOND = 10**9

# (start, time, value) in seconds, then the change and the rate. 5 and 8 requests within 10 seconds are 3, or 0.3 per
# second. At 40 the value has fallen, so that counting began anew, after 30: 2 in at most 10 seconds. At 50 the start
# has moved to 45: 7 in 5 seconds.
SERIES = [
    (1, 10, 5, None, None),
    (1, 20, 8, 3, 0.3),
    (1, 30, 8, 0, 0.0),
    (1, 40, 2, 2, 0.2),
    (45, 50, 7, 7, 1.4),
    (45, 60, 9, 2, 0.2),
]


def point(start: float, time: float, value: float, series: str = "a", *, cumulative: bool = True) -> Point:
    counter = Counter(series, round(start * SECOND), cumulative)
    return Point("cart", round(time * SECOND), "requests", value, 0, counter)


def taken(sums: Sums, *points: Point) -> list[float]:
    """The values of a request that was taken in."""
    converted = sums.convert(points)
    sums.keep(converted.last)
    assert not converted.refused
    return [p.value for p in converted.points]


@pytest.mark.parametrize("in_one_request", [True, False])
@pytest.mark.parametrize(("sums_as", "column"), [("delta", 3), ("rate", 4)])
def test_changes_and_rates_with_resets(sums_as, column, in_one_request):
    sums = Sums(sums_as, ["requests"])
    expected = [row[column] for row in SERIES if row[column] is not None]
    points = [point(*row[:3]) for row in SERIES]
    if in_one_request:
        assert taken(sums, *reversed(points)) == pytest.approx(expected)
    else:
        assert [value for p in points for value in taken(sums, p)] == pytest.approx(expected)


def test_series_are_told_apart_and_deltas_are_changes_already():
    sums = Sums("delta", ["requests"])
    assert taken(sums, point(1, 10, 5), point(1, 10, 100, "b")) == []
    assert taken(sums, point(1, 20, 6), point(1, 20, 104, "b")) == [1, 4]
    assert taken(sums, point(10, 20, 3, cumulative=False), point(20, 30, 3, cumulative=False)) == [3, 3]
    assert taken(Sums("rate", ["requests"]), point(10, 20, 3, cumulative=False)) == [0.3]
    assert taken(Sums("cumulative", ["requests"]), point(1, 10, 5), point(1, 20, 6)) == [5, 6]
    level = point(1, 20, 6)._replace(counter=None)
    assert taken(sums, level, level._replace(column="not wanted")) == [6]


def test_a_request_that_is_sent_again_gives_the_same_and_one_that_was_not_taken_in_leaves_no_trace():
    sums = Sums("delta", ["requests"])
    taken(sums, point(1, 10, 5))
    sums.convert([point(1, 20, 8)])  # There was no room for it.
    assert taken(sums, point(1, 20, 8)) == [3]
    assert taken(sums, point(1, 20, 8)) == [3]
    assert taken(sums, point(1, 30, 12)) == [4]
    for late in (point(1, 20, 8), point(1, 30, 13)):
        assert "is older than the one before" in sums.convert([late]).refused[0]


def test_a_value_that_is_none_is_left_to_the_detector_and_a_rate_needs_a_time():
    sums = Sums("rate", ["requests"])
    taken(sums, point(1, 10, 5))
    assert math.isnan(taken(sums, point(1, 20, math.nan))[0])
    assert taken(sums, point(1, 30, 9)) == [pytest.approx(0.2)]
    assert "has no rate" in sums.convert([point(0, 40, 1, cumulative=False)]).refused[0]
