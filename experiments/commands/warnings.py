"""What a verb says beside its data, on standard error."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steering.errors import BadInput

from ..progress import talk

if TYPE_CHECKING:
    from steering.model.models import LoadedModel
    from steering.model.reader import Reads
    from steering.vector.hub.evidence import Effect


def warn(text: str) -> None:
    """One sentence that a reader should not miss, as it is."""
    talk().print(text, style="yellow", highlight=False, soft_wrap=True, markup=False)


def attached(effects: Sequence[Effect]) -> str:
    """How many measured effects came with what was fetched, controls apart."""
    steered = sum(effect.role == "steered" for effect in effects)
    beside = len(effects) - steered
    controls = f" and {beside} of {'a control' if beside == 1 else 'controls'}" if beside else ""
    are = "is" if len(effects) == 1 else "are"
    return f"{steered} measured {'effect' if steered == 1 else 'effects'}{controls} {are} attached, as the author gives them"


def own_in_words() -> None:
    """Have warnings of this project's own categories said as such sentences, without the line of code that gave them."""
    show = getattr(warnings.showwarning, "show", warnings.showwarning)

    def said(message: Warning | str, category: type[Warning], *where: Any, **given: Any) -> None:
        if category.__module__.startswith("steering."):
            warn(f"Warning: {message}")
        else:
            show(message, category, *where, **given)

    said.show = show  # type: ignore[attr-defined]
    warnings.showwarning = said


def say_repository(model: str, commit: str | None, repository: str | None) -> None:
    """That a commit is named without the repository that it is of, where the model's own name is none."""
    from steering.model.named import NAMED
    from steering.vector.hub.names import could_be_repository

    if model in NAMED:
        return  # its repository is known
    if commit is not None and repository is None and model and not could_be_repository(model):
        warn(
            f"Warning: {model} is no repository's name, so that the hub's search does not find this by it, and the card names no "
            f"model for other programs. Where the weights come from a repository, name it: --base-model OWNER/NAME."
        )


def check_new(out: Path) -> None:
    """Raises BadInput where something is there already: what is written out takes no other file's place."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise BadInput(f"{out} is there already; give another name, or remove it first.")


def say_hint(hint: str, models: Collection[str]) -> None:
    """What is odd about an architecture's name: nobody knows it, or the model that the vectors are of has another."""
    from steering.model.named import NAMED
    from steering.vector.interchange.gguf import check_hint

    if said := check_hint(hint):
        warn(f"Warning: {said}")
    for model in sorted(set(models) & set(NAMED)):
        if NAMED[model].architecture != hint:
            warn(
                f"Warning: the vectors are of {model}, whose architecture is {NAMED[model].architecture}, and the file says {hint}: a "
                "reader that looks at it may refuse the file."
            )


def say_unknown(model: LoadedModel, texts: Sequence[str]) -> None:
    """Which texts hold what the tokenizer does not know: the model is fed something else than them."""
    from steering.model.prompts import unknown_in

    odd = [found for text in dict.fromkeys(texts) if text and (found := unknown_in(model, text)) is not None]
    if odd:
        count = "" if len(odd) == 1 else f"{len(odd)} texts are not known whole. The first: "
        warn(f"Warning: {count}{odd[0].sentence(model.id)}")


def say_controls(model: Reads, texts: Sequence[str]) -> None:
    """Which texts, fed as they are written, spell special tokens of the model: it is fed the tokens, not their letters."""
    from steering.model.prompts import controls_in

    found = [(text, names) for text in dict.fromkeys(texts) if text and (names := controls_in(model, text))]
    if found:
        spelled = ", ".join(dict.fromkeys(name for _, own in found for name in own))
        count = "the text spells" if len(texts) == 1 else f"{len(found)} of {len(set(texts))} texts spell"
        warn(
            f"Warning: {count} special tokens of {model.id} ({spelled}), and the model is fed those tokens. Through a chat template "
            f"a text is fed letter by letter. The first: {found[0][0][:60]!r}"
        )
