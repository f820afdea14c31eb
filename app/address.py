"""View state in the address bar: what a page shows can be sent as a link, and Back returns to the view before.

1. `restore` runs before a widget: a value in the link wins over what the session remembers, and the session over the
   default. A value of the link that does not exist is returned, so that the page can say so instead of quietly showing
   something else.
2. `keep` notes the shown value; `flush` writes all notes in one step, so a view is one entry of the browser's history.
3. A value that this session wrote itself is not taken for a link: while a click and the browser's address are on their
   way past each other, the click wins. It does count after Back or Forward, and on another page.
"""

from __future__ import annotations

from collections.abc import Collection

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

_WRITTEN = "_address_written"
_NOTES = "_address_notes"
_PAGE = "_address_page"


def _written() -> set[tuple[str, str]]:
    return st.session_state.setdefault(_WRITTEN, set())


def _notes() -> dict[str, str | None]:
    return st.session_state.setdefault(_NOTES, {})


def begin(page: str) -> None:
    """Start a script run: on another page than before, every value of the address counts as a link."""
    st.session_state[_NOTES] = {}
    if st.session_state.get(_PAGE) != page:
        st.session_state[_PAGE] = page
        st.session_state[_WRITTEN] = set()


def asked(key: str) -> str | None:
    """The value that a followed link names for `key`, or None."""
    value = st.query_params.get(key)
    if not value:
        return None
    back_or_forward = getattr(get_script_run_ctx(), "is_history_navigation", False)
    return value if back_or_forward or (key, value) not in _written() else None


def shown(key: str) -> str | None:
    """The value of `key` in the view that is being built."""
    return _notes().get(key, st.query_params.get(key))


def restore(key: str, valid: Collection[str], default: str) -> str | None:
    """Set `st.session_state[key]` to a valid value; returns the value of the link when it is not one."""
    value = asked(key)
    if value in valid:
        st.session_state[key] = value
    if st.session_state.get(key) not in valid:
        st.session_state[key] = default
    return value if value not in valid else None


def keep(key: str, value: str | None) -> None:
    """Note that `key` is shown with `value`; None removes it from the address."""
    _notes()[key] = value


def flush() -> None:
    """Write what was noted into the address, in one step."""
    before = st.query_params.to_dict()
    notes = _notes()
    after = {key: value for key, value in {**before, **notes}.items() if value is not None}
    _written().update(after.items())
    st.session_state[_NOTES] = {}
    if after != before:
        st.query_params.from_dict(after)
