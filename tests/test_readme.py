"""The README's library example runs as it stands."""

import contextlib
import io
import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.mark.usefixtures("optax_promotion")
def test_the_library_example_runs_and_detects():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, "README.md", "exec"), {})
    metrics = dict(re.findall(r"'(\w+)': ([0-9.]+)", printed.getvalue()))
    assert float(metrics["auroc"]) > 0.7
    assert float(metrics["fpr"]) < 0.1
