"""What becomes of every kind of record, and that none is lost on the way."""

import dataclasses

import numpy as np
import pytest

from fedjax_anomaly.data.encoding import Encoder
from fedjax_anomaly.live.events import Intake
from fedjax_anomaly.live.interfaces import Record
from tests.fleet import table

STEP = 60.0


@pytest.fixture(scope="module")
def two(bundle):
    """Two clients, two numeric columns and a categorical one; a step is a minute."""
    encoders = tuple(
        Encoder(np.array([c, 2.0]), np.array([1.0, 0.5 + c]), (("icmp", "tcp"),), 5.0, ("bytes", "count", "protocol"))
        for c in (0, 1)
    )
    return dataclasses.replace(
        bundle,
        cluster=np.array([0, 1]),
        client_names=("api", "db"),
        encoders=encoders,
        step_seconds=np.full(2, STEP),
        window_length=3,
    )


def fields(stream="api", time=0.0, **others):
    return {"stream": stream, "time": time, "bytes": 1.0, "count": 2.0, "protocol": "tcp"} | others


def take(intake, *all_fields):
    return intake.take([Record(i, "raw", each) for i, each in enumerate(all_fields)])


def without(name):
    given = fields()
    del given[name]
    return given


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (None, "unreadable"),
        (without("stream"), "unknown_stream"),
        (fields(stream="nobody"), "unknown_stream"),
        (fields(stream=7), "unknown_stream"),
        (without("bytes"), "missing_field"),
        (without("protocol"), "missing_field"),
        (fields(count=None), "missing_field"),
        (fields(count=""), "missing_field"),
        (fields(protocol=None), "missing_field"),
        (fields(count="many"), "not_a_number"),
        (fields(count=[1.0]), "not_a_number"),
        (fields(count={"value": 1.0}), "not_a_number"),
        (fields(count=float("nan")), "not_finite"),
        (fields(count="inf"), "not_finite"),
        (fields(count=1e300), "not_finite"),
        (fields(count=10**400), "not_finite"),
        (without("time"), "bad_time"),
        (fields(time="yesterday"), "bad_time"),
        (fields(time=float("nan")), "bad_time"),
        (fields(time=True), "bad_time"),
        (fields(time=1e12), "future"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_bad_record_is_rejected_by_name_and_touches_no_other(two, given, reason, alone):
    intake = Intake(two, max_streams=4, max_future_seconds=60.0)
    events, rejected = take(intake, given) if alone else take(intake, fields(), given, fields("db"))
    assert [each.reason for each in rejected] == [reason]
    assert len(events.slot) == (0 if alone else 2)
    # The stream goes on as if the record had never come.
    _, rejected = take(intake, fields(time=STEP))
    assert not rejected


def test_numbers_may_come_as_text_and_further_fields_are_counted(two):
    intake = Intake(two, max_streams=4)
    plain, _ = take(intake, fields())
    events, rejected = take(intake, fields("1", bytes="1.0", count="2e0", note="x"), fields("0", count=2))
    assert not rejected
    assert intake.extra_fields == 1
    assert intake.names == ["api", "1", "0"]
    assert events.client.tolist() == [1, 0]
    np.testing.assert_array_equal(events.row[1], plain.row[0])


def test_times_of_a_stream(two):
    intake = Intake(two, max_streams=4)
    times = [0.0, 60.0, 60.0, 0.0, 120.0, 119.0, 210.0, 301.0, 301.5, 60.0]
    events, rejected = take(intake, *(fields(time=time) for time in times))
    # 90 s are still 1.5 steps; 91 s are a gap. A window is of 3 rows, so that 60 s is no longer known at the end.
    assert events.time.tolist() == [0.0, 60.0, 120.0, 210.0, 301.0, 301.5]
    assert events.restart.tolist() == [True, False, False, False, True, False]
    assert [each.reason for each in rejected] == ["duplicate", "duplicate", "late", "late"]


def test_times_may_be_iso_8601(two):
    events, _ = take(Intake(two, max_streams=4), fields(time="1970-01-01T00:01:00Z"), fields(time="1970-01-01T00:02"))
    assert events.time.tolist() == [60.0, 120.0]


def test_where_training_had_no_times_the_order_is_that_of_arrival(two):
    intake = Intake(dataclasses.replace(two, step_seconds=np.full(2, np.nan)), max_streams=4)
    events, rejected = take(intake, fields(time=5.0), fields(time=5.0), fields(time=1.0), without("time"))
    assert not rejected
    assert events.restart.tolist() == [True, False, False, False]


def test_a_client_may_have_several_streams_while_there_is_room(two):
    intake = Intake(two, max_streams=2)
    events, rejected = take(intake, fields("api/1"), fields("api/2"), fields("api/3"))
    assert events.slot.tolist() == [0, 1]
    assert events.client.tolist() == [0, 0]
    assert [each.reason for each in rejected] == ["too_many_streams"]
    with pytest.raises(ValueError, match="max_streams=1 is less than the 2 clients"):
        Intake(two, max_streams=1)


@pytest.mark.parametrize("batch", [1, 7])
def test_rows_are_encoded_as_in_training(two, batch):
    """An unknown category too; `Encoder.transform` is tested by itself."""
    rows = table(14, protocols=("icmp", "tcp", "udp"))
    client = np.arange(14) % 2
    given = [
        fields(
            str(client[i]),
            60.0 * i,
            bytes=float(rows.numeric[i, 0]),
            count=float(rows.numeric[i, 1]),
            protocol=rows.categorical[0].strings()[i],
        )
        for i in range(14)
    ]
    intake, encoded = Intake(two, max_streams=4), []
    for begin in range(0, 14, batch):
        encoded.append(take(intake, *given[begin : begin + batch])[0].row)
    for c in (0, 1):
        expected = two.encoders[c].transform(rows.take(client == c))
        np.testing.assert_array_equal(np.concatenate(encoded)[client == c], expected)


def test_every_record_comes_out_once(two):
    """Random good and bad records in batches of random size."""
    rng = np.random.default_rng(0)
    intake, read, scored, rejected = Intake(two, max_streams=3), 0, 0, 0
    choices = [fields(), without("bytes"), fields("nobody"), fields(count="x"), None, fields("db"), fields("db/1")]
    for _ in range(60):
        given = [choices[i] for i in rng.integers(len(choices), size=rng.integers(1, 9))]
        given = [each and each | {"time": STEP * rng.integers(20)} for each in given]
        events, bad = take(intake, *given)
        read, scored, rejected = read + len(given), scored + len(events.position), rejected + len(bad)
        positions = sorted(events.position + [each.record.position for each in bad])
        assert positions == list(range(len(given)))
    assert read == scored + rejected
    assert scored and rejected


def test_what_is_remembered_survives_a_snapshot(two):
    two = dataclasses.replace(
        two,
        differences=True,
        encoders=tuple(
            dataclasses.replace(e, vocabularies=(), column_names=("bytes", "change of bytes")) for e in two.encoders
        ),
    )
    first, second = Intake(two, max_streams=4), Intake(two, max_streams=4)
    take(first, fields(bytes=1.0), fields("db", bytes=3.0))
    second.restore(*first.snapshot())
    given = [fields(time=60.0, bytes=5.0), fields("db", time=60.0, bytes=5.0), fields()]
    (mine, bad), (other, other_bad) = take(first, *given), take(second, *given)
    np.testing.assert_array_equal(mine.row, other.row)
    assert mine.row[0, 1] != mine.row[1, 1]
    assert [each.reason for each in bad] == [each.reason for each in other_bad] == ["duplicate"]
