"""The budget of false incidents is kept on fresh scores, and its level is that of counting anew."""

import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_anomaly.detection.incident_budget import allowed_incidents, incident_level, scaled_rule

GAP = 5.0


def count_incidents(alarm, stream, time, least=1):
    """By a plain loop over every stream's alarms in order of time."""
    found = 0
    for s in np.unique(stream):
        when = np.sort(time[alarm & (stream == s)])
        for bunch in np.split(when, np.flatnonzero(np.diff(when) > GAP) + 1):
            found += len(bunch) >= least
    return found


@pytest.mark.parametrize("least", [1, 2])
def test_the_level_is_that_of_counting_at_every_level(least):
    generator = np.random.default_rng(least)
    for _ in range(20):
        scores = generator.integers(0, 12, 80).astype(float)  # Many are equal.
        stream, time = generator.integers(0, 3, 80), generator.permutation(80) + 1.7e9
        for allowed in (0, 1, 4):
            level = np.inf
            for candidate in np.unique(scores)[::-1]:
                if count_incidents(scores > candidate, stream, time, least) > allowed:
                    break
                level = candidate
            found = incident_level(scores, stream, time, allowed=allowed, gap_seconds=GAP, least_alarms=least)
            assert found == level


def simulated(generator, streams, length, memory):
    """Scores of streams that differ tenfold; `memory` is the correlation of neighbours, before the exponential."""
    noise = generator.normal(size=(streams, length))
    for t in range(1, length):
        noise[:, t] = memory * noise[:, t - 1] + np.sqrt(1.0 - memory**2) * noise[:, t]
    return np.exp(noise) * np.geomspace(0.1, 1.0, streams)[:, None]


@pytest.mark.parametrize(("memory", "most"), [(0.0, 1.1), (0.9, 1.2)])
def test_fresh_scores_keep_the_budget_on_average(memory, most):
    """200 fleets of five streams, with 400 rows each to calibrate with and 1000 to be judged on; a day has 25 rows.

    80 stream-days at a budget of 0.1 allow for seven incidents, and at the level of the eighth 8 / 80 are to be
    expected. That rate varies by 1 / sqrt(8) of itself (the Gamma law of the eighth), and again by 1 / sqrt(20) as it
    is counted on 200 stream-days: by 3 % in the mean over 200 fleets.
    """
    generator, rates = np.random.default_rng(0), []
    streams, rows, fresh, day_rows, budget = 5, 400, 1000, 25, 0.1
    stream, time = np.repeat(np.arange(streams), rows), np.tile(np.arange(rows, dtype=float), streams)
    allowed = allowed_incidents(budget, streams * rows / day_rows)
    assert allowed == 7
    for _ in range(200):
        scores = simulated(generator, streams, rows + fresh, memory)
        calibration, after = scores[:, :rows], scores[:, rows:]
        scaled = calibration / calibration.mean(axis=1, keepdims=True)
        rule = scaled_rule(incident_level(scaled.ravel(), stream, time, allowed=allowed, gap_seconds=GAP))
        alarm = np.stack(
            [own > rule.init(own_calibration) for own, own_calibration in zip(after, calibration, strict=True)]
        )
        times = np.broadcast_to(np.arange(fresh), alarm.shape)
        who = np.broadcast_to(np.arange(streams)[:, None], alarm.shape)
        rates.append(count_incidents(alarm.ravel(), who.ravel(), times.ravel()) / (streams * fresh / day_rows))
    assert 0.9 * budget < np.mean(rates) < most * budget


def test_what_cannot_be_shown_is_refused():
    assert allowed_incidents(2.0, 0.5) == 0
    with pytest.raises(ValueError, match=r"false_incidents_per_day=1.9 .* at least 2"):
        allowed_incidents(1.9, 0.5)
    with pytest.raises(ValueError, match="finite"):
        incident_level(np.array([1.0, np.nan]), np.zeros(2), np.arange(2.0), allowed=0, gap_seconds=1.0)


def test_a_threshold_is_the_factor_times_the_mean():
    rule = scaled_rule(3.0)
    state = rule.init(np.float32([1.0, 2.0, 6.0]))
    assert [bool(rule.step(state, jnp.float32(score))[2]) for score in (9.0, 9.1)] == [False, True]
