"""The state of a run on disk: written atomically, the two newest kept."""

from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from fedjax_anomaly.federated.algorithm import FederatedState


class Checkpoints:
    """The checkpoints of one run, named after the number of rounds done. Use as a context manager."""

    def __init__(self, directory: Path) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False, create=True)
        self._manager = ocp.CheckpointManager(directory.resolve(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    @property
    def latest_round(self) -> int | None:
        """Rounds done in the newest checkpoint, or None where there is none."""
        return self._manager.latest_step()

    def save(self, state: FederatedState) -> None:
        """Stores a state; an existing checkpoint of the same round is kept."""
        done = int(np.max(state.round))  # The members of one compiled run are at the same round.
        if done not in self._manager.all_steps():
            self._manager.save(done, args=ocp.args.StandardSave(jax.device_get(state)))

    def restore(self, like: FederatedState) -> FederatedState:
        """Loads the newest state.

        Args:
          like: a state of the same run, or its shapes.

        Raises:
          FileNotFoundError: when there is no checkpoint.
          ValueError: when the stored state has another structure.
        """
        if self.latest_round is None:
            raise FileNotFoundError(f"there is no checkpoint in {self._manager.directory}; start without --resume.")
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), like)
        return self._manager.restore(self.latest_round, args=ocp.args.StandardRestore(shapes))
