"""The state of a run on disk: written atomically, the two newest kept."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedjax_anomaly.federated.algorithm import FederatedState


class Checkpoints:
    """The checkpoints of one run, named after the number of rounds done. Use as a context manager.

    One process has them all, with no other beside it.

    Orbax is imported with the first one that is stored or looked for: it is slow to import, and a new run needs it only
    after its first rounds.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()

    @functools.cached_property
    def _manager(self) -> Any:
        import orbax.checkpoint as ocp

        self._directory.mkdir(parents=True, exist_ok=True)
        own = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix="checkpoints"
        )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=False, create=False, multiprocessing_options=alone
        )
        return ocp.CheckpointManager(self._directory, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        if "_manager" in vars(self):
            self._manager.close()

    @property
    def latest_round(self) -> int | None:
        """Rounds done in the newest checkpoint, or None where there is none."""
        return self._manager.latest_step()

    def save(self, state: FederatedState) -> None:
        """Stores a state; an existing checkpoint of the same round is kept."""
        import orbax.checkpoint as ocp

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
        import orbax.checkpoint as ocp

        if self.latest_round is None:
            raise FileNotFoundError(f"there is no checkpoint in {self._directory}; start without --resume.")
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), like)
        return self._manager.restore(self.latest_round, args=ocp.args.StandardRestore(shapes))
