"""`steer doctor`: the machine's facts, and the self-tests of the engine on a model."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


def doctor(
    model: Annotated[
        str, typer.Argument(help="Model to test: hub id, folder, .gguf file, smollm2, or built-in.")
    ] = "builtin:base",
    dtype: Annotated[
        str, typer.Option(help="float32, bfloat16, float16, or auto: bfloat16 on a GPU that has it, else float32.")
    ] = "float32",
    device: Annotated[
        str | None, typer.Option(help="Device, such as cuda or cpu, or auto: the GPU if it has bfloat16, else the CPU.")
    ] = None,
    runs: Annotated[str, typer.Option("--runs", help="Run store: a folder or a URL.")] = "runs",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Is the machinery right here? Hooks, cache, batches, samples and receipts, tried on a model. Exit code 1 if a check fails."""
    from steering.model.models import load_model

    from ..doctor.checks import diagnose, failed
    from ..doctor.machine import machine_facts

    facts, loaded = machine_facts(runs), load_model(model, dtype=dtype, device=device, trial=False)
    checks = diagnose(loaded)
    wrong = list(failed(checks))
    if as_json:
        print(
            json.dumps(
                {"model": model, "dtype": dtype, "machine": facts, "checks": [asdict(c) for c in checks]}, indent=1
            )
        )
    else:
        console = Console()
        console.print(_machine(facts), highlight=False)
        table = Table(title=f"{model}, {dtype}, {loaded.device}", title_justify="left", box=SIMPLE_HEAD)
        for name in ("", "check", "measured"):
            table.add_column(name)
        for check in checks:
            mark = {True: "ok", False: "FAILED", None: "not applicable"}[check.passed]
            table.add_row(mark, check.name, check.measured + (f" ({check.means})" if check.passed is False else ""))
        console.print(table)
    if wrong:
        raise typer.Exit(1)


def _machine(facts: dict) -> str:  # type: ignore[type-arg]
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    devices = "; ".join(" ".join(str(v) for v in device.values()) for device in facts["devices"])
    missing = ", ".join(name for name, there in facts["optional"].items() if not there) or "none"
    store = facts["runs"]
    return (
        f"Python {facts['python']}, {facts['system']}, {facts['cores']} cores ({facts['threads']} threads), "
        f"{facts['free_memory_gib']} of {facts['memory_gib']} GiB of memory free\n{packages}\nDevices: {devices}\n"
        f"Optional packages that are not here: {missing}\nModels from {facts['models']['cache']}"
        f"{' (offline)' if facts['models']['offline'] else ''}\nRuns in {store.get('url') or store['folder']}"
        f"{'' if store.get('writable', True) else ' (NOT writable)'}"
    )
