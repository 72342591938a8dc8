"""Classical detectors of scikit-learn, centralized: trained on all clients' windows together.

`no_model`, `pca` and `kmeans` reconstruct a window and score each of its rows; the others score a window as a whole,
and each of its rows has the window's score. Windows are flattened to T * F features. Nothing here is federated: these
methods see every client's rows in one place.

scikit-learn is imported where it is used: it is slow to import, and most runs train in rounds.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

from fedjax_anomaly.baselines.windows import labelled_windows, training_windows
from fedjax_anomaly.data.clients import Federation
from fedjax_anomaly.detection.scoring import mean_over_windows
from fedjax_anomaly.types import RowSet

ClassicalMethod = Literal["no_model", "pca", "kmeans", "isolation_forest", "one_class_svm", "linear_svm", "rbf_svm"]

SAW_ATTACK_LABELS: frozenset[ClassicalMethod] = frozenset({"linear_svm", "rbf_svm"})
"""The supervised methods: their results must say that they saw attack labels in training."""

WindowScores = Callable[[Float[np.ndarray, "N T F"]], Float[np.ndarray, "N T"]]
"""Windows -> a score of each of their rows; higher is more anomalous."""

_VARIANCE_KEPT = 0.95
_CENTRES = 32
_KERNEL_FEATURES = 300
_OUTLIERS_ALLOWED = 0.05
_CHUNK_VALUES = 2**22


def fit(method: ClassicalMethod, federation: Federation, *, seed: int, max_windows: int = 20_000) -> WindowScores:
    """Fits a detector to the training windows of all clients.

    - `no_model`: mean squared deviation of a row from the mean window.
    - `pca`: mean squared reconstruction error of a row; the components keep 95 % of the variance.
    - `kmeans`: mean squared deviation of a row from the nearest of 32 centres of windows (mini-batch k-means).
    - `isolation_forest`: 100 trees, each grown on 256 windows.
    - `one_class_svm`: RBF kernel approximated by 300 Nystroem features, nu = 0.05, solved by stochastic gradients; the
      exact solver takes quadratic time.
    - `linear_svm`, `rbf_svm`: classify windows as normal or anomalous, supervised by the labels of training rows; a
      window is anomalous if any of its rows is, and both classes weigh the same. The RBF kernel is approximated
      likewise.

    Args:
      method: see above.
      federation: the clients' data; the test rows and the held-out rows are not looked at.
      seed: of k-means, the forest, the kernel's landmarks and stochastic gradients.
      max_windows: windows that are fitted to, evenly spaced over all clients' windows where there are more.

    Returns:
      The window scores.

    Raises:
      NoAttacksError: for a supervised method without attacks among the training rows.
      ValueError: for an unknown method.

    References:
      Scholkopf et al. 2001, "Estimating the support of a high-dimensional distribution".
      Liu, Ting and Zhou 2008, "Isolation forest".
      Williams and Seeger 2001, "Using the Nystroem method to speed up kernel machines".
    """
    if method not in get_args(ClassicalMethod):
        raise ValueError(f"method={method!r} is unknown; the methods are {', '.join(get_args(ClassicalMethod))}.")
    if method in SAW_ATTACK_LABELS:
        windows, label = labelled_windows(federation, max_windows)
        return _whole_windows(_classifier(method, _flat(windows), label, seed).decision_function)
    flat = _flat(training_windows(federation, max_windows))
    if method in _RECONSTRUCTIONS:
        return _squared_deviation(_RECONSTRUCTIONS[method](flat, seed))
    if method == "isolation_forest":
        from sklearn.ensemble import IsolationForest

        forest = IsolationForest(random_state=seed).fit(flat)
        return _whole_windows(lambda windows: -forest.score_samples(windows))
    machine = _one_class_machine(flat, seed)
    return _whole_windows(lambda windows: -machine.decision_function(windows))


def row_scores(window_scores: WindowScores, rows: RowSet, window_length: int) -> Float[np.ndarray, " L"]:
    """The score of every row, averaged over the windows that it lies in.

    Args:
      window_scores: from `fit`.
      rows: what to score; every row lies in at least one window.
      window_length: T.

    Guarantees:
      Equal to a plain loop over windows (test:
      `tests/baselines/test_classical.py::test_row_scores_equal_a_plain_loop_over_windows`).
    """
    offsets = np.arange(window_length)
    chunk = max(1, _CHUNK_VALUES // (window_length * rows.series.shape[1]))

    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for i in range(0, len(rows.starts), chunk):
            starts = rows.starts[i : i + chunk]
            yield starts, window_scores(rows.series[starts[:, None] + offsets])[..., None]

    return mean_over_windows(chunks(), len(rows.row), window_length)[:, 0]


_FlatFunction = Callable[[np.ndarray], np.ndarray]


def _squared_deviation(reconstruct: _FlatFunction) -> WindowScores:
    """Each row's mean squared deviation from its reconstruction, a function [N, T * F] -> [N, T * F]."""

    def scores(windows: np.ndarray) -> np.ndarray:
        deviation = windows - reconstruct(_flat(windows)).reshape(windows.shape)
        return np.square(deviation).mean(axis=2)

    return scores


def _whole_windows(score: _FlatFunction) -> WindowScores:
    """Gives every row the score of its window, a function [N, T * F] -> [N]."""
    return lambda windows: np.repeat(score(_flat(windows))[:, None], windows.shape[1], axis=1)


def _flat(windows: np.ndarray) -> np.ndarray:
    return windows.reshape(len(windows), -1)


def _mean(flat: np.ndarray, seed: int) -> _FlatFunction:
    mean = flat.mean(axis=0, dtype=np.float64).astype(np.float32)
    return lambda windows: np.broadcast_to(mean, windows.shape)


def _principal_components(flat: np.ndarray, seed: int) -> _FlatFunction:
    from sklearn.decomposition import PCA

    pca = PCA(_VARIANCE_KEPT, svd_solver="covariance_eigh").fit(flat)
    return lambda windows: pca.inverse_transform(pca.transform(windows))


def _nearest_centre(flat: np.ndarray, seed: int) -> _FlatFunction:
    from sklearn.cluster import MiniBatchKMeans

    kmeans = MiniBatchKMeans(min(_CENTRES, len(flat)), n_init=3, random_state=seed).fit(flat)
    return lambda windows: kmeans.cluster_centers_[kmeans.predict(windows)]


_RECONSTRUCTIONS: dict[ClassicalMethod, Callable[[np.ndarray, int], _FlatFunction]] = {
    "no_model": _mean,
    "pca": _principal_components,
    "kmeans": _nearest_centre,
}


def _one_class_machine(flat: np.ndarray, seed: int) -> Any:
    from sklearn.linear_model import SGDOneClassSVM
    from sklearn.pipeline import make_pipeline

    machine = SGDOneClassSVM(nu=_OUTLIERS_ALLOWED, tol=1e-5, random_state=seed)
    return make_pipeline(_rbf_features(flat, seed), machine).fit(flat)


def _classifier(method: ClassicalMethod, flat: np.ndarray, label: Bool[np.ndarray, " N"], seed: int) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    machine: Any = LinearSVC(dual=False, class_weight="balanced")
    if method == "rbf_svm":
        machine = make_pipeline(_rbf_features(flat, seed), machine)
    return machine.fit(flat, label)


def _rbf_features(flat: np.ndarray, seed: int) -> Any:
    """Nystroem features with the kernel width of scikit-learn's `gamma="scale"`."""
    from sklearn.kernel_approximation import Nystroem

    variance = float(flat.var(dtype=np.float64))
    gamma = 1.0 / (flat.shape[1] * variance) if variance > 0.0 else 1.0
    return Nystroem(gamma=gamma, n_components=min(_KERNEL_FEATURES, len(flat)), random_state=seed)
