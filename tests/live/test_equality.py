"""Live scores are those of the batch evaluation of ending windows, on the same rows, to float tolerance."""

import dataclasses

import numpy as np
import pytest

from fedjax_anomaly.config_live import LiveSettings
from fedjax_anomaly.data.nezha import load_nezha
from fedjax_anomaly.data.smd import load_smd
from fedjax_anomaly.detection.anomaly_score import mean_score, pvalue_score
from fedjax_anomaly.detection.scoring import ending_row_errors
from fedjax_anomaly.detection.smoothing import causal_mean
from fedjax_anomaly.live.bundle import write_bundle
from fedjax_anomaly.live.start import start
from tests.live.fleet import SMALL, Kept, in_time_order, lines, small_bundle, untrained, write_lines


def batch_scores(experiment):
    """Float[L], of the rows of the test table."""
    federation, detector = experiment.federation, untrained(experiment)

    def errors(rows, runs):
        return ending_row_errors(
            experiment.model.column_errors, detector.params, detector.cluster, rows, runs, federation.window_length
        )

    score = mean_score
    if experiment.config.score == "pvalue":
        score = pvalue_score(errors(federation.validation, federation.validation_runs)[::2])
    scores = causal_mean(
        score(errors(federation.test, federation.test_runs)), federation.test_runs, experiment.config.score_smoothing
    )
    real = federation.test.row >= 0
    of_row = np.empty(real.sum())
    of_row[federation.test.row[real]] = scores[real]
    return of_row


def live_scores(bundle, table, folder):
    """Float[L], of the same rows, from JSON lines in the order of time."""
    write_bundle(folder, bundle)
    order = in_time_order(table)
    source = write_lines(folder / "events.jsonl", lines(table, order))
    sink = Kept()
    settings = LiveSettings(
        run=str(folder), source=str(source), follow=False, max_batch=16, write_scores="none", alarm_rule="run"
    )
    counts = start(settings, sinks=[sink]).run()
    assert counts.read == counts.scored == len(order)
    # Events of one stream come in order, and so does every batch.
    assert [event.time for event in sink.events] == sorted(event.time for event in sink.events)
    scores = np.empty(len(order))
    scores[order] = [event.score for event in sink.events]
    return scores, sink.events


@pytest.mark.parametrize(
    "settings",
    [
        {"score_smoothing": 3, "difference_columns": True, "encoding_scope": "client"},
        {"score": "pvalue", "model": "lstm_autoencoder"},
    ],
)
def test_live_scores_of_telemetry_are_those_of_the_batch(tmp_path, settings):
    experiment, bundle = small_bundle(dataclasses.replace(SMALL, **settings))
    assert len(np.unique(bundle.cluster)) == 2
    table = experiment.federation.dataset.test
    scores, events = live_scores(bundle, table, tmp_path)
    np.testing.assert_allclose(scores, batch_scores(experiment), rtol=2e-5, atol=1e-6)
    for event in events:
        assert event.alarm == (event.score > event.threshold)
        assert event.threshold == pytest.approx(bundle.thresholds[event.client])


def two_machines(real_data_dir, folder):
    """Machines 1-2 and 1-3 of SMD."""
    for part in ("train", "test", "test_label"):
        (folder / part).mkdir(parents=True)
        for found in (real_data_dir / "smd" / "ServerMachineDataset" / part).glob("machine-1-[23].*"):
            (folder / part / found.name).symlink_to(found)
    return load_smd(folder)


def nezha(real_data_dir, folder):
    return load_nezha(real_data_dir)


@pytest.mark.parametrize("load", [two_machines, nezha])
def test_live_scores_of_real_rows_are_those_of_the_batch(tmp_path, real_data_dir, load):
    """The first rows of the first two sources."""
    dataset, two = load(real_data_dir, tmp_path / "raw"), {}
    for part, size in (("train", 600), ("test", 150)):
        table = getattr(dataset, part)
        two[part] = table.take(np.concatenate([np.flatnonzero(table.source.codes == code)[:size] for code in (0, 1)]))
    experiment, bundle = small_bundle(
        dataclasses.replace(SMALL, num_clients=2, score_smoothing=2), dataclasses.replace(dataset, **two)
    )
    scores, _ = live_scores(bundle, two["test"], tmp_path)
    np.testing.assert_allclose(scores, batch_scores(experiment), rtol=2e-5, atol=1e-6)
