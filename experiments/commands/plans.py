"""`steer plan`: write plans down, and see what they would cover; `steer generate`: texts with and without one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from steering.errors import BadInput, unknown

from .exchange import pull_plan, push_plan
from .plan_elsewhere import run
from .plan_options import ExpressionArgument, VectorOption, read_plan
from .warnings import check_new, say_controls, say_hint, say_unknown, warn

if TYPE_CHECKING:
    from ..tasks.own_texts import OwnPrompt

plan_app = typer.Typer(help="Write plans down, and see what they would cover.", no_args_is_help=True)
plan_app.command("push")(push_plan)
plan_app.command("pull")(pull_plan)
plan_app.command("run")(run)
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Refuse vectors that are not known to come from this model's weights.")
]
ModelOption = Annotated[str, typer.Option(help="Hub id, folder, .gguf file, smollm2, or builtin:base.")]


@plan_app.command("show")
def show(
    plan: ExpressionArgument,
    vector: VectorOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of YAML.")] = False,
) -> None:
    """The plan as YAML, with its digest."""
    made = read_plan(plan, vector)
    print(made.to_json() if as_json else f"# {made.digest}\n{made.to_yaml()}", end="" if not as_json else "\n")


@plan_app.command("export")
def export(
    plan: ExpressionArgument,
    out: Annotated[Path, typer.Option(help="The file to write: .json for easysteer, .gguf for llama.cpp.")],
    model_hint: Annotated[
        str, typer.Option(help="Architecture of the model as its GGUF names it, such as qwen2 or llama.")
    ],
    kind: Annotated[str, typer.Option("--format", help="easysteer (vLLM) or llama.cpp.")] = "easysteer",
    vector: VectorOption = None,
) -> None:
    """Write a plan of plain additions for a server: EasySteer's spec for vLLM, or a control vector of llama.cpp. What only this program can
    do (gates, other operations, spans that are looked up) is refused."""
    from steering.plan.additions import additions, export_llama_cpp, export_served

    writers = {"easysteer": export_served, "llama.cpp": export_llama_cpp}
    if kind not in writers:
        raise unknown("format", kind, writers)
    made = read_plan(plan, vector)
    check_new(out)
    path = writers[kind](made, out, model_hint=model_hint)
    say_hint(model_hint, {vector.provenance.model_id for vector in made.vectors.values()})
    if additions(made).sinks_differ:
        warn(
            "Warning: on a model with attention sinks (often the BOS) this plan leaves them out, and other programs edit them too. Write "
            "`all | sinks` for a plan that does what they do."
        )
    print(json.dumps({"file": str(path)}))


@plan_app.command("schema")
def schema() -> None:
    """JSON schema of plan files."""
    from steering.plan.schema import PLAN_SCHEMA

    print(json.dumps(PLAN_SCHEMA, indent=1))


@plan_app.command("explain")
def explain_(
    plan: ExpressionArgument,
    prompt: Annotated[str, typer.Option(help="The prompt, as fed.")],
    model: ModelOption = "builtin:base",
    vector: VectorOption = None,
    strict: StrictOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Each token of a prompt and the interventions that would edit it. No model is run."""
    from steering.compile.explanation import explain, needs_weights
    from steering.model.models import load_model
    from steering.model.reader import load_reader

    made = read_plan(plan, vector)
    reader = load_reader(model)
    say_controls(reader, [prompt])
    found = explain(load_model(model) if needs_weights(made, reader, strict) else reader, made, prompt, strict=strict)
    if as_json:
        for warning in found.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        print(json.dumps([vars(token) for token in found.tokens], indent=1))
    else:
        Console().print(found.table())


def generate_(
    prompt: Annotated[
        list[str] | None, typer.Option(help="A prompt, as fed; may be given several times. With --chat, a user's turn.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="Text file, one prompt per line, or JSON lines with prompt or messages, and perhaps id."),
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask through the model's chat template.")] = False,
    system: Annotated[str | None, typer.Option(help="System prompt of every conversation.")] = None,
    turn: Annotated[
        list[str] | None,
        typer.Option(
            help="user:TEXT or assistant:TEXT, in order: one conversation; the model goes on from an assistant's."
        ),
    ] = None,
    switch: Annotated[
        str | None, typer.Option("--thinking", help="on or off, where the chat template has a switch.")
    ] = None,
    plan: Annotated[
        list[str] | None, typer.Option(help="One-line plan or plan file; may be given several times.")
    ] = None,
    model: ModelOption = "builtin:base",
    vector: VectorOption = None,
    strict: StrictOption = False,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens per text.")] = 200,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Seed of the samples, 0 by default; one text each where it is given several times."),
    ] = None,
    begun: Annotated[
        str | None,
        typer.Option(help="Ids of the tokens that every text goes on from, as 12,7,31; counted by --max-new-tokens."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from the likeliest tokens of this share.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Texts without steering and under each plan, with what was edited."""
    from steering.engine.generation import Row, generate
    from steering.engine.repetition import loop_of
    from steering.engine.sampling import GenerationSettings
    from steering.model.models import load_model
    from steering.plan.plan import Plan

    from ..tasks.conversations import asked

    plans = [Plan(), *(read_plan(text, vector) for text in plan or [])]
    names = ["unsteered", *(plan or [])]
    given = _given(prompt or [], prompts, chat, turn or [])
    if switch not in (None, "on", "off"):
        raise unknown("thinking", switch, ("on", "off"), "--thinking")
    loaded = load_model(model)
    fed = asked(loaded, given, chat=chat, system=system, thinking=None if switch is None else switch == "on")
    say_unknown(loaded, [text for one in fed for text in one.said])
    say_controls(loaded, [text for one in fed if one.messages is None for text in one.said])
    seeds, first = seed or [0], _ids(begun)
    if len(seeds) > 1 and temperature == 0:
        raise BadInput(f"{len(seeds)} seeds would write one text, greedily; give a --temperature above 0, or one seed.")
    rows = [Row(one.ids, p, draw, first) for one in fed for p in plans for draw in seeds]
    found = generate(loaded, rows, GenerationSettings(max_new_tokens, temperature, top_k, top_p), strict=strict)
    documents = []
    for index, generation in enumerate(found):
        ids = [token for token in generation.token_ids if token not in loaded.eos_ids]
        receipt, one = generation.receipt, fed[index // (len(plans) * len(seeds))]
        loop = loop_of(generation.token_ids, loaded.eos_ids)
        documents.append(
            {
                **({} if one.id is None else {"id": one.id}),
                "prompt": one.text,
                **({} if one.messages is None else {"messages": [turn.model_dump() for turn in one.messages]}),
                "plan": names[index // len(seeds) % len(plans)],
                **({"seed": seeds[index % len(seeds)]} if len(seeds) > 1 else {}),
                "text": loaded.tokenizer.decode(ids),
                "finish": generation.finish,
                "token_ids": list(generation.token_ids),
                "tokens": len(generation.token_ids),
                "edits_planned": receipt.planned,
                "edits_fired": receipt.fired,
                "largest_edit": receipt.largest,
                "warnings": [*receipt.warnings, *([f"The text {loop.sentence}."] if loop else [])],
                "nonfinite": None if generation.nonfinite is None else vars(generation.nonfinite),
            }
        )
    if as_json:
        print(json.dumps(documents, indent=1))
        return
    for index, (document, generation) in enumerate(zip(documents, found, strict=True)):
        place = index // (len(plans) * len(seeds))
        which = f"prompt {place + 1 if fed[place].id is None else fed[place].id}, " if len(fed) > 1 else ""
        edits = f"{document['edits_fired']} edits, {document['tokens']} tokens, {document['finish']}"
        drawn = f", seed {document['seed']}" if "seed" in document else ""
        print(f"--- {which}{document['plan']}{drawn}: {edits}")
        for warning in document["warnings"]:
            print(f"warning: {warning}")
        if generation.nonfinite is not None:
            print(f"broken off: {generation.nonfinite}. Give a smaller dose, or load the model in float32.")
        print(document["text"])


def _ids(begun: str | None) -> tuple[int, ...]:
    """Raises BadInput for what are no ids."""
    try:
        return () if begun is None else tuple(int(word) for word in begun.split(","))
    except ValueError:
        raise BadInput(f"--begun {begun!r}: give ids of tokens with commas between them, such as 12,7,31.") from None


def _given(prompt: list[str], prompts: Path | None, chat: bool, turn: list[str]) -> list[OwnPrompt]:
    """The prompts and conversations of the options and the file. Raises BadInput."""
    from ..tasks.conversations import parse_turn
    from ..tasks.own_texts import OwnPrompt, own_prompts

    if turn and not chat:
        raise BadInput("--turn is a turn of a conversation; ask with --chat.")
    found = [OwnPrompt(prompt=text) for text in prompt]
    found += [OwnPrompt(messages=tuple(parse_turn(text) for text in turn))] if turn else []
    found += own_prompts(prompts) if prompts is not None else []
    if not found:
        raise BadInput("There is no prompt: give --prompt, --prompts FILE, or --chat with --turn user:TEXT.")
    return found
