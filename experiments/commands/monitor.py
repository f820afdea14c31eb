"""`steer monitor`: what a text holds of vectors, probes and latents, token by token, without steering."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from steering.errors import BadInput

from ..progress import paper
from .options import RUNS, DeviceOption, DtypeOption, JsonOption, RunsOption
from .warnings import say_controls, warn

if TYPE_CHECKING:
    from ..studies.monitor import Monitored


def monitor(
    model: Annotated[str, typer.Option(help="The model that reads: hub id, folder, builtin:base.")] = "builtin:base",
    text: Annotated[str, typer.Option(help="A text, fed as it is written.")] = "",
    file: Annotated[Path | None, typer.Option(help="A file with the text.")] = None,
    row: Annotated[str, typer.Option("--row", help="RUN:KEY, a stored row: its prompt and its response.")] = "",
    vector: Annotated[list[Path] | None, typer.Option(help="Vector file (.safetensors); repeatable.")] = None,
    probe: Annotated[list[Path] | None, typer.Option(help="Probe file of two classes; repeatable.")] = None,
    sae: Annotated[str | None, typer.Option(help="Autoencoder: builtin:base, a folder, release/id.")] = None,
    latents: Annotated[str, typer.Option(help="Numbers of its latents, as in 464,183.")] = "",
    strongest: Annotated[
        int, typer.Option(min=0, help="Latents that are named at every token, the most active ones.")
    ] = 0,
    top: Annotated[int, typer.Option(min=1, help="Tokens that are listed per series, the largest ones.")] = 5,
    runs: RunsOption = RUNS,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Project a text's activations on vectors, probes and latents, token by token; nothing is steered."""
    from probes.exchange import load_probe
    from saes.loading import load_dictionary
    from steering.model.models import load_model
    from steering.model.prompts import encode_prompt
    from steering.vector.vectors import SteeringVector

    from ..studies.monitor import monitor as watch

    if sum(map(bool, (text, file, row))) != 1:
        raise BadInput("Give one text: --text, --file, or --row RUN:KEY.")
    parts = [part.strip() for part in latents.split(",") if part.strip()]
    if not all(part.isdigit() for part in parts):
        raise BadInput(f"--latents {latents}: give numbers of latents, such as 464,183.")
    vectors = [SteeringVector.load(path) for path in vector or []]
    probes = [load_probe(path) for path in probe or []]
    loaded = load_model(model, dtype=dtype, device=device)
    written = ""
    if row:
        ids, written_by = _row_ids(row, runs)
        if written_by != model:
            warn(f"Warning: the row was written by {written_by}; it is read here by {model}.")
    else:
        written = text if file is None else _read(file)
        say_controls(loaded, [written])
        ids = tuple(encode_prompt(loaded, written))
    dictionary = None if sae is None else load_dictionary(sae, model=loaded)
    found = watch(loaded, ids, vectors, probes, dictionary, [int(part) for part in parts], written, strongest)
    for remark in dict.fromkeys([*found.remarks, *(one.remark for one in found.series if one.remark)]):
        warn(f"Warning: {remark}")
    if as_json:
        print(json.dumps(found.to_dict(), ensure_ascii=False))
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("what", "kind", "site", "mean", "largest", "at its largest tokens"):
        table.add_column(head)
    for one in found.series:
        order = one.places[:top]
        words = "  ".join(f"{found.tokens[place]!r} #{place} {one.values[place]:.3g}" for place in order)
        table.add_row(one.name, one.kind, one.site, f"{one.mean:.3g}", f"{one.values[one.largest]:.3g}", words)
    if found.series:
        paper().print(table, highlight=False, markup=False)
    if found.strongest:
        paper().print(_strongest(found), highlight=False, markup=False)


def _strongest(found: Monitored) -> Table:
    """Per token, its most active latents."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("#", "token", "latents that are most active there"):
        table.add_column(head)
    for place, (token, own) in enumerate(zip(found.tokens, found.strongest, strict=True)):
        table.add_row(str(place), repr(token), "  ".join(f"{number}: {value:.3g}" for number, value in own) or "none")
    return table


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read as text: {error}.") from error


def _row_ids(row: str, runs: str) -> tuple[tuple[int, ...], str]:
    """Prompt and response of a stored row, and the model that wrote it. Raises BadInput."""
    import pyarrow.compute as pc

    from ..store.runs import Store

    run, colon, key = row.partition(":")
    if not colon or not key:
        raise BadInput(f"--row {row}: write RUN:KEY; `steer runs query` lists keys.")
    opened = Store(runs).open(run)
    table = opened.table(columns=["key", "arm", "prompt_ids", "token_ids"])
    table = table.filter(pc.equal(table["key"], key))
    if not table.num_rows:
        raise BadInput(f"Run {run} has no row {key}; `steer runs query` lists keys.")
    (found,) = table.to_pylist()
    (arm,) = [arm for arm in opened.manifest.arms if arm.name == found["arm"]]
    return (*found["prompt_ids"], *found["token_ids"]), arm.model
