"""Holds the house to its one direction of flow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fedjax_anomaly"
LEAVES = {"types", "trees", "compiler_options"}
MAY_IMPORT = {
    "types": set(),
    "trees": {"types"},
    "data": LEAVES,
    "models": LEAVES,
    "privacy": LEAVES,
    "federated": LEAVES | {"privacy"},
    # Metrics per attack name what `data.table` calls normal.
    "detection": LEAVES | {"data"},
    "baselines": LEAVES | {"data", "detection", "federated", "models"},
    "reporting": LEAVES,
    # The choices of a setting are the types of the parts that they choose.
    "config": {"config_bounds", "config_machines", "config_option", "config_privacy", "data", "detection"},
    "config_bounds": {"config"},
    "config_machines": {"config"},
    "config_option": set(),
    "config_privacy": {"config"},
    "config_flags": {"config"},
    "live": LEAVES | {"config_live", "data", "detection", "models", "reporting"},
    "config_live": {"config_option", "detection", "live"},
    "experiment": LEAVES
    | {"baselines", "config", "config_machines", "data", "detection", "distributed"}
    | {"federated", "live", "models", "privacy", "reporting"},
    "auditing": LEAVES | {"config", "data", "experiment", "federated", "privacy", "reporting"},
    "command": set(),
    "distributed": {"types"},
    "compilation_cache": {"data"},
    "compiler_options": set(),
    "export": {"command", "live"},
    "audit": {"auditing", "command", "compilation_cache"},
    # Only to refuse at once what a retraining would refuse later.
    "detect": {"command", "compilation_cache", "config_flags", "config_live", "experiment", "live"},
    "retrain": {"command", "compilation_cache", "experiment", "live", "reporting"},
    "train": {"command", "compilation_cache", "config_flags", "distributed", "experiment", "reporting"},
    # What type checkers see; imported when first used.
    "__init__": {"config", "data", "detection", "distributed", "experiment", "federated", "models", "privacy"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_its_place_may(path):
    own = {name.split(".")[1] for name in imported(path) if name.startswith("fedjax_anomaly.")}
    places = {entry.name.removesuffix(".py") for entry in PACKAGE.iterdir()}
    assert (own & places) - {place(path)} <= MAY_IMPORT[place(path)]


@pytest.mark.parametrize("path", [p for p in FILES if place(p) == "data"], ids=lambda path: path.name)
def test_data_is_numpy_only(path):
    assert not {name.split(".")[0] for name in imported(path)} & {"jax", "flax", "optax"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_tensorflow_or_torch(path):
    assert not {name.split(".")[0] for name in imported(path)} & {"tensorflow", "torch"}


def test_a_command_starts_without_what_is_needed_only_after_the_first_round():
    """Together they take twice as long to import as JAX itself."""
    slow = {"dp_accounting", "jax_privacy", "matplotlib", "orbax", "pyarrow", "scipy.stats", "sklearn", "tensorboardX"}
    code = "import sys, fedjax_anomaly.train; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not slow & set(done.stdout.split())
