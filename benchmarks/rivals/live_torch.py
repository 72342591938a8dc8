"""A plain PyTorch scorer: a window for each stream, standardised rows, one call for the events that are there."""

import numpy as np
import torch

from rivals.live_protocol import Events, LiveTask, serve
from rivals.torch_model import Autoencoder


class TorchDetector:
    """Scores the last rows of windows by their mean squared error."""

    def __init__(self, task: LiveTask, events: Events) -> None:
        settings = task.settings
        self._task, self._events = task, events
        self._model_of = task.cluster[events.client]
        shape = (len(events.names), settings["window_length"], len(task.mean))
        self._windows = np.zeros(shape, np.float32)
        self._begun = np.zeros(len(events.names), bool)
        self._models = []
        for k in range(int(task.cluster.max()) + 1):
            model = Autoencoder(shape[2], settings["hidden_size"], settings["latent_size"])
            model.load_state_dict({n: torch.from_numpy(w) for n, w in task.weights(k).items()}, strict=False)
            self._models.append(model.eval())

    @torch.inference_mode()
    def decide(self, first: int, last: int) -> np.ndarray:
        """Pushes rows into their windows, and scores all windows of a model at once."""
        task, streams = self._task, self._events.stream[first:last]
        numeric = self._events.numeric[first:last].astype(np.float64)
        rows = (np.sign(numeric) * np.log1p(np.abs(numeric)) - task.mean) / task.deviation
        rows = np.clip(rows, -task.settings["clip"], task.settings["clip"]).astype(np.float32)
        windows = np.empty((len(streams), *self._windows.shape[1:]), np.float32)
        for i, stream in enumerate(streams):
            window = self._windows[stream]
            if self._begun[stream]:
                window[:-1] = window[1:]
                window[-1] = rows[i]
            else:
                window[:] = rows[i]
                self._begun[stream] = True
            windows[i] = window
        scores = np.empty(len(streams))
        model_of = self._model_of[streams]
        for k in np.unique(model_of):
            chosen = np.flatnonzero(model_of == k)
            seen = torch.from_numpy(windows[chosen])
            scores[chosen] = (self._models[k](seen)[:, -1] - seen[:, -1]).square().mean(dim=1).numpy()
        _ = scores > task.settings["threshold"]
        return scores


def main() -> None:
    torch.set_num_threads(1)
    serve(TorchDetector)


if __name__ == "__main__":
    main()
