"""Models are trained further and exchanged while events are scored."""

import dataclasses
import json
import time

import jax
import numpy as np
import pytest

from fedjax_anomaly.config_live import LiveSettings
from fedjax_anomaly.detection.alarm_rules import constant_rule
from fedjax_anomaly.live.bundle import write_bundle
from fedjax_anomaly.live.drift import Drift, DriftMonitor
from fedjax_anomaly.live.events import Events
from fedjax_anomaly.live.incidents import Incident
from fedjax_anomaly.live.interfaces import ScoredEvent
from fedjax_anomaly.live.recent import RecentRows
from fedjax_anomaly.live.retraining import ProcessTrainer, Report, Retraining
from fedjax_anomaly.live.scorer import Scorer
from fedjax_anomaly.live.start import start
from fedjax_anomaly.live.versions import ORIGINAL, Versions
from tests.live.fleet import SMALL, Kept, in_time_order, lines, write_lines


def other_models(bundle):
    """Twice the weights, and thresholds from other scores."""
    return dataclasses.replace(
        bundle,
        params=jax.tree.map(lambda leaf: 2.0 * leaf, bundle.params),
        calibration_scores=bundle.calibration_scores + 1.0,
        trained_at="2027-01-01T00:00:00+00:00",
    )


def some_events(bundle, slot, row):
    return Events(slot, slot * 0, row, np.ones(len(slot), bool), np.zeros(len(slot)), list(range(len(slot))))


def test_other_models_score_what_comes_after_them(bundle):
    rule = constant_rule("quantile", 0.5)
    slot, new = np.arange(2, dtype=np.int32), other_models(bundle)
    row = np.random.default_rng(0).normal(size=(2, bundle.encoders[0].layout.num_features)).astype(np.float32)
    events = some_events(bundle, slot, row)
    scorer, only_new = (Scorer(b, rule, max_streams=4, max_batch=4) for b in (bundle, new))
    under_way = scorer.submit(events, [0, 0])
    with pytest.MonkeyPatch.context() as patch:
        compiled = []
        patch.setattr("jax._src.compiler.backend_compile_and_load", lambda *args, **kwargs: compiled.append(args))
        scorer.replace(new, rule, [0, 0])
        after = scorer.submit(events, [0, 0]).wait()
    assert not compiled
    expected = only_new.submit(events, [0, 0]).wait()
    np.testing.assert_allclose(after.score, expected.score, rtol=1e-6)
    np.testing.assert_array_equal(after.threshold, expected.threshold)
    assert np.all(under_way.wait().threshold < after.threshold)
    assert not np.allclose(under_way.wait().score, after.score)


class FakeTrainer:
    """Reports when told to."""

    def __init__(self):
        self.begun, self.answer = [], None

    def begin(self, request):
        self.begun.append(request)

    def report(self):
        answer, self.answer = self.answer, None
        return answer

    def close(self):
        pass


def test_a_training_begins_with_enough_streams_enough_rows_and_not_too_often(bundle, tmp_path):
    write_bundle(tmp_path, bundle)
    versions, trainer, installed = Versions(tmp_path, tmp_path / "models"), FakeTrainer(), []
    rows = RecentRows(tmp_path / "rows.bin", num_features=1, num_rows=40, max_streams=4)

    def policy():
        return Retraining(rows, trainer, versions, installed.append, share=0.5, rows_since=20, interval_seconds=100.0)

    retraining, told = policy(), []

    def minute(t, drifting=()):
        for c in range(4):
            event = ScoredEvent(str(c), c, t, t, 1.0, 2.0, False, np.ones(1), 0.0, np.ones(1, np.float32), False)
            drifts = [Drift(str(c), c, t, 0.9)] if c in drifting else []
            told.extend((t, line["what"]) for line in retraining.update([event], drifts))

    minute(0, drifting=[0])
    for t in range(1, 50):  # One stream of four is not half of them.
        minute(t)
    assert told == []
    minute(50, drifting=[1])
    for t in range(51, 70):
        minute(t)
    assert told == []
    minute(70)  # Twenty rows after the second one.
    assert told == [(70, "retraining")]
    assert len(trainer.begun[0].recent.rows) == 4 * 40
    # A process that starts again begins again, as nobody trains for it any more.
    again = policy()
    again.restore(json.loads(json.dumps(retraining.snapshot())))
    again.update([ScoredEvent("0", 0, 71, 71, 1.0, 2.0, False, np.ones(1), 0.0, np.ones(1, np.float32))], [])
    assert len(trainer.begun) == 2
    trainer.answer = Report(False, {"reason": "worse"})
    minute(71)
    for t in range(72, 170):
        minute(t)
    assert told[1:] == [(71, "not retrained")]
    minute(170)  # A hundred seconds after the last one.
    assert told[2:] == [(170, "retraining")]
    versions.add(other_models(bundle), trainer.begun[-1].name)
    trainer.answer = Report(True, {})
    minute(171)
    assert told[3:] == [(171, "retrained")]
    assert installed[0].trained_at.startswith("2027") and versions.current == "0001"
    for t in range(172, 400):  # What had drifted has its new model.
        minute(t)
    assert len(told) == 4


def test_a_training_begins_with_too_many_incidents_of_two_days(bundle, tmp_path):
    """More than one a day of each of two streams: the fifth within two days begins it, though none has drifted."""
    write_bundle(tmp_path, bundle)
    rows = RecentRows(tmp_path / "rows.bin", num_features=1, num_rows=40, max_streams=4)

    def policy():
        versions, trainer = Versions(tmp_path, tmp_path / "models"), FakeTrainer()
        never = {"share": 1.0, "rows_since": 10**9, "interval_seconds": 1e9}
        return Retraining(rows, trainer, versions, print, most_incidents=1.0, **never)

    def hour(retraining, t, begun):
        event = ScoredEvent(str(t % 2), t % 2, 3600.0 * t, t, 1.0, 2.0, False, np.ones(1), 0.0, np.ones(1, np.float32))
        told = [Incident("0", 0, 3600.0 * s, 3600.0 * t, 0.0, 1.0, 1.0, "warning", 1, {}, s < t) for s in begun]
        return [line["what"] for line in retraining.update([event], [], told)]

    retraining = policy()
    for t in range(100):  # Four in two days, and each ends, of which is told as well.
        assert not hour(retraining, t, {0: [t], 1: [t - 1]}.get(t % 12, [])), t
    again = policy()
    again.restore(json.loads(json.dumps(retraining.snapshot())))
    assert [hour(again, 100, []), hour(again, 101, [101])] == [[], ["retraining"]]
    assert not hour(retraining, 160, [160])  # Those of long ago do not count.
    again.forget_drift()
    hour(again, 102, [101])  # The end of one that began with the model before.
    assert not again.snapshot()["incidents"]


@pytest.fixture(scope="module")
def texts(small):
    table = small[0].federation.dataset.test
    return list(lines(table, in_time_order(table)))[:480]


@pytest.fixture
def run_dir(bundle, tmp_path):
    write_bundle(tmp_path, bundle)
    (tmp_path / "config.json").write_text(dataclasses.replace(SMALL, min_client_windows=4).to_json())
    return tmp_path


@pytest.fixture
def early_drift(monkeypatch):
    """Every stream has drifted with its tenth event."""
    counts = {}

    def update(self, events):
        drifts = []
        for event in events:
            counts[id(self), event.stream] = counts.get((id(self), event.stream), 0) + 1
            if counts[id(self), event.stream] == 10:
                drifts.append(Drift(event.stream, event.client, event.time, 0.9))
        return drifts

    monkeypatch.setattr(DriftMonitor, "update", update)


def settings(run_dir, name, texts, **others):
    source = write_lines(run_dir / f"{name}.jsonl", texts)
    output = str(run_dir / name)
    if others.get("on_drift", "retrain") == "retrain":
        others = {"on_drift": "retrain", "retrain_rows": 32, "retrain_interval_seconds": 1e9} | others
    return LiveSettings(
        run=str(run_dir), source=str(source), follow=False, output_dir=output, max_batch=2, alarm_rule="run", **others
    )


class Sees(Kept):
    """Keeps what it is told of models, between the events."""

    def model(self, trained_at):
        self.events.append(trained_at)


def outcome(event):
    return event.score, event.threshold, event.alarm


@pytest.mark.usefixtures("early_drift")
def test_a_running_detector_changes_its_model_and_the_next_one_goes_on_with_it(run_dir, bundle, texts):
    requests = []

    def retrain(old, recent):
        requests.append(recent)
        return other_models(old), {"rounds": 3}

    # The first half, and the rest by a process that goes on from its state and its model.
    sees, kept = Sees(), Kept()
    first = settings(run_dir, "parts", texts[:240])
    counts = start(first, sinks=[sees], retrain=retrain).run()
    assert counts.scored == 240 == len(sees.events) - 1
    at = sees.events.index("2027-01-01T00:00:00+00:00")
    assert 0 < at < 200 and len(requests) == 1
    assert len(requests[0].rows) == at + 2  # The events of the batch after which it came are told of later.
    told = [json.loads(line)["what"] for line in (run_dir / "parts" / "drift.jsonl").read_text().splitlines()]
    assert told == ["drift"] * 4 + ["retraining", "retrained"]
    assert start(settings(run_dir, "parts", texts, on_drift="report"), sinks=[kept]).run().scored == 480
    mine = [outcome(event) for event in [*sees.events, *kept.events] if isinstance(event, ScoredEvent)]
    # Before, thresholds are the old ones; soon after, everything is as with the new models from the beginning.
    write_bundle(run_dir / "new", other_models(bundle))
    plain = Kept()
    unchanged = settings(run_dir, "new_live", texts, on_drift="ignore")
    start(dataclasses.replace(unchanged, run=str(run_dir / "new")), sinks=[plain]).run()
    expected = [outcome(event) for event in plain.events]
    under_way = 4  # This batch, and one that was on its way.
    assert mine[at + under_way :] == expected[at + under_way :]
    old = float(constant_rule(bundle.threshold, bundle.threshold_level).init(bundle.calibration_scores))
    assert {threshold for _, threshold, _ in mine[: at + 2]} == {old}
    assert all(mine[i][0] != expected[i][0] for i in range(at))
    # Back to the run's own model by removing the pointer: thresholds are its own again.
    (run_dir / "parts" / "models" / "current").unlink()
    back = Kept()
    start(settings(run_dir, "parts", [*texts, *later(texts[-4:])], on_drift="ignore"), sinks=[back]).run()
    assert {event.threshold for event in back.events} == {old} and len(back.events) == 4


def later(texts):
    return [json.dumps(json.loads(text) | {"time": json.loads(text)["time"] + 3600.0}) for text in texts]


@pytest.mark.slow
def test_a_process_of_its_own_trains(run_dir, bundle):
    """With rows that the untrained models have never seen; a second request is refused with its reason."""
    rng = np.random.default_rng(0)
    client = np.repeat(np.arange(4, dtype=np.int32), 100)
    rows = (1.0 + rng.normal(0.0, 0.1, (400, bundle.encoders[0].layout.num_features))).astype(np.float32)
    rows_file = RecentRows(run_dir / "rows.bin", num_features=rows.shape[1], num_rows=100, max_streams=4)
    rows_file.take(
        [
            ScoredEvent(str(c), int(c), 0.0, 0, 1.0, 2.0, False, np.ones(1), 0.0, row, False)
            for c, row in zip(client, rows, strict=True)
        ]
    )
    versions, installed = Versions(run_dir, run_dir / "models"), []
    retraining = Retraining(
        rows_file,
        ProcessTrainer(run_dir, run_dir / "models", 2),
        versions,
        installed.append,
        share=0.1,
        rows_since=0,
        interval_seconds=1e9,
    )
    event = ScoredEvent("0", 0, 1.0, 0, 1.0, 2.0, False, np.ones(1), 0.0, rows[0], False)
    (line,) = retraining.update([event], [Drift("0", 0, 1.0, 0.9)])
    assert line["what"] == "retraining"
    deadline = time.monotonic() + 120.0
    while not (lines := retraining.update([event], [])) and time.monotonic() < deadline:
        time.sleep(0.05)
    retraining.close()
    assert [line["what"] for line in lines] == ["retrained"], lines
    assert lines[0]["loss_after"] < lines[0]["loss_before"] and lines[0]["clients"] == 4
    assert versions.current == "0001" and versions.read(ORIGINAL).trained_at == bundle.trained_at
    assert installed[0].trained_at == versions.read("0001").trained_at != bundle.trained_at
