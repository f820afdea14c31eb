"""`steer vectors`: look at vectors, and exchange them with other tools."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..progress import talk
from .audit import audit
from .decomposition import decompose
from .hub import pull, push, search
from .lens import lens
from .quality import quality
from .warnings import check_new, say_hint

if TYPE_CHECKING:
    from steering.vector.vectors import SteeringVector

LONGEST_NAME = 120
"""Letters of a vector's name that its file is named by."""
vectors_app = typer.Typer(help="Look at steering vectors and exchange them with other tools.", no_args_is_help=True)
FORMATS = ("gguf", "steering-vectors", "directions", "behaviour-means", "easysteer", "neuronpedia", "saklas", "tensor")
WRITTEN = ("gguf", "easysteer", "neuronpedia", "saklas", "tensor")
"""Formats that vectors are exported to."""


@vectors_app.command("show")
def show(
    files: Annotated[list[Path], typer.Argument(help="Vector files (.safetensors).")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Name, site, width, norm and provenance of vectors."""
    from steering.vector.vectors import SteeringVector

    facts = []
    for path in files:
        vector = SteeringVector.load(path)
        facts.append({"file": str(path), **_facts(vector), "provenance": vars(vector.provenance)})
    if as_json:
        print(json.dumps(facts, indent=1, sort_keys=True))
        return
    for fact in facts:
        print("\t".join(str(fact[key]) for key in ("file", "name", "site", "width", "norm", "digest")))


vectors_app.command("quality")(quality)
vectors_app.command("lens")(lens)
vectors_app.command("decompose")(decompose)
vectors_app.command("audit")(audit)
vectors_app.command("push")(push)
vectors_app.command("pull")(pull)
vectors_app.command("search")(search)


@vectors_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="File of another tool; saklas: the pack's folder.")],
    out: Annotated[Path, typer.Option(help="Folder for the vectors.")],
    kind: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "gguf",
    layers: Annotated[
        str | None,
        typer.Option(help="gguf: whose layer convention the file follows (llama.cpp, repeng, easysteer, ...)."),
    ] = None,
    site: Annotated[str | None, typer.Option(help="directions: where they belong, blocks.<layer>.hook_<kind>.")] = None,
    label: Annotated[str | None, typer.Option(help="behaviour-means: which behaviour.")] = None,
    layer: Annotated[int | None, typer.Option(help="behaviour-means: which 0-based layer.")] = None,
    raw: Annotated[bool, typer.Option(help="behaviour-means: keep the length of the difference.")] = False,
    rows: Annotated[str | None, typer.Option(help="tensor: what a row is, layers or hidden_states.")] = None,
    model_id: Annotated[
        str, typer.Option(help="Model that the vectors come from; saklas: which of the pack's models.")
    ] = "",
) -> None:
    """Read vectors of another tool; pickled files are read without running them."""
    from steering.errors import unknown

    readers: dict[str, Callable[[], list[SteeringVector]]] = {
        "gguf": lambda: _gguf(file, layers, model_id),
        "steering-vectors": lambda: _steering_vectors(file, model_id),
        "directions": lambda: _directions(file, site, model_id),
        "behaviour-means": lambda: _behaviour_means(file, label, layer, raw, model_id),
        "easysteer": lambda: _easysteer(file, model_id),
        "neuronpedia": lambda: _neuronpedia(file, model_id),
        "saklas": lambda: _saklas(file, model_id),
        "tensor": lambda: _tensor(file, rows, model_id),
    }
    if kind not in readers:
        raise unknown("format", kind, readers)
    written = []
    for vector in readers[kind]():
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", vector.name)[:LONGEST_NAME].strip("-.") or "vector"
        path = vector.save(out / f"{name}.{vector.site.name}.safetensors")
        written.append({"file": str(path), **_facts(vector)})
    print(json.dumps(written, indent=1))


@vectors_app.command("export")
def export(
    files: Annotated[list[Path], typer.Argument(help="Vector files (.safetensors), one per layer.")],
    out: Annotated[Path, typer.Option(help="The file to write; saklas: the folder.")],
    kind: Annotated[str, typer.Option("--format", help=f"One of {', '.join(WRITTEN)}.")] = "gguf",
    layers: Annotated[
        str, typer.Option(help="gguf: layer convention of the reader: llama.cpp, repeng, easysteer.")
    ] = "llama.cpp",
    model_hint: Annotated[
        str,
        typer.Option(help="gguf, easysteer: architecture of the model as its GGUF names it, such as qwen2 or llama."),
    ] = "",
    scale: Annotated[float, typer.Option(help="easysteer: how strongly; 1 adds each vector once.")] = 1.0,
    on: Annotated[str, typer.Option(help="easysteer: generated, prompt or all.")] = "generated",
    model_id: Annotated[str, typer.Option(help="neuronpedia: its own name of the model.")] = "",
    strength: Annotated[float, typer.Option(help="neuronpedia: default strength, from -100 to 100.")] = 1.0,
    name: Annotated[str, typer.Option(help="saklas: the pack's name; made from the vector's otherwise.")] = "",
    licence: Annotated[str, typer.Option(help="saklas: identifier of a licence, such as mit.")] = "",
    n_layers: Annotated[int | None, typer.Option(help="tensor: the model's number of layers.")] = None,
    rows: Annotated[str, typer.Option(help="tensor: what a row is, layers or hidden_states.")] = "layers",
) -> None:
    """Write vectors for another program: a GGUF control vector (llama.cpp, repeng, EasySteer), EasySteer's spec with its control vector,
    Neuronpedia's JSON of one vector, a pack of saklas, or a .pt tensor with a row per layer."""
    from steering.errors import BadInput, unknown
    from steering.vector.interchange import export_easysteer, export_gguf, export_saklas, export_tensor
    from steering.vector.vectors import SteeringVector

    writers: dict[str, Callable[[list[SteeringVector]], Path]] = {
        "gguf": lambda vectors: export_gguf(vectors, out, layers=layers, model_hint=model_hint),
        "easysteer": lambda vectors: export_easysteer(vectors, out, model_hint=model_hint, scale=scale, on=on),
        "neuronpedia": lambda vectors: _for_neuronpedia(vectors, out, model_id, strength),
        "saklas": lambda vectors: export_saklas(vectors, out, name=name, licence=licence or "unknown"),
        "tensor": lambda vectors: export_tensor(vectors, out, n_layers=n_layers, rows=rows),
    }
    if kind not in writers:
        raise unknown("format", kind, writers)
    of_others = {
        "--layers": (layers != "llama.cpp", ("gguf",)), "--model-hint": (bool(model_hint), ("gguf", "easysteer")),
        "--scale": (scale != 1.0, ("easysteer",)), "--on": (on != "generated", ("easysteer",)),
        "--model-id": (bool(model_id), ("neuronpedia",)), "--strength": (strength != 1.0, ("neuronpedia",)),
        "--name": (bool(name), ("saklas",)), "--licence": (bool(licence), ("saklas",)),
        "--n-layers": (n_layers is not None, ("tensor",)), "--rows": (rows != "layers", ("tensor",)),
    }  # fmt: skip
    if wrong := [option for option, (given, kinds) in of_others.items() if given and kind not in kinds]:
        raise BadInput(
            f"{wrong[0]} belongs to --format {' or '.join(of_others[wrong[0]][1])}, and does nothing in {kind}: leave it out."
        )
    held = [SteeringVector.load(file) for file in files]
    check_new(out)
    path = writers[kind](held)
    if kind in ("gguf", "easysteer"):
        say_hint(model_hint, {vector.provenance.model_id for vector in held})
    print(json.dumps({"file": str(path), "vectors": len(files)}))


def _facts(vector: SteeringVector) -> dict[str, object]:
    return {
        "name": vector.name,
        "site": vector.site.name,
        "width": vector.direction.shape[0],
        "norm": round(vector.norm, 6),
        "digest": vector.digest,
    }


def _needed(value: object, option: str, kind: str) -> None:
    from steering.errors import BadInput

    if value is None:
        raise BadInput(f"--format {kind} needs {option}.")


def _gguf(file: Path, layers: str | None, model_id: str) -> list[SteeringVector]:
    from steering.vector.interchange import import_gguf

    _needed(
        layers,
        "--layers, the convention that the file follows (llama.cpp, repeng, easysteer, cvector-generator)",
        "gguf",
    )
    return list(import_gguf(file, layers=str(layers), model_id=model_id).values())


def _steering_vectors(file: Path, model_id: str) -> list[SteeringVector]:
    from steering.vector.interchange import import_steering_vectors

    return list(import_steering_vectors(file, model_id=model_id).values())


def _directions(file: Path, site: str | None, model_id: str) -> list[SteeringVector]:
    from steering.model.sites import Site
    from steering.vector.interchange import import_directions

    _needed(site, "--site, where the directions belong", "directions")
    return list(import_directions(file, site=Site.parse(str(site)), model_id=model_id).values())


def _behaviour_means(
    file: Path, label: str | None, layer: int | None, raw: bool, model_id: str
) -> list[SteeringVector]:
    from steering.vector.interchange import import_behaviour_means

    _needed(label, "--label, the behaviour", "behaviour-means")
    _needed(layer, "--layer, the 0-based layer", "behaviour-means")
    means = import_behaviour_means(file, model_id=model_id)
    for warning in means.warnings:
        talk().print(f"Warning: {warning}", style="yellow", highlight=False, soft_wrap=True, markup=False)
    return [means.vector(str(label), int(layer or 0), rescaled=not raw)]


def _easysteer(file: Path, model_id: str) -> list[SteeringVector]:
    from steering.vector.interchange import import_easysteer

    return import_easysteer(file, model_id=model_id)


def _neuronpedia(file: Path, model_id: str) -> list[SteeringVector]:
    from steering.vector.interchange import import_neuronpedia

    return [import_neuronpedia(file, model_id=model_id)]


def _saklas(file: Path, model_id: str) -> list[SteeringVector]:
    from steering.vector.interchange import import_saklas

    return list(import_saklas(file, model_id=model_id).values())


def _tensor(file: Path, rows: str | None, model_id: str) -> list[SteeringVector]:
    from steering.vector.interchange import import_tensor

    _needed(
        rows,
        "--rows, what a row is: layers (the output of layer l) or hidden_states (row 0 is the embedding)",
        "tensor",
    )
    return list(import_tensor(file, rows=str(rows), model_id=model_id).values())


def _for_neuronpedia(vectors: list[SteeringVector], out: Path, model_id: str, strength: float) -> Path:
    from steering.errors import BadInput
    from steering.vector.interchange import export_neuronpedia

    if len(vectors) != 1:
        raise BadInput(f"Neuronpedia takes one vector at a time, not {len(vectors)}: write a file for each.")
    return export_neuronpedia(vectors[0], out, model_id=model_id, strength=strength)
