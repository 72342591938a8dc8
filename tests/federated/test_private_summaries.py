import numpy as np
import pytest

from fedjax_anomaly.federated.clustering import data_summaries
from fedjax_anomaly.federated.private_summaries import private_data_summaries, summary_sensitivity, summary_sums
from fedjax_anomaly.types import ClientData, FeatureLayout

LAYOUT, BOUND = FeatureLayout(2, (3, 2)), 5.0


def clients(num_windows: int) -> ClientData:
    """Two clients of encoded rows in windows of two; numeric values go beyond their bound."""
    rng = np.random.default_rng(0)
    series = np.zeros((2, 2 * num_windows, LAYOUT.num_features), np.float32)
    series[..., :2] = np.clip(4.0 * rng.normal(size=(2, 2 * num_windows, 2)), -BOUND, BOUND)
    for begin, size in ((2, 3), (5, 2)):
        series[..., begin : begin + size] = np.eye(size)[rng.integers(0, size, (2, 2 * num_windows))]
    starts = np.tile(2 * np.arange(num_windows, dtype=np.int32), (2, 1))
    return ClientData(series, starts, np.arange(num_windows) < np.array([[num_windows], [num_windows - 3]]))


def test_no_window_moves_a_summary_by_more_than_its_sensitivity():
    data = clients(30)
    data.series[0, 0, :2] = 1e6
    whole, moved = summary_sums(data, 0, LAYOUT, BOUND), []
    for window in range(30):
        others = np.arange(30) != window
        moved.append(np.linalg.norm(whole - summary_sums(data._replace(mask=data.mask & others), 0, LAYOUT, BOUND)))
    # 5/4 for each of two numeric columns at their bound, and 1 for each of two categorical ones.
    assert summary_sensitivity(LAYOUT) ** 2 == pytest.approx(4.5)
    assert max(moved) == pytest.approx(summary_sensitivity(LAYOUT))


def test_little_noise_gives_the_summaries_without_and_more_what_was_promised():
    data = clients(200)
    exact = data_summaries(data)
    close = private_data_summaries(data, LAYOUT, BOUND, 1e-6, np.random.default_rng(0))
    np.testing.assert_allclose(close, exact, atol=1e-4)
    noisy = [private_data_summaries(data, LAYOUT, BOUND, 0.5, np.random.default_rng(seed)) for seed in range(300)]
    means = (np.stack(noisy) - exact)[:, 0, :2]
    # z sqrt 4.5 on a sum over 200 windows, in units of the bound.
    assert means.std() == pytest.approx(BOUND * 0.5 * np.sqrt(4.5) / 200, rel=0.1)
