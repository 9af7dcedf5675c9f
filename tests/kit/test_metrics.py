"""Metrics of several processes are told as one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process


_SIGN = "from app.kit import metrics; metrics.signatures_accepted.inc(3); metrics.queue_depth.set(2)"
_TELL = "from app.kit import metrics; print(metrics.exposition().decode())"


def _run(program: str, folder: Path) -> str:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def test_processes_are_added_up_and_the_ended_ones_are_not_forgotten(tmp_path: Path) -> None:
    for _ in range(2):
        _run(_SIGN, tmp_path)
    told = _run(_TELL, tmp_path)
    assert "multitude_signatures_accepted_total 6.0" in told
