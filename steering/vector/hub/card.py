"""The model card: front matter for the hub's search, what the vector is, what it does, and how each program uses it.

1. Where nothing is shown the card says so, in the place of the table; where base model, commit or licence are not known, too.
2. Names and sentences of others are escaped: they cannot become markup, a table's cell, or another key of the front matter.
3. Snippets are whole and name this repository, its site and its base model. A program that cannot add at the site is left out, with the
   reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ...model.named import NAMED
from ...model.sites import Site
from .contents import CONFIG, EVIDENCE, LIBRARY, PLAN, TAG, UNKNOWN, VECTOR, BaseModelFacts, Config
from .evidence import Evidence
from .evidence_table import shown
from .markdown import code, plain, word
from .names import MAIN, Address

SPANS = ("all", "prompt", "generated")
"""Spans that can be said to another program."""
PLAIN = {"operation", "vector", "vector_name", "site", "span", "dose"}
"""What a step of a plan may have to be said in one line here."""
EVERYWHERE = (
    "Every position is steered, those of the prompt too, and the first, where many models have an attention sink."
)
_AMOUNT = re.compile(r"add (-?[0-9.e+]+)v\b")
SUFFIXES = {"raw": "", "vector": "v", "residual": "r", "degrees": "deg", "factor": "f", "peak": "p"}

UNMEASURED = (
    "This line adds the vector once at every generated token. **The effects above are of the plans in their table, which may be "
    "others.**"
)


def card(repository: str, config: Config, evidence: Evidence, plan: Mapping[str, Any], measured: bool = True) -> str:
    """`README.md` of a repository, or of a branch (`owner/name@branch`); `plan` is that of its plan.yaml, `measured` whether it is
    one that the evidence is of."""
    steps = _Added.of(config, plan, bool(evidence.effects))
    parts = [
        f"---\n{front_matter(config)}---",
        f"# {plain(config.name)}",
        f"A steering vector: one direction of {config.width} numbers, to be added to the activations of a language model.",
        _facts(config, evidence),
        "## What it does",
        shown(evidence),
        "## How to use it",
        _own(repository, config, plan, evidence if measured else Evidence()),
        UNMEASURED if evidence.effects and not measured else "",
        _transformers(repository, config, steps),
        _llama_cpp(repository, config, steps),
        _easysteer(repository, config, steps),
        _held(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


@dataclass(frozen=True)
class _Added:
    """The plan as one addition, as other programs can do it; an amount of 1 where it is something else."""

    amount: float = 1.0
    """Of the vector's length."""
    span: str = ""
    """As the plan has it."""
    whole: bool = False
    """Whether the plan is nothing else."""
    shown: bool = False
    """Whether effects of it are shown."""

    @staticmethod
    def of(config: Config, plan: Mapping[str, Any], shown: bool) -> _Added:
        steps = plan["interventions"]
        dose = steps[0].get("dose") or {}
        unit = {"vector": 1.0, "raw": 1 / config.norm if config.norm else 0.0}.get(str(dose.get("unit")), 0.0)
        plain = set(steps[0]) <= PLAIN and set(dose) == {"amount", "unit"} and steps[0]["operation"] == "add"
        if len(steps) > 1 or not plain or not unit or steps[0].get("site", config.site) != config.site:
            return _Added()
        span = str(steps[0]["span"])
        return _Added(float(dose["amount"]) * unit, span, True, shown)

    def everywhere(self, where: str) -> str:
        """How far a program that adds at every token does what the plan does."""
        if not self.whole:
            return f"{where} This is the vector once; {PLAN} does something else, which this cannot."
        if self.span == "all | sinks":
            return where
        if self.span == "all":
            return f"{where} {PLAN} leaves a model's attention sinks out, which this does not."
        return f"{where} {PLAN} adds as much, on other positions" + (
            ": what is shown above is of that." if self.shown else "."
        )


def front_matter(config: Config) -> str:
    """YAML between the card's dashes, without them."""
    return front(config.base_model, config.licence, config.arxiv, TAG)


def front(base: BaseModelFacts, licence: str, arxiv: Sequence[str], tag: str) -> str:
    """Front matter by which the hub searches; `tag` says what the repository holds."""
    facts: dict[str, object] = {"library_name": LIBRARY}
    if licence:
        facts["license"] = licence
    if base.elsewhere:
        facts |= {"base_model": base.elsewhere, "base_model_relation": "adapter"}
    facts["tags"] = [tag, "activation-steering", *(f"arxiv:{paper}" for paper in arxiv)]
    return yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)


def _facts(config: Config, evidence: Evidence) -> str:
    base = config.base_model
    steered = (_AMOUNT.match(effect.plan) for effect in evidence.effects if effect.role == "steered")
    tried = sorted({float(found[1]) for found in steered if found is not None})
    measured = (
        f" (measured below: {', '.join(f'{amount:g}' for amount in tried)})" if tried else " (none is measured below)"
    )
    useful = config.dose.useful
    lines = {
        "Site": f"`{config.site}`; {plain(config.layers)}",
        "Length": f"{config.norm:.6g}, in units of the activations",
        "Base model": base_in_words(config.base_model),
        "Weights": f"fingerprint `{base.fingerprint}`" if base.fingerprint != UNKNOWN else "fingerprint unknown",
        "Tokenizer and template": f"hash `{base.tokenizer}`" if base.tokenizer != UNKNOWN else "hash unknown",
        "Method": plain(config.method),
        "Contrast": plain(config.contrast) or "not said",
        "Samples per side": ", ".join(map(str, config.counts)) or "not said",
        "Dose": f"in units of {config.dose.unit}; useful amounts: "
        + (f"{useful[0]:g} to {useful[1]:g}, as its author says{measured}" if useful is not None else "not known"),
        "Digest": f"`{config.file.digest}` (direction and site), sha256 `{config.file.sha256}` of `{VECTOR}`",
        "Licence": plain(config.licence) or "none is stated",
        "Papers": ", ".join(f"[arXiv:{paper}](https://arxiv.org/abs/{paper})" for paper in config.arxiv),
    }
    return "\n".join(f"* **{name}**: {text}" for name, text in lines.items() if text)


def base_in_words(base: BaseModelFacts, what: str = "vector") -> str:
    """The base model of `what` with its commit, or what is not known of it."""
    if base.id == UNKNOWN:
        return f"unknown: the {what} does not say whose activations it lies in"
    named = f"`{code(base.id)}`"
    if base.id in NAMED:
        named += f" ({plain(NAMED[base.id].origin)}: the {what} was made and measured on those weights)"
    if base.repository:
        named += f", whose weights come from `{code(base.repository)}`"
    if base.commit == UNKNOWN:
        return f"{named}, **commit unknown**: other weights under this name may answer otherwise"
    return f"{named} at commit `{base.commit}`"


def _own(repository: str, config: Config, plan: Mapping[str, Any], evidence: Evidence) -> str:
    base, heats = _loads(config), {effect.temperature for effect in evidence.effects}
    heat = heats.pop() if len(heats) == 1 else None
    drawn = f" --temperature {heat:g}" if heat else ""
    return f"""### This project

```sh
steer vectors pull {repository} --out vector.safetensors
steer generate --model {word(base)} --prompt 'PROMPT' --plan '{_one_line(plan, repository)}'{drawn}
```

```python
from steering import pull_vector

vector = pull_vector("{repository}")  # of one commit, and checked against its {CONFIG}
```"""


def _one_line(plan: Mapping[str, Any], repository: str) -> str:
    """The plan as a line that names the vector by its repository; the plan's file where no such line says all of it here."""
    lines = []
    for entry in plan["interventions"]:
        dose = entry.get("dose") or {}
        if set(entry) - PLAIN or set(dose) - {"amount", "unit"}:
            return PLAN
        amount = f"{dose['amount']:g}{SUFFIXES[dose['unit']]}" if dose else ""
        words = [entry["operation"], f"hub:{repository}", amount, f"at {entry['site']}" if entry.get("site") else ""]
        lines.append(" ".join([*filter(None, words), f"on {entry['span']}"]))
    return "; ".join(lines)


def _loads(config: Config) -> str:
    """The base model's name where others can load it."""
    base = config.base_model.id
    return base if base != UNKNOWN else "MODEL"


def _loads_elsewhere(base: BaseModelFacts) -> str:
    """The base model's name for other programs, which know none of this program's own names."""
    own = base.id == UNKNOWN or base.id.startswith("builtin:") or base.id in NAMED
    return base.repository or ("MODEL" if own else base.id)


def _architecture(base: BaseModelFacts) -> tuple[str, str]:
    """The architecture's name in a command, and the sentence on what to write in its place where it is not known."""
    if base.id in NAMED:
        return NAMED[base.id].architecture, ""
    return "ARCHITECTURE", "`ARCHITECTURE` is the model's as llama.cpp names it, such as `qwen2`. "


def _finer(base: BaseModelFacts) -> str:
    """That other programs load other weights than those that the vector was made on."""
    if base.id not in NAMED or not base.repository:
        return ""
    return (
        f" {base.repository} is not quantised: the vector was made and measured on the quantised weights of {base.id}."
    )


def _transformers(repository: str, config: Config, added: _Added) -> str:
    site = Site.parse(config.site)
    title = "### transformers"
    if site.kind not in ("resid_post", "resid_pre"):
        return f"{title}\n\n`{site}` lies inside a layer, where models name their modules differently: no hook is written out here."
    at_input = site.kind == "resid_pre"
    base = config.base_model
    revision = f", revision={base.commit!r}" if base.commit != UNKNOWN else ""
    name, address = _loads_elsewhere(base), Address.parse(repository)
    of = "" if address.revision == MAIN else f", revision={address.revision!r}"
    if at_input:
        hook = """def steer(module, args, kwargs):
    hidden = args[0] if args else kwargs.pop("hidden_states")
    return (hidden + scale * direction.to(hidden), *args[1:]), kwargs


handle = layer.register_forward_pre_hook(steer, with_kwargs=True)"""
    else:
        hook = """def steer(module, args, output):
    hidden = output[0] if isinstance(output, tuple) else output
    hidden = hidden + scale * direction.to(hidden)
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


handle = layer.register_forward_hook(steer)"""
    return f"""{title}

{added.everywhere(EVERYWHERE)}{_finer(base)}

```python
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained({name!r}{revision})
direction = load_file(hf_hub_download("{address.repository}", "{VECTOR}"{of}))["direction"]
layer = model.model.layers[{site.layer}]  # model.transformer.h in GPT-2, model.gpt_neox.layers in GPT-NeoX
scale = {added.amount:g}


{hook}
```

`handle.remove()` ends it."""


def _llama_cpp(repository: str, config: Config, added: _Added) -> str:
    site, title = Site.parse(config.site), "### llama.cpp"
    if site.kind != "resid_post" or site.layer < 1:
        return f"{title}\n\nllama.cpp adds to the output of layers from the second on; it cannot add at `{site}`."
    kind, about = _architecture(config.base_model)
    written = f"""steer vectors pull {repository} --out vector.safetensors
steer vectors export vector.safetensors --out vector.gguf --layers llama.cpp --model-hint {kind}"""
    if (
        added.amount != 1
    ):  # scaled in the file, since the program's own option for that is not the same in all of its versions
        line = f"add hub:{repository} {added.amount:g}v on all | sinks"
        written = f"steer plan export '{line}' --format llama.cpp --out vector.gguf --model-hint {kind}"
    return f"""{title}

{about}{added.everywhere("Every position is steered.")}

```sh
{written}
llama-cli -m MODEL.gguf --control-vector vector.gguf
```"""


def _easysteer(repository: str, config: Config, added: _Added) -> str:
    site, title = Site.parse(config.site), "### EasySteer"
    if site.kind != "resid_post":
        return f"{title}\n\nEasySteer adds to the output of a layer; it cannot add at `{site}`."
    base = _loads_elsewhere(config.base_model)
    options = (f" --scale {added.amount:g}" if added.amount != 1 else "") + (
        f" --on {added.span}" if added.span in SPANS else ""
    )
    kind, about = _architecture(config.base_model)
    on = added.span if added.span in SPANS else "generated"
    where = (
        added.everywhere(f"It adds on `{on}`.") if added.span not in SPANS else f"It adds on `{on}`, as {PLAN} does."
    )
    said = f"{title}\n\n{about}{where}{_finer(config.base_model)}"
    return f"""{said}

```sh
steer vectors pull {repository} --out vector.safetensors
steer vectors export vector.safetensors --out spec.json --format easysteer --model-hint {kind}{options}
vllm serve {word(base)} --steering-config spec.json
```"""


def _held() -> str:
    return f"""## What this repository holds

`{CONFIG}` says what the vector is and what its file must be; `{VECTOR}` is the direction, as safetensors; `{PLAN}` is a plan that uses it;
`{EVIDENCE}` holds the numbers above."""
