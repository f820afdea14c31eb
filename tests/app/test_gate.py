"""Who may ask the app: real requests to a started server, with the hosts, origins and tokens of a page elsewhere."""

from __future__ import annotations

import http.client
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.testclient import TestClient

from app.gate import Gate, failed, may_ask, parse_host, read_hosts, same_place
from app.jobs.owner import COOKIE, change_word, owner_id
from app.launch import command, environment
from steering.errors import BadInput
from tests.app.conftest import _wait_for

ROUTES = (
    "/",
    "/playground",
    "/_stcore/health",
    "/_stcore/host-config",
    "/static/index.html",
    "/steer/jobs",
    "/steer/jobs/0",
)
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server that was started with one more host, with one ended job in its store."""
    runs = tmp_path_factory.mktemp("gate")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    settings = environment(runs, hosts=["steer.example"]) | {"STEERING_ENGINE": "tests.app.fake_engine:Engine"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command(number, open_browser=False), env=settings, **quiet)  # type: ignore[call-overload]
    try:
        _wait_for(f"http://127.0.0.1:{number}/_stcore/health", process)
        yield number
    finally:
        process.terminate()
        process.wait(timeout=20)


def ask(port: int, path: str, host: str | None, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of one request with exactly this Host."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    if host is not None:
        connection.putheader("Host", host)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    found = {name.lower(): value for name, value in answer.getheaders()}
    text = "" if answer.status == 101 else answer.read().decode(errors="replace")
    connection.close()
    return answer.status, found, text


def upgrade(port: int, host: str, **headers: str) -> int:
    """The status with which the pages' socket answers a handshake."""
    more = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13", "Sec_WebSocket_Key": KEY}
    return ask(port, "/_stcore/stream", host, **more, **headers)[0]


def token(port: int, host: str) -> str:
    """Streamlit's token, as a page of this server reads it from its cookie."""
    _, headers, _ = ask(port, "/_stcore/health", host)
    return headers["set-cookie"].split(";")[0].split("=", 1)[1].strip('"')


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_refuses_a_name_that_was_pointed_at_this_machine(port: int, path: str) -> None:
    mine = f"127.0.0.1:{port}"
    for host in (
        f"evil.example:{port}",
        "evil.example",
        f"127.0.0.1.evil.example:{port}",
        "127.0.0.1:1",
        f"[::2]:{port}",
        "",
        "a b",
    ):
        status, _, text = ask(port, path, host)
        assert (status, "--allow-host" in text) == (403, True), host
    assert ask(port, path, mine, Origin="http://evil.example")[0] == 403
    assert ask(port, path, mine, Origin=f"http://evil.example:{port}")[0] == 403
    assert ask(port, path, mine, Origin="null")[0] == 403
    for host in (mine, f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}", "steer.example", "steer.example:443"):
        status, _, text = ask(port, path, host)
        assert status == (404 if path.endswith("/0") else 200), (host, text)


def test_the_pages_socket_opens_to_a_page_of_this_server_alone(port: int) -> None:
    mine = f"127.0.0.1:{port}"
    word = token(port, mine)
    own = {"Cookie": f'other="; _streamlit_xsrf="{word}"', "Sec_WebSocket_Protocol": f"streamlit, {word}"}
    assert upgrade(port, mine, Origin=f"http://{mine}", **own) == 101
    assert upgrade(port, "steer.example", Origin="https://steer.example", **own) == 101
    assert upgrade(port, f"evil.example:{port}", Origin=f"http://evil.example:{port}", **own) == 403
    assert upgrade(port, mine, Origin="http://evil.example", **own) == 403
    assert upgrade(port, mine, Origin="http://localhost:1", **own) == 403, "another program of this machine"
    assert upgrade(port, mine, **own) == 403, "no browser leaves the origin out"
    forged = {**own, "Sec_WebSocket_Protocol": f"streamlit, {token(port, mine)}"}
    assert upgrade(port, mine, Origin=f"http://{mine}", **forged) == 403, "the cookie alone is not enough"
    assert upgrade(port, mine, Origin=f"http://{mine}", **{**own, "Sec_WebSocket_Protocol": "streamlit"}) == 403


@pytest.mark.parametrize(
    "path", [*ROUTES, "/steer/jobs/0/events?after=x", "/static/none.js", "/_stcore/upload_file/a/b"]
)
def test_no_answer_can_be_shown_in_a_frame(port: int, path: str) -> None:
    for host in (f"127.0.0.1:{port}", "evil.example"):
        _, headers, _ = ask(port, path, host)
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_a_browser_is_stopped_from_changing_anything_by_its_cookie_alone(port: int) -> None:
    mine = f"127.0.0.1:{port}"
    cookie = {"Cookie": f"{COOKIE}=secret"}
    assert ask(port, "/steer/jobs/0/cancel", mine, "POST", **cookie)[0] == 403
    assert ask(port, "/steer/jobs/0/cancel", mine, "POST", Origin=f"http://{mine}", **cookie)[0] == 403
    assert ask(port, "/steer/jobs/0/cancel", mine, "POST", X_Steer_Token=change_word("other"), **cookie)[0] == 403
    assert ask(port, "/steer/jobs/0/cancel", mine, "POST", X_Steer_Token=change_word("secret"), **cookie)[0] == 404
    assert ask(port, "/_stcore/upload_file/a/b", mine, "PUT", Content_Length="0", **cookie)[0] == 403


def test_a_word_of_change_gives_neither_token_nor_id_away() -> None:
    word = change_word("secret")
    assert len(word) == 64
    assert not word.startswith(owner_id("secret"))
    assert change_word("other") != word


def test_hosts_are_read_as_a_browser_writes_them() -> None:
    assert parse_host("LocalHost.:80") == ("localhost", 80)
    assert parse_host("[::1]:8501") == ("::1", 8501)
    for text in ("", "a b", "a/b", "http://a", "a:", "a:b", "a@b", "a:1:2", "::1", "é", "a:１"):
        assert parse_host(text) is None, text
    assert may_ask("127.0.0.1", 80, [])
    assert not may_ask("127.0.0.1", 8501, [])
    assert may_ask("127.0.0.1:9000", 8501, ["127.0.0.1:9000"])
    assert not may_ask("steer.example:81", 8501, ["steer.example:80"])
    assert same_place("https://steer.example", "steer.example:443")
    assert not same_place("https://steer.example", "steer.example:80")
    assert not same_place("file://steer.example", "steer.example")
    assert not same_place("http://[x", "x")
    with pytest.raises(BadInput, match="without http://"):
        read_hosts(["https://steer.example"])


def test_an_answer_of_a_request_that_failed_cannot_be_framed_either() -> None:
    def broken(request: Any) -> None:
        raise RuntimeError("broken")

    app = Starlette(
        routes=[Route("/", broken)], middleware=[Middleware(Gate, [])], exception_handlers={Exception: failed}
    )
    client = TestClient(app, base_url="http://localhost:80", raise_server_exceptions=False)
    answer = client.get("/")
    assert (answer.status_code, answer.headers["x-frame-options"]) == (500, "DENY")
    assert "broken" not in answer.text


def test_two_hosts_in_one_request_are_refused() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("reached")

    names = [(b"host", b"localhost"), (b"Host", b"evil.example")]
    assert Gate(app, []).trouble({"type": "http", "server": ("127.0.0.1", 80), "headers": names})
