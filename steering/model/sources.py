"""Where a model's files are: built in, known by name, a GGUF file, the folder of an adapter, a delta or a checkpoint, or the hub.

1. Nothing is loaded to find it, and nothing is fetched: a known name whose file is not here is refused with the command that fetches it.
2. A name that is none of these is refused with the nearest that is.
"""

from __future__ import annotations

import difflib
import os
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from ..errors import BadInput, unknown
from .deltas import DELTA, PREFIX, kept_delta
from .gguf_models import gguf_checkpoint, gguf_in
from .named import NAMED, named_file
from .weight_files import is_pickled

BUILTIN_FOLDER = Path(__file__).parents[1] / "builtin"
BUILTINS = {
    f"builtin:{name}": BUILTIN_FOLDER / name for name in ("base", "thinking", "careful-base", "careful-thinking")
}
STARTS = {"builtin:untraced": BUILTIN_FOLDER / "untraced"}
"""What trainings begin from; it is no model of a pair."""
ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Source:
    """A model as it was named, and where its files lie."""

    name: str
    place: Path | str
    """A folder, a GGUF file, or a hub id."""

    @property
    def is_adapter(self) -> bool:
        """Whether it is an adapter, which belongs to a base model."""
        return isinstance(self.place, Path) and (self.place / ADAPTER).is_file()

    @property
    def is_delta(self) -> bool:
        """Whether it holds what of a base model's weights is changed."""
        return isinstance(self.place, Path) and (self.place / DELTA).is_file()

    @property
    def is_pickled(self) -> bool:
        """Whether its weights are pickled (`pytorch_model.bin`), and not there as safetensors."""
        return isinstance(self.place, Path) and self.place.is_dir() and is_pickled(self.place)

    def checkpoint(self) -> Path | str:
        """What transformers loads from: the folder or hub id; of a GGUF file its folder in the cache, made where there is none."""
        return gguf_checkpoint(self.place) if isinstance(self.place, Path) and self.place.is_file() else self.place


def find_source(name: str) -> Source:
    """Where `name` lies. Raises BadInput for an unknown built-in, a folder or file that is not there, and one that holds several models."""
    if name.startswith("builtin:"):
        folder = (BUILTINS | STARTS).get(name)
        if folder is None:
            raise unknown("model", name, [*BUILTINS, *STARTS, *NAMED])
        if not (folder / "model.safetensors").exists():
            made = "Train it: steer pair untraced" if name in STARTS else "Train the pair: steer pair train"
            raise BadInput(f"{name} has no weights in {folder}. {made} --install.")
        return Source(name, folder)
    if name.startswith(PREFIX):
        return Source(name, kept_delta(name))
    if not name.strip():
        raise BadInput(
            f"The model's name is empty. Give a hub id, a folder, a .gguf file, or one of {', '.join([*BUILTINS, *NAMED])}."
        )
    path = Path(name).expanduser()
    if path.is_dir():
        return Source(name, (None if (path / ADAPTER).is_file() or (path / DELTA).is_file() else gguf_in(path)) or path)
    if name in NAMED:
        return Source(name, named_file(name))
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            beside = sorted(p.name for p in path.parent.glob("*.gguf"))[:8] if path.parent.is_dir() else []
            hint = f" Beside it: {', '.join(beside)}." if beside else ""
            raise BadInput(f"There is no GGUF file at {name}.{hint}")
        return Source(name, path)
    if path.is_file():
        raise BadInput(
            f"{name} is a file. Give the folder that holds it (config.json beside the weights), or a .gguf file."
        )
    if name.startswith((".", "/", "~")):
        raise BadInput(
            f"No model folder at {name}. Give a folder that holds config.json and *.safetensors, a .gguf file, or a hub id."
        )
    if "/" not in name and name not in NAMED and get_close_matches(name, NAMED, 1, 0.85):
        raise unknown(
            "model", name, [*BUILTINS, *NAMED]
        )  # before a hub is asked, which may take long to be out of reach
    return Source(name, name)


def refusal(source: Source, error: Exception, revision: str | None = None) -> BadInput:
    """The error for what could not be loaded: what was wrong, and what to give instead."""
    name = source.name
    at = f" at revision {revision}" if revision else ""
    known = [*BUILTINS, *NAMED]
    if any(isinstance(e, pickle.UnpicklingError) for e in _causes(error)):
        asked = re.search(r"GLOBAL ((?:\w+\.)*\w+)", " ".join(str(e) for e in _causes(error)))
        wants = f"asks for {asked[1]} when it is unpickled" if asked else "is no plain pickle of tensors"
        return BadInput(
            f"Cannot load model {name!r}: its pickled weights file {wants}; refused, and nothing of it was run. Ask its author for "
            "safetensors."
        )
    unreachable = any(
        isinstance(e, LocalEntryNotFoundError | OfflineModeIsEnabled | ConnectionError) for e in _causes(error)
    )
    if isinstance(source.place, str) and unreachable:
        near = difflib.get_close_matches(name, known, n=1)
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
        why = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
        meant = f"Did you mean {near[0]!r}? " if near else ""
        return BadInput(
            f"Cannot load model {name!r}{at}: it is not on this machine, and {why}. {meant}"
            f"{'Unset it' if offline else 'Connect to the network'} once to fetch it, or give a folder that holds the model, or one of "
            f"{', '.join(known)}."
        )
    return BadInput(
        f"Cannot load model {name!r}{at}: {first_line(error)} Give a hub id, a local folder with *.safetensors, a .gguf file, or a known "
        f"name: {', '.join(known)}."
    )


def first_line(error: Exception) -> str:
    """The beginning of what an error says, as a sentence."""
    said = str(error).strip().split("\n")[0][:300]
    return said if said.endswith((".", "!", "?")) else said + "."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
