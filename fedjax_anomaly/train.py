"""python -m fedjax_anomaly.train: trains and evaluates a federation from flags."""

from absl import app

from fedjax_anomaly import distributed
from fedjax_anomaly.command import carry_out, divide_cpu, stop_on_signals
from fedjax_anomaly.compilation_cache import keep_programs
from fedjax_anomaly.config_flags import config_from_flags, define_flags
from fedjax_anomaly.experiment import run_experiment, run_many
from fedjax_anomaly.reporting.console import Console

define_flags()


def main(arguments: list[str]) -> int:
    """Runs the experiment that the flags describe; returns the exit status."""
    return carry_out(arguments, _train)


def _train() -> int:
    config = config_from_flags()
    divide_cpu(config.host_devices)
    keep_programs(config.compilation_cache)
    together = distributed.joined(config.coordinator_address, config.num_processes, config.process_id)
    with together, stop_on_signals() as stop_requested, Console() as console:
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
        if outcome.interrupted:
            assert outcome.state is not None, "only rounds can be interrupted"
            if distributed.is_first():
                console.interrupted(outcome.output_dir, int(outcome.state.round))
            return 130
        if outcome.result is not None:
            console.results(outcome.result, outcome.output_dir)
    return 0


def run() -> None:
    """Entry point of the `fedjax-anomaly-train` command."""
    app.run(main)


if __name__ == "__main__":
    run()
