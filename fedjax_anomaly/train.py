"""python -m fedjax_anomaly.train: trains and evaluates a federation from flags."""

import os
import sys

import jax
from absl import app, flags, logging

from fedjax_anomaly.config import Config
from fedjax_anomaly.config_flags import config_from_flags, define_flags
from fedjax_anomaly.experiment import run_experiment, run_many
from fedjax_anomaly.experiment.training import stop_on_signals
from fedjax_anomaly.reporting.console import Console

define_flags()


def main(arguments: list[str]) -> int:
    """Runs the experiment that the flags describe; returns the exit status."""
    if len(arguments) > 1:
        return _fail(f"unknown argument {arguments[1]!r}; settings are flags, see --help.")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    try:
        config = config_from_flags()
        _configure_devices(config)
        return _run(config)
    except (ValueError, ArithmeticError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(str(error) if error.filename is None else f"{error.strerror}: {error.filename}")


def _configure_devices(config: Config) -> None:
    """Divides the CPU into devices; must come before JAX's first computation."""
    jax.config.update("jax_num_cpu_devices", config.host_devices or os.cpu_count() or 1)


def _run(config: Config) -> int:
    with stop_on_signals() as stop_requested, Console() as console:
        if len(config.members()) > 1:
            many = run_many(config, announce=console.announce, report=console.progress, stop_requested=stop_requested)
            if many.result is None:
                console.interrupted(many.output_dir, many.rounds_done)
                return 130
            console.summaries(many.result, many.output_dir)
            return 0
        outcome = run_experiment(
            config, announce=console.announce, report=console.progress, stop_requested=stop_requested
        )
        if outcome.result is None:
            assert outcome.state is not None, "only rounds can be interrupted"
            console.interrupted(outcome.output_dir, int(outcome.state.round))
            return 130
        console.results(outcome.result, outcome.output_dir)
    return 0


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 1


def run() -> None:
    """Entry point of the `fedjax-anomaly-train` command."""
    app.run(main)


if __name__ == "__main__":
    run()
