import jax.numpy as jnp
import numpy as np
from scipy.special import softmax
from sklearn.metrics import log_loss

from fedjax_anomaly.models.reconstruction import column_errors
from fedjax_anomaly.types import FeatureLayout


def test_column_errors_are_squared_error_and_cross_entropy():
    rng = np.random.default_rng(0)
    layout = FeatureLayout(2, (3, 2))
    labels = [rng.integers(3, size=6), rng.integers(2, size=6)]
    rows = np.concatenate([rng.normal(size=(6, 2)), np.eye(3)[labels[0]], np.eye(2)[labels[1]]], axis=1)
    outputs = rng.normal(size=(6, 7))
    errors = np.asarray(column_errors(layout, jnp.asarray(rows, jnp.float32), jnp.asarray(outputs, jnp.float32)))
    assert errors.shape == (6, layout.num_columns)
    np.testing.assert_allclose(errors[:, :2], (rows - outputs)[:, :2] ** 2, rtol=1e-5)
    for i in range(6):
        expected = [
            log_loss([labels[0][i]], softmax(outputs[i : i + 1, 2:5], axis=1), labels=[0, 1, 2]),
            log_loss([labels[1][i]], softmax(outputs[i : i + 1, 5:], axis=1), labels=[0, 1]),
        ]
        np.testing.assert_allclose(errors[i, 2:], expected, rtol=1e-4)


def test_a_layout_without_categories_has_numeric_errors_only():
    errors = column_errors(FeatureLayout(3), jnp.ones((2, 4, 3)), jnp.zeros((2, 4, 3)))
    np.testing.assert_array_equal(errors, np.ones((2, 4, 3)))


def test_column_slices_tile_the_encoded_row():
    layout = FeatureLayout(2, (3, 2))
    positions = [list(range(s.start, s.stop)) for s in layout.column_slices()]
    assert positions == [[0], [1], [2, 3, 4], [5, 6]]
    assert layout.num_features == 7
