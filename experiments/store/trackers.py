"""Summaries of a run to an experiment tracker. The store stays the truth; a tracker gets numbers and the run's name.

1. A tracker's package is imported when it is asked for and at no other time.
2. Metrics are named `split/arm/quantity`; intervals and n go with each accuracy.
3. Wandb and trackio share an interface; mlflow has its own.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

from steering.errors import BadInput, unknown

from .runs import Run

TRACKERS = ("wandb", "trackio", "mlflow")
PROJECT = "steering-workbench"


def check_tracker(name: str | None) -> None:
    """Raises BadInput for a tracker that is unknown or not installed, before anything runs."""
    if name is None:
        return
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS, "--track")
    if importlib.util.find_spec(name) is None:
        raise BadInput(f"--track {name} needs its package: pip install 'steering-workbench[{name}]'.")


def metrics(run: Run) -> dict[str, float]:
    """The numbers of a run's summary, by `split/arm/quantity`. Shares are in 0 to 1, tokens are means per row."""
    return dict(_metrics(run.summary() or {}))


def _metrics(summary: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for split in summary.get("splits", []):
        for arm in split["arms"]:
            head = f"{split['split']}/{arm['name']}"
            if arm["accuracy"] is not None:
                yield f"{head}/accuracy", arm["accuracy"]["value"]
                yield f"{head}/accuracy_low", arm["accuracy"]["interval"]["low"]
                yield f"{head}/accuracy_high", arm["accuracy"]["interval"]["high"]
            yield f"{head}/n", arm["n"]
            for name in ("truncated_rate", "unscorable", "mean_tokens"):
                if arm[name] is not None:
                    yield f"{head}/{name}", arm[name]
            change = arm["versus_baseline"]
            if change is not None:
                yield f"{head}/difference", change["difference"]
                yield f"{head}/difference_low", change["interval"]["low"]
                yield f"{head}/difference_high", change["interval"]["high"]
                yield f"{head}/p", change["p"]


def track(name: str | None, run: Run) -> None:
    """Send a finished run's numbers and settings; what the tracker prints goes to standard error. Raises as `check_tracker`."""
    check_tracker(name)
    if name is not None:
        with contextlib.redirect_stdout(sys.stderr):
            _send(name, run)


def _send(name: str, run: Run) -> None:
    package, manifest = importlib.import_module(name), run.manifest
    config = {
        "run": manifest.run_id,
        "status": manifest.status,
        "store": str(run.folder),
        "models": dict(manifest.facts.get("models", {})),
    }
    if name == "mlflow":
        package.set_experiment(PROJECT)
        with package.start_run(run_name=manifest.run_id):
            package.log_params({key: str(value)[:500] for key, value in config.items()})
            package.log_dict(manifest.spec, "spec.json")
            package.log_metrics({key.replace(" ", "_"): float(value) for key, value in metrics(run).items()})
        return
    session = package.init(project=PROJECT, name=manifest.run_id, config=config | {"spec": manifest.spec})
    try:
        package.log(metrics(run))
    finally:
        session.finish()
