"""tests/cuda/run_on_gpu.sh does what it says, tried on the emulator. Not how fast anything is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("PHI3_TEST_BUILD", ROOT / "build"))


def emulated() -> bool:
    cache = BUILD / "CMakeCache.txt"
    return cache.exists() and "PHI3_CUDA:STRING=emulated" in cache.read_text()


@pytest.mark.skipif(not emulated(), reason="no build with PHI3_CUDA=emulated")
def test_the_script_prints_a_table():
    script = ROOT / "tests/cuda/run_on_gpu.sh"
    environment = {**os.environ, "BUILD": str(BUILD), "PYTHON": sys.executable}
    done = subprocess.run(
        [script, "--dry-run"], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("| q4_0 |")]
    assert any("prefill of 8" in line for line in table)
    assert any("decode, depth 0" in line for line in table)
    assert any("load to first token" in line for line in table)
