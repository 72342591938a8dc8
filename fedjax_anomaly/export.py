"""python -m fedjax_anomaly.export: writes the scorer of a finished run as a file for an edge node."""

import os
from typing import cast, get_args

from absl import app, flags

from fedjax_anomaly.command import carry_out
from fedjax_anomaly.live.export import ExportFormat, export_scorer

_RUN = flags.DEFINE_string("run", "", "Folder of the finished run whose scorer is exported.")
_OUTPUT = flags.DEFINE_string("output", "", "The file to write.")
_FORMAT = flags.DEFINE_enum("format", "onnx", list(get_args(ExportFormat)), "Of the file.")
_CLIENT = flags.DEFINE_string(
    "client", "", "Whose encoding, model and threshold: a name or a number; may be left out where there is only one."
)


def main(arguments: list[str]) -> int:
    """Writes the file that the flags name; returns the exit status."""
    return carry_out(arguments, _export)


def _export() -> int:
    for flag in (_RUN, _OUTPUT):
        if not flag.value:
            raise ValueError(f"{flag.name} is missing: give --run=RUN_DIR and --output=FILE.")
    scorer = export_scorer(_RUN.value, _OUTPUT.value, cast(ExportFormat, _FORMAT.value), _CLIENT.value)
    name = scorer.bundle.client_names[scorer.client]
    print(f"{_OUTPUT.value}: the scorer of {name}, {os.path.getsize(_OUTPUT.value) / 1024:.0f} KiB")
    return 0


def run() -> None:
    """Entry point of the `fedjax-anomaly-export` command."""
    app.run(main)


if __name__ == "__main__":
    run()
