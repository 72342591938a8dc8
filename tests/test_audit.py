"""The command of audits: one clear line for what is wrong, and a non-zero exit."""

import subprocess
import sys


def test_a_folder_that_is_no_run_gets_one_clear_line(tmp_path):
    command = [sys.executable, "-m", "fedjax_anomaly.audit", f"--run={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "is not the folder of a run" in done.stderr
    assert done.stderr.count("\n") == 1
