"""Stacks of interventions under a name: plans as JSON in `.stacks` of the store, which the upload field and `--plan FILE` take too.

1. A stack says its vectors by digest and name. One whose vector is not here is shown with that said, and not put into the form.
2. An existing name is not written over without a tick.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import streamlit as st

from app.escaping import for_markdown
from app.library import runs_root
from app.stack import Card
from app.uploads import read_cards
from app.vector_files import VectorFile
from experiments.store.files import write_whole
from steering.errors import BadInput

FOLDER = ".stacks"
NAME = r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}"


def stacks(root: Path | str) -> dict[str, Path]:
    """Files of named stacks."""
    place = Path(root) / FOLDER if isinstance(root, Path) else None
    return {} if place is None else {path.stem: path for path in sorted(place.glob("*.json"))}


def written(cards: Sequence[Card], vectors: Mapping[str, VectorFile]) -> bytes:
    """The plan as a file. Raises BadInput for a card that is no edit."""
    if not cards:
        raise BadInput("There is no intervention to keep; add one.")
    plan = {"interventions": [card.edit(vectors).facts() for card in cards]}
    return (json.dumps(plan, indent=1, ensure_ascii=False) + "\n").encode()


def keep(root: Path | str, name: str, cards: Sequence[Card], vectors: Mapping[str, VectorFile], over: bool) -> Path:
    """Store a stack. Raises BadInput for a name that is none, or is taken and not to be written over."""
    if not isinstance(root, Path):
        raise BadInput("A store at a URL keeps no stacks; download the plan.")
    if not re.fullmatch(NAME, name):
        raise BadInput(
            f"{name!r} is no name here: letters, digits, spaces, dots, _ and -, at most 60, a letter or digit first."
        )
    path = root / FOLDER / f"{name}.json"
    if path.exists() and not over:
        raise BadInput(f"There is a stack called {name}; tick to write over it, or take another name.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, written(cards, vectors))
    return path


def preset_menu(vectors: Mapping[str, VectorFile], cards: list[Card], set_cards: Callable[[list[Card]], None]) -> None:
    """The fields: take a stack, keep this one, download it."""
    root = runs_root()
    known = stacks(root)
    if known:
        chosen = st.selectbox("A stack", list(known), key="pg_stack_name")
        left, right = st.columns(2)
        if left.button("Put it into the form", key="pg_stack_take", icon=":material/input:"):
            try:
                found = read_cards(known[chosen].read_bytes(), vectors)
            except (BadInput, OSError) as error:
                st.error(for_markdown(f"{chosen}: {error}", 600))
            else:
                set_cards(found)
                st.rerun()
        if right.button("Delete it", key="pg_stack_drop", icon=":material/delete:"):
            known[chosen].unlink(missing_ok=True)
            st.rerun()
    st.text_input("Keep this stack as", key="pg_stack_as", max_chars=60)
    name = str(st.session_state.get("pg_stack_as") or "").strip()
    over = st.checkbox(f"Write over {name}", key="pg_stack_over") if name in known else False
    if st.button("Keep", key="pg_stack_keep", icon=":material/save:", disabled=not name):
        try:
            path = keep(root, name, cards, vectors, over)
            st.success(f"Kept: {for_markdown(path.name)}. On the command line:")
            files = {digest: vectors[digest].path for card in cards for digest in card.edit(vectors).vectors}
            named = [word for digest, file in files.items() for word in ("--vector", f"{digest}={file}")]
            st.code(shlex.join(["--plan", str(path), *named]), language="bash", wrap_lines=True)
        except (BadInput, OSError) as error:
            st.error(for_markdown(str(error), 600))
    try:
        st.download_button(
            "Download the plan",
            written(cards, vectors),
            "plan.json",
            "application/json",
            key="pg_stack_file",
            on_click="ignore",
        )
    except BadInput as error:
        st.caption(for_markdown(str(error), 300))
