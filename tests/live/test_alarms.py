"""Rules, incidents, drift and sinks in a running detector."""

import dataclasses
import json
import urllib.error
import urllib.request

import jax
import numpy as np
import pytest

from fedjax_anomaly.config_live import LiveSettings
from fedjax_anomaly.detection.alarm_rules import constant_rule
from fedjax_anomaly.detection.false_discoveries import TailPValues
from fedjax_anomaly.detection.spot import spot_rule
from fedjax_anomaly.live.alarms import alarm_rule, rule_of, usual_gap
from fedjax_anomaly.live.bundle import read_bundle, write_bundle
from fedjax_anomaly.live.drift import DriftMonitor
from fedjax_anomaly.live.events import Events
from fedjax_anomaly.live.incidents import Incidents
from fedjax_anomaly.live.interfaces import ScoredEvent
from fedjax_anomaly.live.outputs import GrowingFile
from fedjax_anomaly.live.scorer import Scorer
from fedjax_anomaly.live.start import start
from fedjax_anomaly.live.watch import Watch
from tests.live.fleet import Kept, in_time_order, lines, write_lines
from tests.ports import free_port


@pytest.fixture(scope="module")
def texts(small):
    table = small[0].federation.dataset.test
    return list(lines(table, in_time_order(table)))[:480]


@pytest.fixture
def run_dir(bundle, tmp_path):
    """As many held-out scores as SPOT and p-values need: each several times, a little changed."""
    noise = np.exp(np.random.default_rng(0).normal(0.0, 0.05, 6 * len(bundle.calibration_scores)))
    scores = (np.tile(bundle.calibration_scores, 6) * noise).astype(np.float32)
    held_out = {"calibration_client": bundle.calibration_client, "calibration_time": bundle.calibration_time}
    held_out = {name: np.tile(array, 6) for name, array in held_out.items()}
    write_bundle(tmp_path, dataclasses.replace(bundle, calibration_scores=scores, threshold_level=0.8, **held_out))
    return tmp_path


def settings(run_dir, texts, name="live", **others):
    source = write_lines(run_dir / f"{name}.jsonl", texts)
    output = str(run_dir / name)
    return LiveSettings(run=str(run_dir), source=str(source), follow=False, output_dir=output, max_batch=2, **others)


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Looks(Kept):
    """Asks for Prometheus' figures and what the dashboard shows whenever something was scored."""

    def __init__(self, port, dashboard):
        super().__init__()
        self.port, self.dashboard, self.text, self.state = port, dashboard, "", {}

    def scored(self, events):
        super().scored(events)
        self.text = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5).read().decode()
        self.state = json.load(urllib.request.urlopen(f"http://127.0.0.1:{self.dashboard}/state", timeout=5))


def test_incidents_and_figures_are_told_and_a_restart_goes_on_with_incidents_that_are_open(run_dir, texts):
    looks = Looks(free_port(), free_port())
    with_figures = {"prometheus": f"127.0.0.1:{looks.port}", "dashboard": f"127.0.0.1:{looks.dashboard}"}
    with_figures["alarm_rule"] = "run"
    counts = start(settings(run_dir, ["no JSON", *texts], "whole", **with_figures), sinks=[looks]).run()
    assert 'fedjax_anomaly_rejected_total{reason="unreadable"} 1.0' in looks.text
    # Sinks are told of the last batch, of at most two events, before it is counted.
    shown = looks.state["counts"]
    assert 0 < counts.scored - shown["scored"] <= 2 and shown["rejected"] == {"unreadable": 1}
    assert looks.state["totals"]["streams"] == 4
    assert 5 < looks.state["totals"]["incidents"] <= len({(i.stream, i.start) for i in looks.incidents})
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{looks.dashboard}/", timeout=5)
    whole = json_lines(run_dir / "whole" / "incidents.jsonl")
    assert len(whole) > 10
    assert whole == [json.loads(json.dumps(incident._asdict())) for incident in looks.incidents]
    number = {(incident.stream, incident.start): incident.num_alarms for incident in looks.incidents}
    assert sum(number.values()) <= sum(event.alarm for event in looks.events)
    # The first half, and the rest by another process that goes on from its state.
    first = settings(run_dir, texts[:240], "parts", alarm_rule="run")
    start(first).run()
    write_lines(run_dir / "parts.jsonl", texts)
    start(first).run()
    parts = json_lines(run_dir / "parts" / "incidents.jsonl")
    names = ("stream", "start", "end", "ended", "num_alarms")
    assert [[i[name] for name in names] for i in parts] == [[i[name] for name in names] for i in whole]


def test_spot_judges_as_its_rule_does_on_the_scores(run_dir, texts):
    kept = Kept()
    start(settings(run_dir, texts[:60], alarm_rule="spot", target_fpr=5e-3), sinks=[kept]).run()
    rule = spot_rule(5e-3)
    step = jax.jit(rule.step)
    bundle = read_bundle(run_dir)
    stream = kept.events[0].stream
    state = rule.init(bundle.calibration_of(kept.events[0].client, rule.scores_needed))
    for event in [event for event in kept.events if event.stream == stream][:20]:
        state, threshold, alarm = step(state, np.float32(event.score))
        assert (event.threshold, event.alarm) == (pytest.approx(float(threshold), rel=1e-5), bool(alarm))


def test_false_discoveries_are_decided_over_all_streams(run_dir, texts):
    kept = Kept()
    start(settings(run_dir, texts, false_discovery_rate=0.1), sinks=[kept]).run()
    # The first level is that of LORD++, 0.05 * gamma(1); with alarms, levels and thresholds move.
    assert len({event.threshold for event in kept.events}) > 100
    p_value = TailPValues(read_bundle(run_dir).calibration_of(kept.events[0].client, 500))
    assert p_value(np.array([kept.events[0].threshold])) == pytest.approx(0.05 * 0.07720838 * np.log(2.0), rel=1e-2)


def test_a_changed_stream_gets_a_threshold_of_its_own_scores(tmp_path):
    generator = np.random.default_rng(0)
    calibration, scores = generator.exponential(size=1000), generator.exponential(size=6000)
    scores[2000:] *= 2.0  # The old threshold is then exceeded by 10 % instead of 1 %.
    threshold = float(np.quantile(calibration, 0.99))
    given, file = [], GrowingFile(tmp_path / "drift.jsonl")
    watch = Watch(
        Incidents(["cpu"], gap_seconds=1.0),
        drift=DriftMonitor(lambda client: calibration, delta=0.002),
        drift_lines=file,
        recalibrate=lambda stream, scores: given.append((stream, scores)),
        scores_needed=500,
    )
    for t, score in enumerate(scores.tolist()):
        watch.update([ScoredEvent("a", 0, float(t), t, score, threshold, score > threshold, np.ones(1))])
    file.close()
    stream, own = given[0]
    assert stream == "a" and len(own) == 500
    assert abs(np.quantile(own, 0.99) / (2.0 * -np.log(0.01)) - 1.0) < 0.2
    assert [line["what"] for line in json_lines(file.path)][:2] == ["drift", "recalibrated"]


def test_a_rule_that_is_set_anew_changes_its_own_stream_only(bundle):
    scorer = Scorer(bundle, constant_rule("quantile", 0.5), max_streams=4, max_batch=4)
    features = bundle.encoders[0].layout.num_features
    slot = np.arange(2, dtype=np.int32)
    events = Events(slot, slot * 0, np.zeros((2, features), np.float32), np.ones(2, bool), np.zeros(2), [0, 1])
    before = scorer.submit(events, [0, 0]).wait().threshold
    scorer.recalibrate(1, np.array([1.0, 2.0, 3.0]))
    assert scorer.submit(events, [0, 0]).wait().threshold.tolist() == [before[0], 2.0]
    assert before[0] == before[1] != 2.0


@pytest.mark.parametrize(("repetitions", "rank_from_above"), [(1, 1), (8, 4)])
def test_few_held_out_scores_make_the_usual_rate_the_least_they_can_show(bundle, repetitions, rank_from_above):
    """The k-th greatest of N is exceeded with k / (N + 1): 1 / 251, and 4 / 2001 is the most within 0.002."""
    few = np.random.default_rng(0).permutation(250 * repetitions).astype(np.float32)
    few_scores = dataclasses.replace(bundle, calibration_scores=few, calibration_client=np.zeros(len(few), np.int32))
    threshold = alarm_rule(LiveSettings(run="run", alarm_rule="conformal"), few_scores).init(few)
    assert threshold == len(few) - rank_from_above


def fleet_of(bundle, num_rows):
    """Two of the clients, a noisy one and one of a tenth of its scores, with rows a minute apart."""
    client = np.repeat(np.int32([0, 1]), num_rows)
    scores = np.random.default_rng(0).exponential(size=2 * num_rows) * np.where(client == 0, 1.0, 0.1)
    return dataclasses.replace(
        bundle,
        calibration_scores=scores.astype(np.float32),
        calibration_client=client,
        calibration_time=60.0 * np.tile(np.arange(float(num_rows)), 2),
    )


def test_a_budget_of_incidents_gives_quiet_and_noisy_streams_thresholds_of_their_own(bundle):
    """Ten stream-days at 1.5: at most 14 incidents of held-out rows, and 15 at the level of the next score."""
    fleet = fleet_of(bundle, 7200)
    rule = alarm_rule(LiveSettings(run="run"), fleet)
    thresholds = [float(rule.init(fleet.calibration_of(c, rule.scores_needed, rule.scope))) for c in (0, 1)]
    assert thresholds[0] / thresholds[1] == pytest.approx(10.0, rel=0.1)

    def incidents(factor):
        limits = [factor * threshold for threshold in thresholds]
        rows = zip(fleet.calibration_client.tolist(), fleet.calibration_time, fleet.calibration_scores, strict=True)
        events = [ScoredEvent(f"{c}", c, t, 0, s, limits[c], s > limits[c], np.ones(1)) for c, t, s in rows]
        joined = Incidents(["cpu"], gap_seconds=usual_gap(fleet))
        return len({(i.stream, i.start) for i in [*joined.update(events), *joined.open()]})

    assert (incidents(1.0), incidents(0.9999)) == (14, 15)


def test_a_budget_is_the_rule_where_held_out_rows_can_show_it(bundle):
    """A stream-day has 1440 rows of a minute; the usual budget is of 1.5 incidents."""
    enough, few = fleet_of(bundle, 481), fleet_of(bundle, 479)
    untimed = dataclasses.replace(enough, step_seconds=np.full(4, np.nan), calibration_time=np.full(962, np.nan))
    assert [rule_of(LiveSettings(run="run"), fleet) for fleet in (enough, few)] == ["budget", "conformal"]
    assert rule_of(LiveSettings(run="run"), untimed) == "conformal"
    assert rule_of(LiveSettings(run="run", target_fpr=0.1), enough) == "conformal"
    with pytest.raises(ValueError, match="false_incidents_per_day=1.0 .* at least 1.5"):
        alarm_rule(LiveSettings(run="run", false_incidents_per_day=1.0), enough)
    with pytest.raises(ValueError, match="no times"):
        alarm_rule(LiveSettings(run="run", alarm_rule="budget"), untimed)


@pytest.mark.parametrize("over_budget", [0.0, 1e-6])
def test_incidents_over_the_budget_begin_a_training(run_dir, texts, over_budget):
    def refuse(bundle, recent):
        raise ValueError("for this test")

    chosen = {"on_drift": "retrain", "alarm_rule": "budget", "false_incidents_per_day": 100.0}
    others = {"retrain_rows": 4000, "retrain_over_budget": over_budget}  # Drift would need a third of the rows.
    start(settings(run_dir, texts, **chosen, **others), retrain=refuse).run()
    told = [line for line in json_lines(run_dir / "live" / "drift.jsonl") if line["what"] == "retraining"]
    assert [(line["streams"], line["incidents"] >= 1) for line in told] == ([([], True)] if over_budget else [])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"target_fpr": 1.0}, "target_fpr"),
        ({"alarm_rule": "run", "target_fpr": 0.01}, "target_fpr"),
        ({"target_fpr": 0.01, "false_discovery_rate": 0.1}, "false_discovery_rate"),
        ({"alarm_rule": "budget", "target_fpr": 0.01}, "target_fpr"),
        ({"alarm_rule": "spot", "false_incidents_per_day": 1.0}, "false_incidents_per_day"),
        ({"false_incidents_per_day": 1.0, "target_fpr": 0.01}, "false_incidents_per_day"),
        ({"false_incidents_per_day": 1.0, "false_discovery_rate": 0.1}, "false_discovery_rate"),
        ({"false_incidents_per_day": -1.0}, "false_incidents_per_day"),
        ({"spot_depth": 3}, "spot_depth"),
        ({"false_discovery_rate": 1.0}, "false_discovery_rate"),
        ({"false_discovery_rate": 0.1, "on_drift": "recalibrate"}, "false_discovery_rate"),
        ({"false_discovery_rate": 0.1, "on_drift": "retrain"}, "false_discovery_rate"),
        ({"retrain_rows": 1440}, "retrain_rows"),
        ({"on_drift": "retrain", "retrain_streams": 0.0}, "retrain_streams"),
        ({"on_drift": "retrain", "retrain_over_budget": -1.0}, "retrain_over_budget"),
        ({"incident_alarms": 0}, "incident_alarms"),
        ({"prometheus": "9464"}, "prometheus"),
        ({"dashboard": "8050"}, "dashboard"),
        ({"webhook": "localhost:9093"}, "webhook"),
    ],
)
def test_settings_without_effect_or_out_of_bounds_are_refused_by_name(arguments, name):
    with pytest.raises(ValueError, match=name):
        LiveSettings(run="run", **arguments)


def test_the_state_of_another_rule_is_refused(run_dir, texts):
    first = settings(run_dir, texts[:8])
    start(first).run()
    with pytest.raises(ValueError, match="alarm rule"):
        start(dataclasses.replace(first, alarm_rule="conformal", target_fpr=0.1))
