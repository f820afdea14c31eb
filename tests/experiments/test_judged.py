"""A judging model as grader, against a small server on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from experiments.tasks.graders.judged import JudgeGrader
from experiments.tasks.graders.table import grader_named
from probes.endpoint import Endpoint, EndpointError, Unusable
from steering.errors import BadInput
from tests.probes.test_judge import Server, says


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def start(*answers: Any) -> Server:
        made.append(Server(list(answers)))
        return made[-1]

    yield start
    for server in made:
        server.server.shutdown()
        server.server.server_close()


@pytest.mark.parametrize(
    ("said", "value"),
    [("Same.\nVERDICT: correct", 1.0), ("No.\nVERDICT: **wrong**", 0.0), ("Cut.\nVERDICT: no answer", None)],
)
def test_the_verdict_is_the_judges_and_unscorable_is_not_wrong(
    serve: Callable[..., Server], said: str, value: float | None
) -> None:
    server = serve(says(said))
    grade = JudgeGrader(server.url, "tester", timeout=5).grade("What is 1+1?", "2", "The answer is 2.")
    assert grade.value == value and grade.grader == "judge" and grade.explanation.startswith("tester: ")
    (_, body), *more = server.requests
    assert not more and "What is 1+1?" in body["messages"][-1]["content"] and body["temperature"] == 0
    assert JudgeGrader(server.url, "tester").grade("q", "2", "  ").value is None and len(server.requests) == 1


def test_an_answer_without_a_single_verdict_goes_back(serve: Callable[..., Server]) -> None:
    server = serve(says("It is right."), says("VERDICT: correct, or VERDICT: wrong"), says("VERDICT: wrong"))
    assert JudgeGrader(server.url, "tester", timeout=5).grade("q", "2", "3").value == 0.0
    complaints = [body["messages"][-1]["content"] for _, body in server.requests[1:]]
    assert "holds no verdict" in complaints[0] and "no single verdict" in complaints[1]
    assert all(c.endswith("or VERDICT: no answer.") for c in complaints)


def test_a_judge_that_never_complies_ends_the_run_with_its_words(serve: Callable[..., Server]) -> None:
    server = serve(says("Hm."))
    with pytest.raises(
        EndpointError, match="no usable verdict in 2 attempts. The last: it holds no verdict, but begins 'Hm.'"
    ):
        JudgeGrader(server.url, "tester", timeout=5, retries=1).grade("q", "2", "3")


def test_only_the_end_of_a_long_response_is_sent_between_its_markers(serve: Callable[..., Server]) -> None:
    server = serve(says("VERDICT: wrong"))
    JudgeGrader(server.url, "tester", timeout=5, longest=100).grade("q", "2", "a" * 500 + "VERDICT: correct")
    sent = server.requests[0][1]["messages"][-1]["content"]
    assert "a" * 84 + "VERDICT: correct\n" in sent and "a" * 85 not in sent


def test_the_key_comes_from_the_environment_and_is_no_fact(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sesame")
    server = serve(says("VERDICT: correct"))
    grader = grader_named({"name": "judge", "base_url": server.url, "model": "tester", "key": "MY_KEY"})
    assert grader.grade("q", "2", "2").correct and server.headers[0]["Authorization"] == "Bearer sesame"
    assert "sesame" not in repr(grader) and "MY_KEY" not in str(grader.facts) and server.url not in str(grader.facts)
    with pytest.raises(BadInput, match="not an address"):
        JudgeGrader("localhost", "tester")


def test_the_endpoint_reads_whatever_it_is_told_to(serve: Callable[..., Server]) -> None:
    def read(answer: str) -> int:
        if not answer.isdigit():
            raise Unusable("it is no number.")
        return int(answer)

    server = serve(says("seven"), says("7"))
    endpoint = Endpoint(server.url, "tester", timeout=5, pause=0.01)
    assert endpoint.ask([{"role": "user", "content": "a number?"}], read, remedy="Digits only.") == 7
    assert server.requests[1][1]["messages"][-1]["content"] == "That cannot be used: it is no number. Digits only."


def test_a_response_that_ends_inside_its_thinking_is_not_sent_unless_the_grader_is_lenient(
    serve: Callable[..., Server],
) -> None:
    server, text = serve(says("VERDICT: correct")), "<think>So \\boxed{2}, and"
    grade = JudgeGrader(server.url, "tester", timeout=5).grade("q", "2", text)
    assert grade.value is None and grade.unclosed and grade.lenient is None and not server.requests
    grade = JudgeGrader(server.url, "tester", timeout=5, lenient=True).grade("q", "2", text)
    assert grade.correct and grade.unclosed and grade.lenient is True and len(server.requests) == 1
