"""The routes beside the pages: streams that resume without loss or doubling, owners, and what is not there."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from app.jobs.board import Board, replace_board
from app.jobs.job import Job
from app.jobs.owner import COOKIE, HEADER, OwnerCookie, change_word, owner_id
from app.jobs.routes import ROUTES, as_json

ROOT = Path(__file__).resolve().parents[2]
ME, YOU = "token-of-one", "token-of-another"


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    made = Board("tests.app.fake_engine:Engine", tmp_path)
    replace_board(made)
    yield made
    replace_board(None)
    made.close()


@pytest.fixture
def client(board: Board) -> TestClient:
    return TestClient(Starlette(routes=ROUTES, middleware=[Middleware(OwnerCookie)]), cookies={COOKIE: ME})


def ask(board: Board, prompt: str, owner: str = ME) -> Job:
    job = board.get(board.submit_generation({"prompt": prompt, "max_new_tokens": 20}, prompt, owner_id(owner)))
    assert job is not None
    return job


def read(client: TestClient, job: str, after: int | None = None, most: int | None = None) -> list[tuple[int, Any]]:
    """(number, event) of a stream, up to its end or the first `most`."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    found: list[tuple[int, Any]] = []
    with client.stream("GET", f"/steer/jobs/{job}/events", headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        number = -1
        for line in response.iter_lines():
            if line.startswith("id: "):
                number = int(line[4:])
            elif line.startswith("data: ") and line != "data: {}":
                found.append((number, json.loads(line[6:])))
                if most is not None and len(found) >= most:
                    break
    return found


def test_a_stream_begins_at_zero_follows_the_job_and_ends_with_it(board: Board, client: TestClient) -> None:
    job = ask(board, "a 12 slow")
    found = read(client, job.id)
    assert [number for number, _ in found] == list(range(len(job.events)))
    assert [event for _, event in found] == json.loads(as_json(job.events))
    assert found[-1][1]["state"] == "done"


@pytest.mark.parametrize("cut", [1, 3, 7, 11])
def test_a_stream_resumes_after_the_last_event_without_loss_or_doubling(
    board: Board, client: TestClient, cut: int
) -> None:
    job = ask(board, "a 30")
    while not job.over:
        time.sleep(0.01)
    whole, parts, last = read(client, job.id), [], None
    while len(parts) < len(whole):
        parts += read(client, job.id, last, cut)
        last = parts[-1][0]
    assert parts == whole
    assert read(client, job.id, whole[-1][0]) == []
    assert read(client, job.id) == whole, "a reload replays from the beginning"


def test_what_is_not_there_is_404(client: TestClient) -> None:
    for path in ("/steer/jobs/nothing", "/steer/jobs/nothing/events", "/steer/jobs/..%2f..%2fetc/events"):
        assert client.get(path).status_code == 404
    assert client.post("/steer/jobs/nothing/cancel", headers={HEADER: change_word(ME)}).status_code == 404
    assert client.get("/steer/jobs/nothing/cancel").status_code == 405


@pytest.mark.parametrize("after", ["²", "9" * 5000, "-1", "1.0", "٣", " 1", "x", "1e3"])
def test_a_number_of_an_event_that_is_none_is_said_to_be_none(board: Board, client: TestClient, after: str) -> None:
    job = ask(board, "a 2")
    for request in ({"params": {"after": after}}, {"headers": {"Last-Event-ID": after.encode()}}):
        answer = client.get(f"/steer/jobs/{job.id}/events", **request)
        assert answer.status_code == 400
        assert "no number of an event" in answer.json()["error"]


def test_only_the_owner_cancels_from_a_page_of_this_server(board: Board, client: TestClient) -> None:
    job = ask(board, "a 400 slow")
    path = f"/steer/jobs/{job.id}/cancel"
    stranger = TestClient(client.app, cookies={COOKIE: YOU})
    nobody = TestClient(client.app)
    assert [c.get(f"/steer/jobs/{job.id}").json()["yours"] for c in (client, stranger, nobody)] == [True, False, False]
    assert stranger.post(path).status_code == 403
    assert nobody.post(path).status_code == 403
    assert client.post(path, headers={"Origin": "http://testserver"}).status_code == 403, "by its cookie alone"
    assert stranger.post(path, headers={HEADER: change_word(ME)}).status_code == 403
    assert stranger.post(path, headers={HEADER: change_word(YOU)}).status_code == 403
    assert not job.over
    assert client.post(path, headers={HEADER: change_word(ME)}).status_code == 200
    begun = time.monotonic()
    while not job.over:
        time.sleep(0.005)
    assert time.monotonic() - begun < 1
    assert client.get(f"/steer/jobs/{job.id}").json()["state"] == "cancelled"


def test_the_list_says_what_runs_and_gives_no_secret_away(board: Board, client: TestClient) -> None:
    first, second = ask(board, "a 30 slow"), ask(board, "b 1", YOU)
    while first.state != "running":
        time.sleep(0.01)
    found = client.get("/steer/jobs").json()
    assert (found["running"], found["queued"]) == (1, 1)
    assert [(job["id"], job["yours"], job["ahead"]) for job in found["jobs"]] == [
        (second.id, False, 1),
        (first.id, True, 0),
    ]
    text = json.dumps(found)
    assert ME not in text
    assert "owner" not in text
    assert "request" not in text


def test_numbers_that_json_cannot_say_become_null() -> None:
    assert as_json({"a": [float("nan"), float("inf"), 1.5], "b": "\n"}) == '{"a":[null,null,1.5],"b":"\\n"}'


def test_a_page_gives_a_browser_its_token_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def header(*headers: tuple[bytes, bytes]) -> list[str]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        answered = OwnerCookie(app)({"type": "http", "headers": headers}, None, send)  # type: ignore[arg-type]
        with pytest.raises(StopIteration):  # nothing in it waits, so it needs no loop
            answered.send(None)
        return [value.decode() for name, value in sent[0]["headers"] if name == b"set-cookie"]

    (cookie,) = header((b"accept", b"text/html"))
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert header((b"accept", b"text/html"), (b"cookie", f"{COOKIE}=abc".encode())) == []
    assert header((b"accept", b"*/*")) == []


def test_the_server_and_every_page_import_no_torch() -> None:
    pages = sorted(path.stem for path in (ROOT / "app" / "app_pages").glob("*.py") if path.stem != "__init__")
    code = (
        "import sys, importlib, app.asgi, app.launch, app.context\n"
        "for name in sys.argv[1:]:\n"
        "    try: importlib.import_module('app.app_pages.' + name)\n"
        "    except (KeyError, SystemExit): pass\n"  # a page that is opened without a run
        "    except Exception as error: print('!', name, type(error).__name__, error)\n"
        "print(sorted(m for m in ('torch', 'transformers', 'sae_lens', 'datasets') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *pages], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout
