"""The live component: lanes of tokens that fill as a job writes them, the receipt, and the button that stops it.

1. Text of models reaches the page as `textContent` or as an attribute only; HTML, CSS and JavaScript are constant files beside this one.
2. Events come from the job's stream by `EventSource`, which resumes by itself after the last event that it has; an event that comes
   twice is drawn once. Reruns of the page's script leave the component alone.
3. A finished example is shown from its events, without a stream; it looks like a finished job.
4. What can be done from a token (`app.token_actions`) is offered once the job has ended, where `on_act` is given; the choice is then in
   the component's state under `act`, with the keys `do`, `lane`, `position` and perhaps `token`.
5. `on_ended` is called once when a job that was seen running has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from app.components.trace import payload
from experiments.looks import LOOKS

HERE = Path(__file__).parent

_mount = st.components.v2.component(
    "steering_live",
    html='<div class="live"></div>',
    css=(HERE / "live.css").read_text(encoding="utf-8"),
    js=(HERE / "live.js").read_text(encoding="utf-8"),
)


Call = Callable[[], None]


def _show(data: Mapping[str, Any], key: str, on_ended: Call, on_act: Call | None) -> None:
    looks = {role: {"glyph": look.glyph, "colour": look.colour} for role, look in LOOKS.items()}
    more = {} if on_act is None else {"on_act_change": on_act}
    _mount(key=key, data=payload({**data, "looks": looks, "acts": bool(more)}), on_ended_change=on_ended, **more)


def stream(job: str, word: str, ended: bool, key: str, on_ended: Call, on_act: Call | None = None) -> None:
    """Show a job: `word` is what its owner says to stop it, empty for anyone else; `ended` says that its script knows already that it has
    ended."""
    base = (st.get_option("server.baseUrlPath") or "").strip("/")
    url = f"/{base}/steer/jobs/{job}".replace("//", "/")
    _show({"id": job, "url": url, "yours": bool(word), "word": word, "ended": ended}, key, on_ended, on_act)


def finished(name: str, events: Sequence[Mapping[str, Any]], key: str, on_act: Call | None = None) -> None:
    """Show events that are complete."""
    _show({"id": name, "events": list(events), "yours": False, "ended": True}, key, lambda: None, on_act)
