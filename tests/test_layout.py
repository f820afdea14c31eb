"""The project's own shape: imports go one way, and the page process never loads torch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_imports_go_one_way() -> None:
    allowed = {
        "steering": {"steering"},
        "saes": {"saes", "steering"},
        "probes": {"probes", "steering"},
        "experiments": {"experiments", "saes", "probes", "steering"},
        "app": {"app", "experiments", "saes", "probes", "steering"},
    }
    for room, may in allowed.items():
        for file in (ROOT / room).rglob("*.py"):
            named = set(
                re.findall(r"^\s*(?:from|import) (steering|saes|probes|experiments|app)\b", file.read_text(), re.M)
            )
            assert named <= may, f"{file} imports {named - may}"


def test_reading_runs_does_not_load_torch() -> None:
    read = "experiments.store.runs, experiments.evaluation.summary, experiments.traces, app.pairing, app.library"
    code = f"import sys, {read}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
