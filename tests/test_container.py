"""The container's file: what it copies is what the package is built from, and what it starts is a command that there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer.main

from app.launch import SINGLE, command, environment, read_address
from experiments.commands.cli import app
from steering.errors import BadInput
from tests.test_wheel import COPIED

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "Containerfile").read_text().replace("\\\n", " ").splitlines()


def words(instruction: str) -> list[list[str]]:
    """What stands behind each of these instructions, as words; the JSON form too."""
    found = [line.removeprefix(instruction).strip() for line in LINES if line.startswith(f"{instruction} ")]
    return [json.loads(text) if text.startswith("[") else text.split() for text in found]


def test_what_is_copied_is_what_the_package_is_built_from() -> None:
    copied = {word for entry in words("COPY") for word in entry[:-1]}
    assert copied == {*COPIED, "requirements.lock"} and all((ROOT / name).exists() for name in copied)
    ignored = {line.rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    assert not copied & ignored and {".venv", "runs"} <= ignored
    assert re.search(r"requires-python = \">=3\.11", (ROOT / "pyproject.toml").read_text()) and words("FROM") == [
        ["python:3.11-slim"]
    ]
    assert words("USER") == [["steering"]], "not the root user"


def test_what_it_starts_is_a_command_with_these_options() -> None:
    (entry,), (given,), (port,) = words("ENTRYPOINT"), words("CMD"), words("EXPOSE")
    assert entry == ["steer"] and given[0] == "app"
    verb = typer.main.get_command(app).commands["app"]  # type: ignore[attr-defined]
    context = verb.make_context("app", given[1:])
    assert (
        context.params["address"] == "0.0.0.0"
        and context.params["port"] == int(port[0])
        and not context.params["browser"]
    )
    assert str(context.params["runs"]).startswith(words("VOLUME")[0][0])


def test_an_address_to_listen_on_is_one() -> None:
    assert "--server.address=0.0.0.0" in command(8501, False, "0.0.0.0")
    assert "--server.address=127.0.0.1" in command(8501, False) and read_address("localhost") == "127.0.0.1"
    for text in ("", "example.org", "127.0.0.1:8501", "*"):
        with pytest.raises(BadInput, match="is no address: give 127.0.0.1, 0.0.0.0"):
            read_address(text)


def test_a_server_that_others_may_reach_is_not_one_users() -> None:
    assert environment("runs")[SINGLE] == "1" and environment("runs", address="::1")[SINGLE] == "1"
    assert environment("runs", address="0.0.0.0")[SINGLE] == "0" and environment("runs", hosts=["a.org"])[SINGLE] == "0"
