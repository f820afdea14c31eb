"""Make a vector: what is contrasted, in which model, where it is read; as the `steer extract` command that does it.

1. The form is a `Wish`; `arguments` says what is run, and refuses what cannot be run before anything starts.
2. Typed texts become files of the store, named by the vector and their content, so that the command can be run again.
3. Vectors lie under `.vectors` of the store, with the report of their quality beside them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.marked_texts import labels_in, marked, records, text_of
from app.vector_files import MADE
from experiments.store.files import write_whole
from steering.errors import BadInput
from steering.model.sites import Site

LEAST = 2
"""Texts on either side at the least."""
KINDS = {
    "texts": "two sets of texts: what is wanted minus what is not",
    "mode": "two prompt forms of the same questions",
    "checkpoint": "a thinking model minus its base, on the same tokens",
    "spans": "marked parts of texts minus the mean of all marked texts",
}
READS = {
    "last": "the last token of each text",
    "mean": "the mean over each text's tokens",
    "first": "the first token of each text",
}
METHODS = {
    "difference": "difference of means",
    "principal-difference": "first principal component of the differences",
    "logistic": "weights of a logistic probe",
}


@dataclass(frozen=True)
class Wish:
    """What the form says."""

    kind: str = "texts"
    name: str = ""
    model: str = "builtin:base"
    thinking: str = "builtin:thinking"
    positive: str = ""
    """Texts, one per line; of kind `texts`."""
    negative: str = ""
    chat: bool = False
    """Whether each text is a user's turn in the model's chat template."""
    marked: str = ""
    """Texts with marked parts; of kind `spans`."""
    label: str = ""
    """Which marks are wanted."""
    task: str = "find-start"
    forms: tuple[str, str] = ("think", "quick")
    n: int = 64
    """Questions; of the other kinds."""
    layers: tuple[int, ...] = (1,)
    stream: str = "hook_resid_post"
    read: str = "last"
    method: str = "difference"

    def lines(self, side: str) -> list[str]:
        """The texts of a side."""
        return [line.rstrip() for line in getattr(self, side).splitlines() if line.strip()]


def plain(name: str) -> str:
    """The part of a file's name that a vector's name gives: Latin letters, digits, `-` and `_`. Raises BadInput for an empty name."""
    if not name.strip():
        raise BadInput("Give the vector a name, such as politeness.")
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "vector"


def file_of(wish: Wish) -> str:
    """The file's name without its ending: another wish of the same name has another file, so that none replaces an earlier one."""
    own = {
        "texts": [wish.lines("positive"), wish.lines("negative"), wish.chat, wish.method],
        "mode": [wish.task, wish.forms, wish.n],
        "checkpoint": [wish.task, wish.n, wish.thinking],
        "spans": [wish.marked, wish.label],
    }
    told = json.dumps(
        [wish.kind, wish.name, wish.model, wish.stream, wish.read if wish.kind != "spans" else "", own.get(wish.kind)]
    )
    return f"{plain(wish.name)}-{hashlib.sha256(told.encode()).hexdigest()[:6]}"


def files_of(wish: Wish, root: Path) -> list[Path]:
    """Where the vectors will lie."""
    stem = file_of(wish)
    return [root / MADE / f"{stem}-{layer}.safetensors" for layer in wish.layers]


def texts_of(wish: Wish, root: Path) -> dict[str, Path]:
    """Files of the typed texts, by side."""
    return {
        side: root
        / MADE
        / "texts"
        / f"{plain(wish.name)}-{side}-{hashlib.sha256(_bytes(wish, side)).hexdigest()[:8]}.txt"
        for side in ("positive", "negative")
    }


def records_of(wish: Wish, root: Path) -> Path:
    """File of the marked texts. Raises BadInput for marks that cannot be read."""
    digest = hashlib.sha256(records(wish.marked)).hexdigest()[:8]
    return root / MADE / "texts" / f"{plain(wish.name)}-spans-{digest}.jsonl"


def prepare(wish: Wish, root: Path) -> None:
    """Make the folder, and write typed texts. Raises OSError."""
    (root / MADE).mkdir(parents=True, exist_ok=True)
    if wish.kind == "texts":
        for side, path in texts_of(wish, root).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, _bytes(wish, side))
    if wish.kind == "spans":
        path = records_of(wish, root)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, records(wish.marked))


def arguments(wish: Wish, root: Path | str) -> list[str]:
    """The command. Raises BadInput naming the field that cannot be."""
    if not isinstance(root, Path):
        raise BadInput("A store at a URL keeps no vectors: run `steer extract` on the machine and give --vectors.")
    if wish.kind not in KINDS:
        raise BadInput(f"There is no contrast {wish.kind}; there are {', '.join(KINDS)}.")
    if not wish.model.strip():
        raise BadInput("Name a model: a built-in one, a folder, or a hub id.")
    if not wish.layers:
        raise BadInput("Choose at least one layer.")
    site = Site.parse(f"blocks.{wish.layers[0]}.{wish.stream}")
    files = files_of(wish, root)
    out = str(files[0]) if len(files) == 1 else str(root / MADE / f"{file_of(wish)}-{{layer}}.safetensors")
    contrast = "texts" if wish.kind == "spans" else wish.kind
    made = ["extract", out, "--base", wish.model.strip(), "--contrast", contrast, "--site", site.name]
    made += ["--layers", ",".join(map(str, wish.layers))] if len(files) > 1 else []
    if wish.kind == "spans":
        return [*made, *_span_arguments(wish, root)]
    made += ["--name", one_name(wish.name), "--read", wish.read]
    if wish.kind == "texts":
        for side in ("positive", "negative"):
            if len(wish.lines(side)) < LEAST:
                raise BadInput(
                    f"The {side} side has {len(wish.lines(side))} text{'s' * (len(wish.lines(side)) != 1)}; give at least {LEAST}, one "
                    "per line."
                )
        if set(wish.lines("positive")) == set(wish.lines("negative")):
            raise BadInput("Both sides hold the same texts; their difference is no direction.")
        for side, path in texts_of(wish, root).items():
            made += [f"--{side}", str(path)]
        made += ["--method", wish.method, "--texts", "chat" if wish.chat else "plain"]
        return made
    made += ["--task", wish.task, "--n", str(wish.n)]
    if wish.kind == "checkpoint":
        if not wish.thinking.strip():
            raise BadInput("Name the thinking model.")
        return [*made, "--thinking", wish.thinking.strip()]
    if wish.forms[0] == wish.forms[1]:
        raise BadInput("Choose two different prompt forms, the wanted one first.")
    return [*made, "--forms", ",".join(wish.forms)]


def _span_arguments(wish: Wish, root: Path) -> list[str]:
    """Of marked texts. Raises BadInput for marks that cannot be read, or among which nothing is to be told apart."""
    found = labels_in(wish.marked) if marked(wish.marked) else []
    if len(found) < 2:
        raise BadInput(
            f"The texts have {len(found)} label{'s' * (len(found) != 1)}; mark parts of at least two, as [[label: words]]: what one has "
            "that the others lack is the vector."
        )
    if wish.label not in found:
        raise BadInput(f"Choose which marks are wanted: {', '.join(found)}.")
    return ["--spans", str(records_of(wish, root)), "--label", wish.label, "--name", one_name(wish.name)]


def wish_of(command: Sequence[str]) -> Wish:
    """The wish that a command of `arguments` stands for. Raises BadInput for another command, and for texts that are gone."""
    given = dict(zip(command[2::2], command[3::2], strict=False))
    try:
        sides = {
            side: Path(given[f"--{side}"]).read_text(encoding="utf-8").rstrip("\n")
            for side in ("positive", "negative")
            if f"--{side}" in given
        }
        site = Site.parse(given["--site"])
        spans = text_of(Path(given["--spans"]).read_bytes()) if "--spans" in given else ""
        forms = tuple(given["--forms"].split(",")) if "--forms" in given else ("think", "quick")
        layers = tuple(int(layer) for layer in given["--layers"].split(",")) if "--layers" in given else (site.layer,)
        if spans:
            return Wish(
                "spans", given["--name"], given["--base"], marked=spans, label=given["--label"], layers=layers,
                stream=site.name.split(".", 2)[2],
            )  # fmt: skip
        return Wish(
            given["--contrast"], given["--name"], given["--base"], given.get("--thinking", "builtin:thinking"), sides.get("positive", ""),
            sides.get("negative", ""), given.get("--texts") == "chat", "", "", given.get("--task", "find-start"), (forms[0], forms[1]),
            int(given.get("--n", 64)), layers, site.name.split(".", 2)[2], given["--read"], given.get("--method", "difference"),
        )  # fmt: skip
    except (KeyError, ValueError, OSError, IndexError) as error:
        raise BadInput(f"That command does not say what was made ({error}).") from error


def one_name(name: str) -> str:
    """The vector's name as it is stored: one line, without what a command would read as an option."""
    return " ".join(name.split()).lstrip("-") or "vector"


def _bytes(wish: Wish, side: str) -> bytes:
    return ("\n".join(wish.lines(side)) + "\n").encode()
