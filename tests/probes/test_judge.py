"""The judge against a small server on this machine: good answers, and every bad one that servers and models give."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from probes.endpoint import Endpoint
from probes.judge import Judge, JudgeError, pieces
from steering.errors import BadInput

TRACE = "Okay, so I add 2 and 3.\nThat gives 5.\n\nWait, let me try another way."
GOOD = (
    '["initializing"] Okay, so I add 2 and 3. ["end-section"]\n["deduction"] That gives\n5. ["end-section"] '
    '["backtracking"] Wait, let me try another way. ["end-section"]'
)
Answer = Callable[[dict[str, Any]], tuple[int, bytes]]


def made_judge(base_url: str, model: str = "tester", **options: Any) -> Judge:
    """A judge of an endpoint's options and of its own."""
    own = {name: options.pop(name) for name in ("piece", "missing", "confidence") if name in options}
    return Judge(Endpoint(base_url, model, **options), **own)


class Server:
    """Answers each request with the next of `answers` (the last one again when there are no more), and keeps what it was sent."""

    def __init__(self, answers: list[Answer]):
        self.answers, self.requests, self.headers = answers, [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, body))
                outer.headers.append(dict(self.headers))
                answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                code, content = answer(body)
                try:
                    self.send_response(code)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    pass

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def judge(self, **options: Any) -> Judge:
        return made_judge(self.url, **{"pause": 0.01, "timeout": 5.0, "retries": 1, **options})


def says(content: str | None, **choice: Any) -> Answer:
    message = {"role": "assistant", "content": content, **choice.pop("message", {})}
    return lambda _: (200, json.dumps({"choices": [{"message": message, "finish_reason": "stop", **choice}]}).encode())


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def start(*answers: Answer) -> Server:
        made.append(Server(list(answers)))
        return made[-1]

    yield start
    for server in made:
        server.server.shutdown()
        server.server.server_close()


def test_a_good_answer_becomes_labels_of_the_text(serve: Callable[..., Server]) -> None:
    server = serve(says(GOOD))
    found = server.judge(api_key="sesame").label(TRACE)
    assert [(f.label, TRACE[f.start : f.end]) for f in found] == [
        ("initializing", "Okay, so I add 2 and 3."),
        ("deduction", "That gives 5."),
        ("backtracking", "Wait, let me try another way."),
    ]
    assert {f.detector for f in found} == {"judge tester"} and all(f.confidence < 1 for f in found)
    ((path, body),) = server.requests
    assert path == "/v1/chat/completions" and body["temperature"] == 0 and body["model"] == "tester"
    assert body["messages"][-1]["content"] == TRACE
    assert server.headers[0]["Authorization"] == "Bearer sesame" and "sesame" not in repr(
        server.judge(api_key="sesame")
    )


def test_an_answer_that_alters_the_text_goes_back_with_what_was_wrong(serve: Callable[..., Server]) -> None:
    server = serve(says(GOOD.replace("gives\n5", "gives 6")), says(GOOD))
    assert len(server.judge().label(TRACE)) == 3
    again = server.requests[1][1]["messages"]
    assert [m["role"] for m in again] == ["system", "user", "assistant", "user"]
    assert "'That gives 6.'" in again[-1]["content"] and "word for word" in again[-1]["content"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (says(GOOD.replace("gives\n5", "gives 6")), "'That gives 6.' is not in the trace"),
        (says(GOOD.replace('"deduction"', '"thinking"')), "'thinking' is none of initializing"),
        (says("I cannot help with that."), "no marked part, but begins 'I cannot help"),
        (says(None, message={"refusal": "not allowed"}), "refused: not allowed"),
        (says(""), "empty"),
        (says(GOOD.split("\n")[0]), "characters are not marked"),
        (says(GOOD, finish_reason="length"), "cut at its token limit"),
        (lambda _: (200, b"<html>busy</html>"), "form of chat completions"),
        (lambda _: (200, b'{"choices": []}'), "form of chat completions"),
        (lambda _: (503, b"overloaded"), "answered 503: overloaded"),
    ],
)
def test_answers_that_cannot_be_used_end_with_their_reason(
    answer: Answer, told: str, serve: Callable[..., Server]
) -> None:
    server = serve(answer)
    with pytest.raises(JudgeError, match="in 2 attempts") as raised:
        server.judge().label(TRACE)
    assert told in str(raised.value) and len(server.requests) == 2


def test_a_rejected_key_is_not_tried_again_and_never_shown(serve: Callable[..., Server]) -> None:
    server = serve(lambda _: (401, b"bad key"))
    with pytest.raises(JudgeError, match="401: bad key") as raised:
        server.judge(api_key="sesame").label(TRACE)
    assert len(server.requests) == 1 and "sesame" not in str(raised.value)


def test_a_slow_server_is_given_up_in_time(serve: Callable[..., Server]) -> None:
    def slow(_: dict[str, Any]) -> tuple[int, bytes]:
        time.sleep(0.6)
        return 200, b"{}"

    server = serve(slow)
    began = time.monotonic()
    with pytest.raises(JudgeError, match="no answer within 0.2 s"):
        server.judge(timeout=0.2).label(TRACE)
    assert time.monotonic() - began < 3


def test_no_server_at_all_is_said() -> None:
    with pytest.raises(JudgeError, match="no connection"):
        made_judge("http://127.0.0.1:9/v1", retries=0).label(TRACE)


def test_long_traces_go_in_pieces_between_sentences(serve: Callable[..., Server]) -> None:
    text = " ".join(f"Sentence number {i} says something of its own." for i in range(40))

    def echo(body: dict[str, Any]) -> tuple[int, bytes]:
        return says(f'["deduction"] {body["messages"][-1]["content"]} ["end-section"]')(body)

    server = serve(echo)
    found = server.judge(piece=400).label(text)
    assert len(server.requests) == len(found) == len(pieces(text, 400)) > 3
    assert " ".join(text[f.start : f.end] for f in found) == text
    assert max(end - start for start, end in pieces(text, 400)) <= 400


def test_settings_that_make_no_judge_are_refused() -> None:
    for options in ({"base_url": "localhost"}, {"model": ""}, {"timeout": 0}, {"confidence": 1.0}):
        with pytest.raises(BadInput):
            made_judge(**{"base_url": "http://x/v1", "model": "m", **options})
