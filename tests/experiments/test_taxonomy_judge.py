"""A taxonomy named and scored by a judging model, on a server of this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from experiments.studies.hybrid.judging import judged
from probes.endpoint import Endpoint, EndpointError
from tests.probes.test_judge import Server, says, serve

__all__ = ["serve"]
SENTENCES = (
    [f"add {n} now" for n in range(12)]
    + [f"check {n} again" for n in range(12)]
    + [f"stop at {n} please" for n in range(6)]
)
CATEGORIES = np.array([0] * 12 + [1] * 12 + [3] * 6)


def answer(body: dict[str, Any]) -> tuple[int, bytes]:
    """A judge that goes by first words, and cannot tell checking from stopping apart."""
    task, shown = (message["content"] for message in body["messages"][:2])
    if "in common" in task:
        word = re.findall(r"^(add|check|stop)", shown, re.MULTILINE)[0]
        found: Any = {"title": f"{word}ing", "description": f"sentences that {word}"}
    elif "belongs" in task:
        word = re.findall(r"that (add|check|stop)", shown)[0]
        lines = re.findall(r"^(\d+)\. (\w+)", shown, re.MULTILINE)
        found = [
            {"id": int(n), "belongs": first == word or (word == "stop" and first == "check")} for n, first in lines
        ]
    elif "Rate how well" in task:
        found = [
            {"id": int(n), "score": 5 if first == "add" else 10}
            for n, first in re.findall(r"^(\d+)\. (\w+)", shown, re.MULTILINE)
        ]
    else:
        found = {"score": 9 if "checking" in shown and "stoping" in shown else 2}
    return says("Here you are: " + json.dumps(found))(body)


def endpoint(server: Server) -> Endpoint:
    return Endpoint(server.url, "tester", pause=0.01, timeout=5.0, retries=1)


def test_titles_and_scores_are_the_judges(serve: Callable[..., Server]) -> None:
    server = serve(answer)
    found = judged(endpoint(server), SENTENCES, CATEGORIES, np.arange(30.0), 4)
    assert [name.title for name in found.names] == ["adding", "checking", "unused", "stoping"]
    # consistency: two perfect categories; of the third 6 are its own, and all that check are taken for it
    (shown,) = [
        b["messages"][1]["content"]
        for _, b in server.requests
        if "that stop" in b["messages"][1]["content"]
        and "0. " in b["messages"][1]["content"]
        and "Category. stoping" in b["messages"][1]["content"].split("\n")[0]
    ]
    wrong = len(re.findall(r"^\d+\. check", shown, re.MULTILINE))
    assert wrong > 0
    assert found.consistency == pytest.approx((1 + 1 + 2 * 6 / (6 + wrong + 6)) / 3)
    assert found.completeness == pytest.approx((12 * 0.5 + 18 * 1.0) / 30)
    assert found.independence == pytest.approx(2 / 3)


def test_an_answer_that_is_not_as_asked_goes_back_and_then_ends_it(serve: Callable[..., Server]) -> None:
    server = serve(says("no idea"), says('{"title": "a/b", "description": "x"}'))
    with pytest.raises(EndpointError, match="one concept without slash"):
        judged(endpoint(server), SENTENCES, CATEGORIES, np.arange(30.0), 4)
    second = server.requests[1][1]["messages"]
    assert second[-2]["content"] == "no idea" and "holds no JSON" in second[-1]["content"]
