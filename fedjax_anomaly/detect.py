"""python -m fedjax_anomaly.detect: scores live streams of events with the models of a finished run."""

import gc

import jax
from absl import app
from rich.console import Console

from fedjax_anomaly.command import carry_out, stop_on_signals
from fedjax_anomaly.compilation_cache import keep_programs
from fedjax_anomaly.config_flags import define_settings, settings_from_flags
from fedjax_anomaly.config_live import LiveSettings
from fedjax_anomaly.live.addresses import address_of
from fedjax_anomaly.live.engine import Counts
from fedjax_anomaly.live.start import start

define_settings(LiveSettings)


def main(arguments: list[str]) -> int:
    """Scores until the source ends or a signal asks to stop; returns the exit status."""
    return carry_out(arguments, _detect)


def _detect() -> int:
    settings = settings_from_flags(LiveSettings)
    jax.config.update("jax_num_cpu_devices", 1)
    keep_programs(settings.compilation_cache)
    console = Console(highlight=False, soft_wrap=True, stderr=True)
    if settings.on_drift == "retrain":
        from fedjax_anomaly.experiment.retraining import retrainer  # Slow to import, and needed by nothing else.

        retrainer(settings.run, settings.retrain_rounds)  # Refuses a run that it is not for.
    with stop_on_signals() as stop_requested:
        engine = start(settings)
        gc.freeze()  # A full collection of what JAX has loaded takes 50 ms, in which no event is scored.
        console.print(f"scoring {settings.source} with {settings.run}, writing to {settings.output}", markup=False)
        if settings.dashboard:
            host, port = address_of("dashboard", settings.dashboard, usual_port=8050)
            console.print(f"dashboard at http://{host}:{port}/", markup=False)
        counts = engine.run(stop_requested)
    console.print(_told(counts), markup=False)
    return 0


def _told(counts: Counts) -> str:
    reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(counts.rejected.items()))
    rejected = f"{sum(counts.rejected.values())} rejected" + (f" ({reasons})" if reasons else "")
    return f"{counts.read} read = {counts.scored} scored + {rejected}; {counts.alarms} alarms"


def run() -> None:
    """Entry point of the `fedjax-anomaly-detect` command."""
    app.run(main)


if __name__ == "__main__":
    run()
