"""Controllers with the runs that they steered: banks, readouts and biases as safetensors in the run's folder, by digest.

1. A run of hybrids can be run again, or looked into, from its own folder.
2. Reading gives back what was written: the controller has the digest that the arm names.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from steering.errors import BadInput
from steering.hybrid import Controller, Readout, ShiftBank
from steering.hybrid.controller import KEYS
from steering.hybrid.shift import FORMAT as BANK
from steering.vector.vectors import write_tensors

FOLDER = "controllers"
BIAS = "steering-workbench/logit-bias@1"


def keep_controllers(place: Path, rules: Iterable[Controller]) -> None:
    """Write every part of the rules that is not yet in the folder `place`."""
    for rule in rules:
        for part in (rule.bank, rule.categories, rule.trigger):
            if part is not None and not (path := place / f"{part.digest}.safetensors").exists():
                part.save(path)
        if rule.bias is not None and not (path := place / f"{rule.facts['bias']}.safetensors").exists():
            write_tensors(path, {"bias": rule.bias.float().cpu().contiguous()}, {"format": BIAS})


def stored_controller(place: Path, facts: dict[str, Any]) -> Controller:
    """The controller of an arm, from the parts in the folder `place`. Raises BadInput when a part is missing or damaged."""
    banks: dict[str, ShiftBank] = {}
    readouts: dict[str, Readout] = {}
    biases: dict[str, Tensor] = {}
    for path in sorted(place.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as handle:
                kind = (handle.metadata() or {}).get("format")
        except Exception as error:
            raise BadInput(f"{path} cannot be read ({error}); run the hybrid again to write it anew.") from error
        if kind == BANK:
            banks[path.stem] = ShiftBank.load(path)
        elif kind == BIAS:
            biases[path.stem] = load_file(path)["bias"]
        else:
            readouts[path.stem] = Readout.load(path)
    return Controller.from_facts({k: v for k, v in facts.items() if k in KEYS}, banks, readouts, biases)
