"""river's half-space trees, an online detector: a forest for each cluster of clients, scored and then taught."""

import numpy as np
from river import anomaly, compose, preprocessing

from rivals.live_protocol import Events, LiveTask, serve


class RiverDetector:
    """Ten trees of height 8 over windows of 250 events, river's own settings, on features scaled to [0, 1]."""

    def __init__(self, task: LiveTask, events: Events) -> None:
        self._stream = events.stream
        self._model_of = task.cluster[events.client]
        self._rows = [dict(zip(task.settings["columns"], row, strict=True)) for row in events.numeric.tolist()]
        self._threshold = task.settings["threshold"]
        self._models = [
            compose.Pipeline(preprocessing.MinMaxScaler(), anomaly.HalfSpaceTrees(seed=0))
            for _ in range(int(task.cluster.max()) + 1)
        ]

    def decide(self, first: int, last: int) -> np.ndarray:
        """One event after the other: river has no batches for it."""
        scores = np.empty(last - first)
        for i in range(first, last):
            model = self._models[self._model_of[self._stream[i]]]
            scores[i - first] = score = model.score_one(self._rows[i])
            model.learn_one(self._rows[i])
            _ = score > self._threshold
        return scores


def main() -> None:
    serve(RiverDetector)


if __name__ == "__main__":
    main()
