import sys

import accelerator
import pytest
from contest.compare import Result
from workloads import W1


def test_without_a_gpu_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["accelerator.py", f"--output_dir={tmp_path}"])
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    with pytest.raises(SystemExit, match="no GPU"):
        accelerator.main()


def test_ratios_are_medians_within_repetitions_of_those_that_count():
    results = [
        Result("W1", "ours", (1.0, 2.0, 1.0)),
        Result("W1", "PyTorch loop", (50.0, 180.0, 80.0)),
        Result("W1", "ours, TF32", (1.0,)),
        Result("W1", "PyTorch loop, TF32", (1.0,), failure="ends at other parameters"),
    ]
    assert accelerator.ratios_of("W1", results) == {"W1_vs_pytorch_loop": 80.0}


def test_only_what_multiplies_in_float32_is_compared_by_its_parameters():
    entries = accelerator.entries_of(W1, all_of_ours=True)
    assert [entry.trains for entry in entries] == [
        entry.contestant.variables.get("JAX_DEFAULT_MATMUL_PRECISION") == "highest" for entry in entries
    ]
    assert sum(entry.trains for entry in entries) == 4
