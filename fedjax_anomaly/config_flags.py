"""Command lines from frozen dataclasses: one absl flag per setting, such as those of `Config`."""

import dataclasses
import typing
from typing import Any, TypeVar, cast

from absl import flags

from fedjax_anomaly.config import Config, choices_of, load_config

Settings = TypeVar("Settings")


def define_flags() -> None:
    """Defines one absl flag per setting of a run, with its default and help, and `--config`."""
    flags.DEFINE_string("config", "", "config.json of an earlier run to run again; flags beside it change it.")
    define_settings(Config)


def define_settings(kind: type) -> None:
    """Defines one absl flag per field of a dataclass, whose metadata hold its `help`."""
    define: dict[type, Any] = {
        bool: flags.DEFINE_bool,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }
    types = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        text = field.metadata["help"]
        if choices := choices_of(field, kind):
            flags.DEFINE_enum(field.name, str(field.default), list(choices), text)
        else:
            define[types[field.name]](field.name, field.default, text)


def config_from_flags() -> Config:
    """The settings given on the command line, over those of the file that `--config` names.

    Raises:
      ValueError: for settings out of range or in contradiction.
      OSError: when the file cannot be read.
    """
    names = [field.name for field in dataclasses.fields(Config)]
    values: dict[str, Any] = {name: flags.FLAGS[name].value for name in names}
    if flags.FLAGS["config"].value:
        stored = dataclasses.asdict(load_config(flags.FLAGS["config"].value)) | {"output_dir": ""}
        values = {name: values[name] if flags.FLAGS[name].present else stored[name] for name in names}
    return Config(**values)


def settings_from_flags(kind: type[Settings]) -> Settings:
    """A dataclass whose flags were defined by `define_settings`, as given on the command line.

    Raises:
      ValueError: for settings out of range or in contradiction.
    """
    names = [field.name for field in dataclasses.fields(cast(Any, kind))]
    return kind(**{name: flags.FLAGS[name].value for name in names})
