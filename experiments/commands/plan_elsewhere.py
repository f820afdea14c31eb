"""`steer plan run`: a plan of plain additions on llama.cpp, on a GGUF file as it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steering.errors import BadInput

from .plan_options import ExpressionArgument, VectorOption, read_plan
from .warnings import warn

if TYPE_CHECKING:
    from steering.engine.record import Generation, Row
    from steering.executors.llama_cpp import LlamaCpp
    from steering.executors.nnsight_remote import RemoteRow
    from steering.plan.plan import Plan

LARGE = 5.0
"""Additions of so many lengths of their vectors are named."""


def run(
    plan: ExpressionArgument,
    prompt: Annotated[
        list[str], typer.Option(help="A prompt, as fed; may be given several times. With --chat, a user's turn.")
    ],
    model: Annotated[str, typer.Option(help=".gguf file, or smollm2.")],
    chat: Annotated[bool, typer.Option("--chat", help="Ask through the file's chat template.")] = False,
    system: Annotated[str | None, typer.Option(help="System prompt, with --chat.")] = None,
    vector: VectorOption = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens per text.")] = 200,
    sinks: Annotated[
        int | None,
        typer.Option(help="Leading tokens that `all` and `prompt` leave out: the model's attention sinks, often 1."),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of llama.cpp; by default those of PyTorch.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Write the same rows with this program's engine, and say where they part.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Texts without steering and under a plan, by llama.cpp: quantised weights as they are, several times as fast for one text on a CPU.

    Only plans of plain additions run there. Nothing can be read back, so no edits are counted: --compare writes the texts with the engine
    too, in float32."""
    from steering.engine.record import Row
    from steering.engine.sampling import GenerationSettings
    from steering.executors.llama_cpp import LlamaCpp
    from steering.model.named import NAMED, named_file
    from steering.plan.additions import additions
    from steering.plan.plan import Plan

    made = read_plan(plan, vector)
    found = additions(made)
    file = named_file(model) if model in NAMED else Path(model)
    settings = GenerationSettings(max_new_tokens)
    with LlamaCpp(file, threads=threads) as opened:
        fed = _fed(opened, model, prompt, chat, system)
        rows = [Row(ids, each) for ids in fed for each in (Plan(), made)]
        written = opened.generate(rows, settings, sinks=sinks or 0)
        engine, notes = _notes(made, model, sinks, rows, settings.max_new_tokens, written, compare)
        notes += [] if chat else _spelled(opened, model, prompt)
        if found.sinks_differ and sinks is None and not compare:
            notes.append(
                "The plan leaves a model's attention sinks out, and llama.cpp edits every token of the prompt: say how many leading tokens "
                "they are (--sinks 1 on most models; --compare finds out), or write `all | sinks`."
            )
        _show(opened, prompt, plan, written, engine, notes, as_json)


def _fed(opened: LlamaCpp, model: str, prompts: list[str], chat: bool, system: str | None) -> list[tuple[int, ...]]:
    """Ids of the prompts: as written, by the file's tokenizer, or each a user's turn in its chat template. Raises BadInput."""
    from steering.model.prompts import check_text

    for number, text in enumerate(prompts, 1):
        check_text(text)
        if not text.strip():
            raise BadInput(f"--prompt {number} says nothing; give at least one word.")
    if not chat:
        if system is not None:
            raise BadInput("A system prompt belongs to a chat template; ask with --chat.")
        return [opened.encode(text) for text in prompts]
    from steering.model.reader import load_reader

    from ..tasks.conversations import asked
    from ..tasks.own_texts import OwnPrompt

    given = [OwnPrompt(prompt=text) for text in prompts]
    return [one.ids for one in asked(load_reader(model), given, chat=True, system=system)]


def _spelled(opened: LlamaCpp, model: str, prompts: list[str]) -> list[str]:
    """Of prompts fed as written, those that spell special tokens."""
    odd = [text for text in dict.fromkeys(prompts) if opened.encode(text) != opened.encode(text, special=False)]
    if not odd:
        return []
    return [
        f"{len(odd)} of {len(set(prompts))} prompts spell special tokens of {model}, and the model is fed those tokens. With --chat "
        f"a prompt is fed as ordinary text. The first: {odd[0][:60]!r}"
    ]


def _notes(
    made: Plan, model: str, sinks: int | None, rows: list[Row], new: int, written: list[RemoteRow], compare: bool
) -> tuple[list[Generation], list[str]]:
    """The engine's texts of the same rows, with `compare`, and what is to be said, beside what could not be looked at."""
    from steering.plan.additions import additions

    if not compare:
        names = sorted({v.provenance.model_id or "an unnamed model" for v in made.vectors.values()})
        which = "they are of the weights in this file" if names == [model] else "that is the model of this file"
        said = [f"The vectors come from {', '.join(names)}; whether {which} is not checked (--compare does)."]
        if (times := additions(made).times) >= LARGE:
            said.append(
                f"The plan adds up to {times:.3g} times the length of its vectors. Whether that drowns the activations is not known here: "
                "llama.cpp gives none back (--compare measures it)."
            )
        return [], said
    from steering.engine.generation import generate
    from steering.engine.sampling import GenerationSettings
    from steering.executors.agreement import agreement
    from steering.model.models import load_model
    from steering.model.sinks import sinks_of

    loaded = load_model(model)
    if additions(made).sinks_differ and len(own := sinks_of(loaded).positions) != (sinks or 0):
        raise BadInput(
            f"{loaded.id} has {len(own)} attention sinks, which the plan leaves out, and --sinks is {sinks or 0}: give --sinks {len(own)}."
        )
    engine = generate(loaded, rows, GenerationSettings(new))
    warnings = dict.fromkeys(w for g in engine for w in g.receipt.warnings)
    parts = [("Unsteered", slice(0, None, 2)), ("Steered", slice(1, None, 2))]
    said = [f"{name}: {agreement(engine[part], written[part]).sentence}" for name, part in parts]
    return engine, [*said, *(warnings or ["The vectors come from the weights of this file."])]


def _show(
    opened: LlamaCpp,
    prompts: list[str],
    plan: str,
    written: list[RemoteRow],
    engine: list[Generation],
    notes: list[str],
    as_json: bool,
) -> None:
    from steering.engine.repetition import loop_of

    def words(ids: Sequence[int]) -> str:
        return opened.decode([token for token in ids if not opened.ends(token)])

    names = ("unsteered", plan)
    documents: list[dict[str, Any]] = [
        {
            "prompt": prompts[index // 2],
            "plan": names[index % 2],
            "text": words(row.token_ids),
            "finish": row.finish,
            "token_ids": list(row.token_ids),
            "edits_planned": row.planned,
        }
        for index, row in enumerate(written)
    ]
    for document, own in zip(documents, engine, strict=False):
        document |= {"engine_text": words(own.token_ids), "engine_token_ids": list(own.token_ids)}
    ends = frozenset(token for row in written for token in row.token_ids[-1:] if opened.ends(token))
    for row, document in zip(written, documents, strict=True):
        if (loop := loop_of(row.token_ids, ends)) is not None:
            notes = [*notes, f"The text of {document['plan']!r} {loop.sentence}."]
    for note in notes:
        warn(note) if not as_json else print(note, file=sys.stderr)
    if as_json:
        print(json.dumps({"file": str(opened.path), "notes": notes, "rows": documents}, indent=1))
        return
    for index, document in enumerate(documents):
        which = f"prompt {index // 2 + 1}, " if len(prompts) > 1 else ""
        edits = (
            f"{document['edits_planned']} edits asked for, {len(document['token_ids'])} tokens, {document['finish']}"
        )
        print(f"--- {which}{document['plan']}: {edits}\n{document['text']}")
        if "engine_text" in document:
            same = document["engine_token_ids"] == document["token_ids"]
            print("--- by the engine: the same" if same else f"--- by the engine:\n{document['engine_text']}")
