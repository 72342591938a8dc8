"""One of the two processes of `test_distributed`: `python distributed_worker.py FOLDER PORT PROCESS_ID`."""

import dataclasses
import pickle
import sys
from pathlib import Path

import jax
import numpy as np

from fedjax_anomaly import distributed
from fedjax_anomaly.experiment import pictures, run_experiment


def main(folder: Path, port: str, process_id: int) -> None:
    jax.config.update("jax_num_cpu_devices", 1)
    pictures.draw_figures = lambda *arguments: []  # They take longer than all the rest.
    dataset, config = pickle.loads((folder / "task.pickle").read_bytes())
    if process_id == 1:
        config = dataclasses.replace(config, output_dir=str(folder / "nothing comes here"))
    with distributed.joined(f"localhost:{port}", 2, process_id):
        calls = []
        stopped = run_experiment(
            config,
            dataset,
            announce=calls.append,
            report=lambda *progress: calls.append(progress),
            stop_requested=lambda: process_id == 1,
        )
        assert stopped.interrupted
        resumed = run_experiment(dataclasses.replace(config, resume=True), dataset, announce=calls.append)
        own = np.full(2, -0.0 if process_id == 0 else 1.0, np.float32)
        np.savez(
            folder / f"process-{process_id}.npz",
            *jax.tree.leaves(jax.device_get(resumed.state)),
            stopped_after=stopped.state.round,
            calls=len(calls),
            has_result=resumed.result is not None,
            sign_of_zero=np.signbit(distributed.arrays_from_first(own)),
        )
        print("output_dir", resumed.output_dir)
        if process_id == 1:
            raise ValueError("the second process cannot go on")
        # The first one waits on its device, for a sum that the other takes no part in.
        distributed.arrays_from_first(own)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
