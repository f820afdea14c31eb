"""`steer extract`: steering vectors from texts of one's own, labelled spans, or a task's questions, at one site or many."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steering.errors import BadInput, unknown

from ..progress import talk

if TYPE_CHECKING:
    from steering.model.models import LoadedModel

    from ..studies.contrasts import ContrastSpec, Extracted
    from ..studies.sides import Body, Sides, Where

CONTRASTS = ("checkpoint", "mode", "texts")
TEXTS = ("plain", "chat")
PER_LAYER, PER_LABEL = "{layer}", "{label}"

PositiveOption = Annotated[Path | None, typer.Option(help="Text file, one text per line, that shows what is wanted.")]
NegativeOption = Annotated[Path | None, typer.Option(help="Text file, one text per line, that does not.")]
PairsOption = Annotated[
    Path | None, typer.Option(help="JSON lines (or CSV, Parquet) with positive, negative, and perhaps prompt.")
]
ReadOption = Annotated[
    str,
    typer.Option(help="Which tokens: last, first, mean, index:N, span:A:B (of the text; last is the last one fed)."),
]
TextsOption = Annotated[
    str, typer.Option(help="plain, or chat: each text is a user's turn in the model's chat template.")
]
HeldOutOption = Annotated[float, typer.Option(help="Share of the texts that quality is measured on; 0 for none.")]


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
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or auto.")] = "float32",
    device: Annotated[str | None, typer.Option(help="Device, such as cuda.")] = None,
) -> None:
    """Extract steering vectors; their quality on texts held out is shown, and stored beside each vector."""
    from dataclasses import replace

    from steering.model.models import load_model
    from steering.model.sites import Site

    from ..studies.contrasts import LABELS, ContrastSpec, extract_contrast
    from ..studies.quality_files import write_quality
    from ..studies.sides import Where

    contrast = _contrast(contrast, positive, negative, pairs, spans, prompts)
    if texts not in TEXTS:
        raise unknown("way to feed texts", texts, TEXTS, "--texts")
    if output.suffix != ".safetensors":
        raise BadInput(f"{output}: vectors are written as .safetensors; give a name that ends so.")
    if (layers is not None) != (PER_LAYER in output.name):
        raise BadInput(f"{output}: --layers writes a file per layer and needs {PER_LAYER} in the name, and only then.")
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
    given = None if contrast != "texts" or spans is not None else given_texts(positive, negative, pairs)
    found: dict[str, dict[Site, Extracted]]
    if spans is not None:
        found = _from_spans(spans, base, dtype, device, spec, label or [], output)
    else:
        model = load_model(base, dtype=dtype, device=device)
        for place in spec.places:
            model.layout.check(place)
        other = None
        if given is not None:
            sides = _text_sides(model, given, where, texts == "chat", method)
        elif contrast == "mode":
            sides = _sides(*(_questions(model, task, split, n, skip, form) for form in named))
        else:
            bodies = _own_prompts(model, prompts) if prompts else _questions(model, task, split, n, skip, named[0])
            sides = _sides(bodies, bodies)
            other = load_model(thinking, dtype=dtype, device=device)
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
            written.append(facts | ({"label": one} if one else {}))
    _tell([made for vectors in found.values() for made in vectors.values()])
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


def given_texts(
    positive: Path | None, negative: Path | None, pairs: Path | None
) -> tuple[list[str], list[str], list[str] | None, bool]:
    """(positive texts, negative texts, prompts, whether they are pairs) of files."""
    from ..tasks.own_texts import text_lines, text_pairs

    if pairs is not None:
        found = text_pairs(pairs)
        prompts = [pair.prompt or "" for pair in found] if found[0].prompt is not None else None
        return [pair.positive for pair in found], [pair.negative for pair in found], prompts, True
    if positive is None or negative is None:
        raise BadInput("Give both --positive and --negative, or --pairs.")
    return text_lines(positive), text_lines(negative), None, False


def _text_sides(
    model: LoadedModel,
    given: tuple[list[str], list[str], list[str] | None, bool],
    where: Where,
    chat: bool,
    method: str,
) -> Sides:
    """A person's texts as sides; what the tokenizer does not know is said. Lines of two files pair where the method needs pairs."""
    from ..studies.contrasts import METHODS
    from ..studies.sides import text_sides

    high, low, prompts, paired = given
    say_unknown(model, [*(prompts or []), *high, *low])
    paired = paired or (method in METHODS and METHODS[method].pairs)
    return text_sides(model, high, low, where, prompts=prompts, paired=paired, chat=chat)


def say_unknown(model: LoadedModel, texts: Sequence[str]) -> None:
    """Say on standard error which texts hold what the tokenizer does not know."""
    from steering.model.prompts import unknown_in

    odd = [found for text in dict.fromkeys(texts) if text and (found := unknown_in(model, text)) is not None]
    if odd:
        count = "" if len(odd) == 1 else f"{len(odd)} texts are not known whole. The first: "
        _say(f"Warning: {count}{odd[0].sentence(model.id)}", "yellow")


def _sides(positive: list[Body], negative: list[Body]) -> Sides:
    """A task's questions, asked in two ways or read in two models."""
    from ..studies.sides import Sides

    numbers = tuple(range(len(positive)))
    return Sides(tuple(positive), tuple(negative), (numbers, numbers), True)


def _own_prompts(model: LoadedModel, path: Path) -> list[Body]:
    from steering.model.prompts import encode_prompt

    from ..studies.sides import sequence_body
    from ..tasks.own_texts import text_lines

    lines = text_lines(path)
    say_unknown(model, lines)
    return [sequence_body(model, encode_prompt(model, line), f"Prompt {k + 1}") for k, line in enumerate(lines)]


def _questions(model: LoadedModel, task: str, split: str, n: int, skip: int, form: str) -> list[Body]:
    """A task's questions in a form."""
    from steering.model.prompts import encode_prompt

    from ..studies.readings import training_problems
    from ..studies.sides import sequence_body
    from ..tasks.task import TASKS, Encodes, check_form, resolve_task
    from .prompts import task_of

    if task == "find-start":
        check_form(TASKS[task], form)
        ids = [encode_prompt(model, problem.prompt(form)) for problem in training_problems(n)]  # type: ignore[arg-type]
    else:
        found = resolve_task(*task_of(task))
        check_form(found, form)
        items = found.items(split, skip + n)[skip:]
        ids = [
            found.encode(model, item, form)
            if isinstance(found, Encodes)
            else encode_prompt(model, found.prompt(item, form))
            for item in items
        ]
    return [sequence_body(model, one, f"Question {k + 1} ({form})") for k, one in enumerate(ids)]


def _from_spans(
    path: Path, base: str, dtype: str, device: str | None, spec: ContrastSpec, labels: list[str], output: Path
) -> dict[str, dict[Any, Extracted]]:
    from steering.extraction import LabelledTrace, labelled_trace
    from steering.model.models import load_model

    from ..studies.contrasts import LABELS, extract_contrast, extract_labels
    from ..studies.sides import span_sides
    from ..tasks.own_texts import own_traces

    traces = own_traces(path)
    known = sorted({label for trace in traces for label in trace.labels})
    for label in labels:
        if label not in known:
            raise unknown("label", label, known, str(path))
    wanted = labels or known
    if len(wanted) > 1 and PER_LABEL not in output.name:
        raise BadInput(
            f"{output}: {path} has the labels {', '.join(wanted)}; put {PER_LABEL} into the name, or choose one by --label."
        )
    names = [_file_name(label) for label in wanted]
    if len(set(names)) < len(names):
        raise BadInput(f"Some labels of {path} give one file name; choose them one by one with --label.")
    lost = sum(trace.lost for trace in traces)
    if lost:
        _say(f"Warning: {lost} annotated parts do not stand in their texts as they are, and are not read.", "yellow")
    model = load_model(base, dtype=dtype, device=device)
    say_unknown(model, [trace.text for trace in traces])
    read = [
        LabelledTrace(trace.token_ids, trace.token_spans)
        if trace.token_ids
        else labelled_trace(model, trace.text, trace.text_spans)
        for trace in traces
    ]
    if spec.method == LABELS:
        return extract_labels(model, read, spec, wanted)
    return {
        label: extract_contrast(
            model, span_sides(read, label, spec.where),
            spec.model_copy(update={"name": label, "contrast": f"spans of {label} minus all other spans of {path.name}, {spec.read}"}),
        )
        for label in wanted
    }  # fmt: skip


def _tell(made: Sequence[Extracted]) -> None:
    """The quality table on standard error, and why a vector has no report."""
    from .quality import show_quality

    show_quality([one.stored.report for one in made if one.stored is not None], talk())
    missing: dict[str, int] = {}
    for one in made:
        if one.missing:
            missing[one.missing] = missing.get(one.missing, 0) + 1
    for sentence in missing:
        _say(sentence, "yellow")


def _say(text: str, style: str) -> None:
    talk().print(text, style=style, highlight=False, soft_wrap=True, markup=False)
