"""One pass at a time on one model: edits, attention and cheaper modules are put into the model for a pass, and threads share it.

A generation takes its turn pass by pass, so generations of several threads on one model go on side by side, and each has the texts that it
has alone. A thread may take a turn within its own.
"""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

_TURNS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_MAKING = threading.Lock()


def turn(module: Any) -> Any:
    """The lock of a model (`LoadedModel.model`), a context manager: around what is put into it, the pass, and taking it out again."""
    with _MAKING:
        if module not in _TURNS:
            _TURNS[module] = threading.RLock()
        return _TURNS[module]
