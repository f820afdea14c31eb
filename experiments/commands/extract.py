"""`steer extract`: steering vectors from texts of one's own, labelled spans, or a task's questions, at one site or many."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steering.errors import BadInput, unknown

from ..progress import talk
from .options import (
    DeviceOption,
    DtypeOption,
    HeldOutOption,
    NegativeOption,
    PairsOption,
    PositiveOption,
    ReadOption,
    TextsOption,
    check_texts,
)
from .quality import show_quality
from .warnings import say_controls, say_unknown, warn

if TYPE_CHECKING:
    from steering.model.sites import Site

    from ..studies.contrasts import ContrastSpec, Extracted
    from ..studies.sides import Where

CONTRASTS = ("checkpoint", "mode", "texts")
PER_LAYER, PER_LABEL = "{layer}", "{label}"


def extract(
    output: Annotated[
        Path,
        typer.Argument(
            help="Where to write the vector (.safetensors); {layer} in it with --layers, {label} with --spans."
        ),
    ],
    base: Annotated[str, typer.Option(help="Base model: hub id, folder, or builtin:base.")] = "builtin:base",
    thinking: Annotated[str, typer.Option(help="Thinking model for the checkpoint contrast.")] = "builtin:thinking",
    contrast: Annotated[
        str,
        typer.Option(
            help="checkpoint: thinking minus base on the same tokens; mode: one prompt form minus another; texts: what the files hold "
            "(the default where there are any, else checkpoint)."
        ),
    ] = "",
    site: Annotated[str, typer.Option(help="Where: blocks.<layer>.hook_resid_post")] = "blocks.1.hook_resid_post",
    layers: Annotated[
        str | None, typer.Option(help="Several layers in one pass, such as 8,12,16; a file each, --site's kind.")
    ] = None,
    positive: PositiveOption = None,
    negative: NegativeOption = None,
    pairs: PairsOption = None,
    spans: Annotated[
        Path | None,
        typer.Option(
            help="Records with text and labelled spans; a vector per label, or --label's with another --method."
        ),
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="With --spans: this label only; repeatable.")] = None,
    read: ReadOption = "",
    method: Annotated[
        str,
        typer.Option(
            help="difference, paired, principal, principal-difference, principal-global, logistic; labels for --spans. "
            "By default paired for pairs, labels for spans, else difference."
        ),
    ] = "",
    texts: TextsOption = "plain",
    held_out: HeldOutOption = 0.3,
    seed: Annotated[int, typer.Option(help="Seed of what is held out.")] = 0,
    name: Annotated[str, typer.Option(help="What the vector is called.")] = "",
    prompts: Annotated[
        Path | None, typer.Option(help="Text file, one prompt per line, for the checkpoint contrast.")
    ] = None,
    task: Annotated[
        str, typer.Option(help="find-start (training problems), a data set, or a YAML file with a task.")
    ] = "find-start",
    split: Annotated[str, typer.Option(help="Split of the data set. Choose one that no evaluation uses.")] = "train",
    n: Annotated[int, typer.Option(help="Questions.")] = 256,
    skip: Annotated[
        int, typer.Option(help="Questions of the data set's split passed over first, which a sweep may choose on.")
    ] = 0,
    forms: Annotated[
        str, typer.Option(help="Prompt form that is read (checkpoint), or the two of mode: think,quick.")
    ] = "",
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
) -> None:
    """Extract steering vectors; their quality on texts held out is shown, and stored beside each vector."""
    from steering.model.models import load_model
    from steering.model.sites import Site

    from ..studies.contrasts import LABELS, ContrastSpec, extract_contrast
    from ..studies.quality_files import write_quality
    from ..studies.sides import Where
    from ..studies.sources import OwnTexts, as_items, asked_items, questions
    from ..studies.sources import prompts as prompts_of
    from ..tasks.own_texts import text_lines
    from ..tasks.remarks import say
    from ..tasks.task import resolve_task
    from .prompts import task_of

    contrast = _contrast(contrast, positive, negative, pairs, spans, prompts)
    check_texts(texts)
    if output.suffix != ".safetensors":
        raise BadInput(f"{output}: vectors are written as .safetensors; give a name that ends so.")
    if (layers is not None) != (PER_LAYER in output.name):
        raise BadInput(f"{output}: --layers writes a file per layer and needs {PER_LAYER} in the name, and only then.")
    if PER_LABEL in output.name and spans is None:
        raise BadInput(f"{output}: {PER_LABEL} in the name is for the labels of --spans.")
    if label and spans is None:
        raise BadInput("--label names labels of --spans; give that file too.")
    if texts == "chat" and (contrast != "texts" or spans is not None):
        raise BadInput(
            "--texts chat is for --positive and --negative or --pairs; a task's forms and spans are fed as they are."
        )
    method = method or ("paired" if pairs else LABELS if spans else "difference")
    if method == LABELS and read not in ("", "window"):
        raise BadInput(
            f"The method {LABELS} reads its own window of each span; --read {read} goes with another --method."
        )
    where = Where.parse(read or ("window" if spans else "last"))
    named = _forms(forms, contrast)
    first, wanted = Site.parse(site), _layers(layers)
    spec = ContrastSpec(
        sites=tuple(str(replace(first, layer=layer)) for layer in wanted) or (str(first),), read=str(where), method=method,
        held_out=held_out, seed=seed, name=name or _name(contrast, named if forms else [], positive, negative, pairs),
        contrast=_words(contrast, named, where, texts, positive, negative, pairs),
    )  # fmt: skip
    if spans is not None:
        found = _from_spans(spans, base, dtype, device, spec, label or [], output)
        if name and len(found) == 1:
            found = {one: {place: _called(made, name) for place, made in own.items()} for one, own in found.items()}
    else:
        own = OwnTexts.read(positive, negative, pairs) if contrast == "texts" else None
        lines = text_lines(prompts) if prompts is not None else []
        if own is not None and own.alike:
            warn(f"Warning: {own.alike}")
        model = load_model(base, dtype=dtype, device=device)
        for place in spec.places:
            model.layout.check(place)
        say_unknown(model, own.every if own is not None else lines)
        if texts == "plain":
            say_controls(model, own.every if own is not None else lines)
        other = None
        if own is not None:
            sides = own.sides(model, where, chat=texts == "chat", method=method)
        else:
            asked = resolve_task(*task_of(task))
            read_in = (
                [prompts_of(model, lines)] if lines else [questions(model, asked, split, n, skip, f) for f in named]
            )
            sides = as_items(read_in[0], read_in[-1])
            other = load_model(thinking, dtype=dtype, device=device) if contrast == "checkpoint" else None
            if not lines:
                both = [model, other] if other is not None else [model]
                say(asked, {split: asked_items(asked, split, n, skip)}, [(one, form) for one in both for form in named])
        found = {"": extract_contrast(model, sides, spec, thinking=other)}
    written = []
    for one, vectors in found.items():
        for place, made in vectors.items():
            path = output.with_name(
                output.name.replace(PER_LAYER, str(place.layer)).replace(PER_LABEL, _file_name(one))
            )
            made.vector.save(path)
            report = write_quality(path, made.stored)
            facts: dict[str, Any] = {
                "file": str(path), "digest": made.vector.digest, "site": str(place), "norm": made.vector.norm,
                "quality": None if report is None else str(report),
            }  # fmt: skip
            if made.stored is not None:
                facts["sequences"] = {"extracted_from": made.stored.training, "held_out": made.stored.held_out}
            written.append(facts | ({"label": one} if one else {}))
    every = [made for vectors in found.values() for made in vectors.values()]
    show_quality([one.stored.report for one in every if one.stored is not None], talk())
    for made in every:
        if made.stored is not None:
            talk().print(made.stored.sentence, highlight=False, soft_wrap=True, markup=False)
    for sentence in dict.fromkeys(one.missing for one in every if one.missing):
        warn(sentence)
    print(json.dumps(written if layers or PER_LABEL in output.name else written[0]))


def _contrast(
    contrast: str,
    positive: Path | None,
    negative: Path | None,
    pairs: Path | None,
    spans: Path | None,
    prompts: Path | None,
) -> str:
    """What is contrasted, from what is given. Raises BadInput for what does not go together."""
    own = [file for file in (positive or negative, pairs, spans) if file is not None]
    if len(own) > 1 or (positive is None) != (negative is None):
        raise BadInput("Give both --positive and --negative, or --pairs, or --spans: one contrast at a time.")
    contrast = contrast or ("texts" if own else "checkpoint")
    if contrast not in CONTRASTS:
        raise unknown("contrast", contrast, CONTRASTS)
    if (contrast == "texts") != bool(own):
        needed = (
            "needs --positive and --negative, --pairs or --spans" if not own else "reads a task's questions, not files"
        )
        raise BadInput(f"--contrast {contrast} {needed}.")
    if contrast != "checkpoint" and prompts is not None:
        raise BadInput(f"--prompts goes with --contrast checkpoint, not with {contrast}.")
    return contrast


def _forms(forms: str, contrast: str) -> list[str]:
    named = [name for name in forms.split(",") if name]
    if contrast == "texts":
        if named:
            raise BadInput(f"--forms {forms} is for a task's questions, not for texts of your own.")
        return []
    named = named or (["think", "quick"] if contrast == "mode" else ["bare"])
    if len(named) != (2 if contrast == "mode" else 1):
        raise BadInput(
            f"--forms {forms}: {'mode takes two forms, the wanted one first' if contrast == 'mode' else 'checkpoint takes one form'}."
        )
    return named


def _layers(text: str | None) -> list[int]:
    parts = [] if text is None else text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise BadInput(f"--layers {text}: give layer numbers, such as 8,12,16.")
    return [int(part) for part in parts]


def _name(contrast: str, forms: Sequence[str], positive: Path | None, negative: Path | None, pairs: Path | None) -> str:
    if contrast == "texts":
        return pairs.stem if pairs else f"{positive.stem} - {negative.stem}" if positive and negative else "labels"
    if contrast == "mode":
        return f"{forms[0]} minus {forms[1]}" if forms else "think-first minus be-quick"
    return "thinking - base"


def _words(
    contrast: str,
    forms: Sequence[str],
    where: Where,
    texts: str,
    positive: Path | None,
    negative: Path | None,
    pairs: Path | None,
) -> str:
    """The contrast for the provenance."""
    if contrast == "mode":
        return f"{forms[0]} minus {forms[1]} form of the same questions, read at {where}"
    what = "positive minus negative of " + (
        pairs.name if pairs else f"{positive and positive.name}, {negative and negative.name}"
    )
    return f"{what}, {texts}, read at {where}"


def _file_name(label: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in label)


def _called(made: Extracted, name: str) -> Extracted:
    """Under another name."""
    return replace(made, vector=replace(made.vector, name=name))


def _from_spans(
    path: Path, base: str, dtype: str, device: str | None, spec: ContrastSpec, labels: list[str], output: Path
) -> dict[str, dict[Site, Extracted]]:
    """Vectors per label of a file of labelled spans."""
    from steering.model.models import load_model

    from ..studies.contrasts import LABELS, extract_contrast, extract_labels
    from ..studies.sides import span_sides
    from ..studies.sources import labelled_ids, labelled_texts

    traces, wanted = labelled_texts(path, labels)
    if len(wanted) > 1 and PER_LABEL not in output.name:
        raise BadInput(
            f"{output}: {path} has the labels {', '.join(wanted)}; put {PER_LABEL} into the name, or choose one by --label."
        )
    if len({_file_name(label) for label in wanted}) < len(wanted):
        raise BadInput(f"Some labels of {path} give one file name; choose them one by one with --label.")
    if lost := sum(trace.lost for trace in traces):
        warn(f"Warning: {lost} annotated parts do not stand in their texts as they are, and are not read.")
    model = load_model(base, dtype=dtype, device=device)
    say_unknown(model, [trace.text for trace in traces])
    say_controls(model, [trace.text for trace in traces])
    read = labelled_ids(model, traces)
    if spec.method == LABELS:
        return extract_labels(model, read, spec, wanted)
    found = {}
    for label in wanted:
        words = f"spans of {label} minus all other spans of {path.name}, read at {spec.read}"
        own = spec.model_copy(update={"name": label, "contrast": words})
        found[label] = extract_contrast(model, span_sides(read, label, spec.where), own)
    return found
