"""View state in the address bar: what a page shows can be sent to someone as a link.

1. `restore` runs before a widget: a value in the link wins over what the session remembers, and the session over
   the default. A value of the link that does not exist is returned, so that the page can say so instead of quietly
   showing something else.
2. `keep` runs after it and writes the shown value into the address.
3. A value that this session wrote itself is not taken for a link: while a click and the browser's address are on
   their way past each other, the click wins. `forget` ends that on a change of page, when links count again.
"""

from __future__ import annotations

from collections.abc import Collection

import streamlit as st

_WRITTEN = "_address_written"


def _written() -> set[tuple[str, str]]:
    return st.session_state.setdefault(_WRITTEN, set())


def asked(key: str) -> str | None:
    """The value that a followed link names for `key`, or None."""
    value = st.query_params.get(key)
    return value if value and (key, value) not in _written() else None


def restore(key: str, valid: Collection[str], default: str) -> str | None:
    """Set `st.session_state[key]` to a valid value; returns the value of the link when it is not one."""
    value = asked(key)
    if value in valid:
        st.session_state[key] = value
    if st.session_state.get(key) not in valid:
        st.session_state[key] = default
    return value if value not in valid else None


def keep(key: str, value: str | None) -> None:
    """Write `value` into the address under `key`; None removes it."""
    if value is None:
        st.query_params.pop(key, None)
        return
    _written().add((key, value))
    if st.query_params.get(key) != value:
        st.query_params[key] = value


def forget(page: str) -> None:
    """Start anew when the page is another one than in the last script run."""
    if st.session_state.get("_address_page") != page:
        st.session_state["_address_page"] = page
        st.session_state[_WRITTEN] = set()
