"""A setting as a field of a dataclass."""

import dataclasses
from typing import Any


def option(default: Any, text: str) -> Any:
    """A field with a default, and the help that its flag shows."""
    return dataclasses.field(default=default, metadata={"help": text})
