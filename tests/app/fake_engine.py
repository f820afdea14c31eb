"""An engine without a model: the worker's tests run it in the real worker process.

The prompt says what happens: `memory` raises an allocation error after some tokens, `die` ends the process as the kernel does when memory
is short, `hang` stops looking for cancels, `slow` takes a twentieth of a second per token; `lines`
ends every token with a line break; a number says how many tokens.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class Engine:
    """Counts."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.shared = False

    def beside(self, other: bool) -> None:
        self.shared = other

    def loaded(self) -> list[str]:
        return self.models

    def unload(self) -> None:
        self.models = []

    def run(self, request: Mapping[str, Any], cancel: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        words = str(request["prompt"]).split()
        model = str(request.get("model", "fake"))
        if "refuse" in words:
            raise ValueError("no")
        if model not in self.models:
            yield {"kind": "state", "state": "loading", "detail": model}
            self.models.append(model)
        yield {
            "kind": "lanes",
            "lanes": [{"name": "unsteered", "label": "unsteered", "role": "baseline", "model": model, "prompt": words}],
            "shared": self.shared,
        }
        count, stopped = next((int(word) for word in words if word.isdigit()), 20), False
        end = "\n" if "lines" in words else ""
        for index in range(count):
            if "slow" in words:
                time.sleep(0.05)
            yield {
                "kind": "token",
                "lane": 0,
                "id": index,
                "text": f"{words[0]}{index}" + end,
                "logprob": -0.1,
                "entropy": 0.1,
                "edit": 0.0,
            }
            if index == 5 and "memory" in words:
                raise MemoryError("tried to allocate 40 GiB")
            if index == 5 and "die" in words:
                os.kill(os.getpid(), signal.SIGKILL)
            if index == 5 and "hang" in words:
                time.sleep(60)
            stopped = cancel()
            if stopped:
                break
        facts = {
            "text": "",
            "answer": None,
            "correct": False,
            "scorable": False,
            "gold": "",
            "trace_ok": None,
            "well_formed": None,
        }
        facts |= {
            "finish": "cancelled" if stopped else "length",
            "tokens": index + 1,
            "seconds": 0.1,
            "edit": [],
            "planned": 0,
            "fired": 0,
        }
        yield {"kind": "end", "lane": 0, **facts}
        yield {"kind": "receipt", "ok": None, "steered": False, "replay": "not checked", "hooks": 0}
        yield {"kind": "result", "manifest": {}, "rows": []}
