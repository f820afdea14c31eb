"""The worker process and the board: queue, lease, cancel, kill, what is kept, memory, owners, commands, the ledger.

The engine is the fake one beside this file, in the real worker process; the real engine is in `test_live.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.jobs.admission import admitted_command
from app.jobs.board import PER_OWNER, Board, NotOwner, Refused
from app.jobs.commands import outcome
from app.jobs.job import ENDED, Job
from app.jobs.ledger import LOST, Ledger
from app.jobs.memory import is_short

ENGINE = "tests.app.fake_engine:Engine"


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    made = Board(ENGINE, tmp_path)
    yield made
    made.close()


def ask(board: Board, prompt: str, owner: str = "me", model: str = "fake") -> Job:
    job = board.get(board.submit_generation({"prompt": prompt, "model": model, "max_new_tokens": 20}, prompt, owner))
    assert job is not None
    return job


def until(ready: Callable[[], object], seconds: float = 20) -> float:
    begun = time.monotonic()
    while not ready():
        assert time.monotonic() - begun < seconds, "it did not happen in time"
        time.sleep(0.005)
    return time.monotonic() - begun


def texts(job: Job) -> list[str]:
    return [event["text"] for event in job.events if event["kind"] == "token"]


def test_a_job_goes_through_its_states_and_gives_every_token_once(board: Board) -> None:
    job = ask(board, "a 30")
    until(lambda: job.over)
    states = [event["state"] for event in job.events if event["kind"] == "state"]
    assert states[0] == "queued"
    assert list(dict.fromkeys(states)) == ["queued", "loading", "running", "done"]
    assert texts(job) == [f"a{i}" for i in range(30)]
    assert job.done == 30
    assert board.worker.models == ["fake"]


def test_jobs_run_one_at_a_time_in_order_and_know_how_many_are_ahead(board: Board) -> None:
    first, second, third = (
        ask(board, f"{name} 12 slow", owner) for name, owner in (("a", "x"), ("b", "y"), ("c", "x"))
    )
    until(lambda: first.state == "running")
    assert board.holder() is first
    assert [board.ahead(job) for job in (first, second, third)] == [0, 1, 2]
    assert board.active() == (1, 2)
    until(lambda: third.over)
    assert first.ended <= second.begun + 0.01
    assert second.ended <= third.begun + 0.01
    details = [event["detail"] for event in third.events if event.get("state") == "queued"]
    assert details[-2:] == ["1 job ahead", "next"] or details[-1] == "1 job ahead"
    for job, name in ((first, "a"), (second, "b"), (third, "c")):
        assert texts(job) == [f"{name}{i}" for i in range(12)]


def test_cancel_takes_effect_within_a_second_and_keeps_the_partial_text(board: Board) -> None:
    job = ask(board, "a 400 slow")
    until(lambda: len(texts(job)) >= 4)
    board.cancel(job.id, "me")
    assert until(lambda: job.over) < 1
    assert job.state == "cancelled"
    kept = texts(job)
    assert kept == [f"a{i}" for i in range(len(kept))]
    assert 4 <= len(kept) < 40
    assert job.find("end")["finish"] == "cancelled"
    assert board.worker.pid is not None, "a worker that obeys is not killed"


def test_a_job_that_does_not_obey_is_ended_with_its_process_within_a_second_and_the_next_one_runs(board: Board) -> None:
    job = ask(board, "a hang")
    until(lambda: len(texts(job)) == 6)
    before = board.worker.pid
    board.cancel(job.id, "me")
    assert until(lambda: job.over) < 1
    assert job.state == "cancelled"
    assert texts(job) == [f"a{i}" for i in range(6)]
    after = ask(board, "b 3")
    until(lambda: after.over)
    assert after.state == "done"
    assert board.worker.pid not in (None, before)


def test_a_queued_job_is_cancelled_before_it_begins(board: Board) -> None:
    first, second, third = (ask(board, f"{name} 12 slow") for name in "abc")
    board.cancel(second.id, "me")
    assert second.state == "cancelled"
    assert texts(second) == []
    until(lambda: third.over)
    assert third.state == first.state == "done"


def test_a_killed_worker_fails_its_job_with_its_own_message_and_is_replaced(board: Board) -> None:
    job = ask(board, "a die")
    until(lambda: job.over)
    assert job.state == "failed"
    assert "signal 9" in job.error
    assert "ran out of memory" in job.error
    assert "Next:" in job.error
    assert texts(job) == [f"a{i}" for i in range(6)]
    again = ask(board, "b 2")
    until(lambda: again.over)
    assert again.state == "done"


def test_running_out_of_memory_says_what_to_do_keeps_the_text_and_lets_the_models_go(board: Board) -> None:
    job = ask(board, "a memory")
    until(lambda: job.over)
    assert job.state == "failed"
    assert "not enough memory" in job.error
    assert "40 GiB" in job.error
    assert "smaller model" in job.error
    assert "MemoryError" in job.traceback
    assert len(texts(job)) == 6
    until(lambda: board.holder() is None)
    again = ask(board, "b 2")
    until(lambda: again.over)
    assert (again.state, [e["detail"] for e in again.events if e.get("state") == "loading"][-1]) == ("done", "fake")


def test_models_are_kept_between_jobs_and_let_go_when_asked(board: Board) -> None:
    for prompt in ("a 2", "b 2"):
        job = ask(board, prompt)
        until(lambda job=job: job.over and board.holder() is None)
    assert [e for e in job.events if e.get("state") == "loading" and e["detail"] == "fake"] == []
    board.unload()
    assert board.worker.models == []
    slow = ask(board, "c 30 slow")
    until(lambda: slow.state == "running")
    with pytest.raises(Refused, match="in use"):
        board.unload()


def test_only_the_owner_cancels_and_others_watch(board: Board) -> None:
    mine, theirs = ask(board, "a 20 slow", "me"), ask(board, "b 4", "you")
    with pytest.raises(NotOwner, match="another browser"):
        board.cancel(mine.id, "you")
    with pytest.raises(Refused, match="no such job"):
        board.cancel("nothing", "me")
    until(lambda: theirs.over)
    assert (mine.state, theirs.state) == ("done", "done")
    assert texts(mine) == [f"a{i}" for i in range(20)]
    assert texts(theirs) == [f"b{i}" for i in range(4)]


def listing(board: Board, owner: str = "me") -> Job:
    """A command that takes a second or two."""
    job = board.get(board.submit_command(["runs", "list"], "list", owner))
    assert job is not None
    return job


def test_a_command_runs_beside_a_generation_and_a_generation_beside_a_command(board: Board) -> None:
    text = ask(board, "a 400 slow")
    until(lambda: len(texts(text)) >= 2)
    command = listing(board)
    assert board.ahead(command) == 0 and board.before("generate") == 1
    until(lambda: command.over, 60)
    assert command.state == "done" and not text.over, "the command did not wait for the generation"
    board.cancel(text.id, "me")
    until(lambda: text.over)
    second = listing(board)
    until(lambda: second.state == "running")
    short = ask(board, "b 3")
    until(lambda: short.over)
    assert short.state == "done" and short.ended < (second.ended or time.time() + 1)
    shared = [event["shared"] for job in (text, short) for event in job.events if event["kind"] == "lanes"]
    assert shared == [False, True], "a generation that begins beside a command is told so"
    until(lambda: second.over, 60)


def test_models_are_let_go_before_a_command_only_where_memory_is_short(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    for short, kept in ((False, ["fake"]), (True, [])):
        monkeypatch.setattr("app.jobs.board.is_short", lambda short=short: short)
        text = ask(board, "a 2")
        until(lambda text=text: text.over and board.holder() is None)
        command = listing(board)
        until(lambda command=command: command.over, 60)
        assert board.worker.models == kept


def test_where_one_job_runs_at_a_time_a_command_waits_and_models_are_let_go(tmp_path: Path) -> None:
    board = Board(ENGINE, tmp_path, alone=True)
    try:
        text = ask(board, "a 30 slow")
        until(lambda: text.state == "running")
        command = listing(board)
        assert board.ahead(command) == 1 and board.active() == (1, 1)
        until(lambda: command.over, 60)
        assert text.ended <= command.begun + 0.01 and board.worker.models == []
    finally:
        board.close()


def test_the_one_user_of_a_server_stops_what_another_browser_began(tmp_path: Path) -> None:
    board = Board(ENGINE, tmp_path, single=True)
    try:
        job = ask(board, "a 400 slow", "my other browser")
        until(lambda: len(texts(job)) >= 2)
        board.cancel(job.id, "me")
        assert until(lambda: job.over) < 1 and job.state == "cancelled"
    finally:
        board.close()


@pytest.mark.parametrize(("available", "short"), [(20, True), (30, False)])
def test_memory_is_short_below_a_quarter(tmp_path: Path, available: int, short: bool) -> None:
    facts = tmp_path / "meminfo"
    facts.write_text(f"MemTotal:  100 kB\nMemFree: 3 kB\nMemAvailable:  {available} kB\n")
    assert is_short(facts) is short
    assert is_short(tmp_path / "nothing"), "where the system does not say, models are let go"


def test_one_browser_cannot_fill_the_queue(board: Board) -> None:
    blocker = ask(board, "a 400 slow")
    until(lambda: blocker.state == "running")
    for _ in range(PER_OWNER):
        ask(board, "b 1")
    with pytest.raises(Refused, match="waiting already"):
        ask(board, "b 1")
    ask(board, "c 1", "you")


def test_readers_that_resume_miss_nothing(board: Board) -> None:
    job = ask(board, "a 200")
    seen: list[dict] = []
    while True:
        batch, over = job.since(len(seen))
        seen += batch[:7]
        if over and len(seen) == len(job.events):
            break
    assert seen == job.events


def test_a_command_runs_with_its_log_and_output_and_its_exit_code_is_its_state(board: Board, tmp_path: Path) -> None:
    good = board.get(board.submit_command(["runs", "list", "--json", "--runs", str(tmp_path)], "list", "me"))
    bad = board.get(board.submit_command(["eval", str(tmp_path / "none.yaml")], "eval", "me"))
    assert good and bad
    until(lambda: bad.over, 60)
    assert (good.state, good.result["exit"]) == ("done", 0)
    assert json.loads(good.result["output"]) == []
    assert (bad.state, bad.result["exit"]) == ("failed", 2)
    assert "input cannot be run" in bad.error
    assert "No spec file" in " ".join(bad.log())


def test_exit_codes_are_states() -> None:
    codes = {0: "done", 1: "failed", 2: "failed", 3: "failed", 130: "interrupted", -9: "failed", -15: "failed"}
    assert {code: outcome(code, False)[0] for code in codes} == codes
    assert outcome(130, True)[0] == outcome(-9, True)[0] == "cancelled"
    assert outcome(0, True)[0] == "done"
    assert "stored" in outcome(3, False)[1]


@pytest.mark.parametrize("arguments", [[], ["app"], ["pair", "train"], ["--help"], ["eval", "a\x00b"]])
def test_other_programs_cannot_be_started(arguments: list[str]) -> None:
    with pytest.raises(ValueError):
        admitted_command(arguments)


def test_a_command_is_cancelled_with_sigint(board: Board, tmp_path: Path) -> None:
    job = board.get(board.submit_command(["eval", "--n", "4000", "--runs", str(tmp_path / "runs")], "eval", "me"))
    assert job
    until(lambda: job.state == "running")
    time.sleep(0.3)
    board.cancel(job.id, "me")
    until(lambda: job.over)
    assert job.state == "cancelled"
    assert "Retry" in job.error


def test_a_job_can_be_run_again(board: Board) -> None:
    job = ask(board, "a 3")
    until(lambda: job.over)
    again = board.get(board.retry(job.id, "you"))
    assert again is not None
    until(lambda: again.over)
    assert (texts(again), again.owner) == (texts(job), "you")


def test_the_ledger_remembers_and_calls_lost_jobs_interrupted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ended, lost = (
        Job("generate", "ended", "me", {}, state="done"),
        Job("command", "lost", "me", ["eval"], state="running"),
    )
    for job in (ended, lost):
        ledger.write(job)
    (tmp_path / ".jobs" / "torn.json").write_text("{")
    read = {job.title: job for job in Board(ENGINE, tmp_path).jobs()}
    assert {title: job.state for title, job in read.items()} == {"ended": "done", "lost": "interrupted"}
    assert read["lost"].error == LOST
    assert read["lost"].state in ENDED


def test_closing_ends_everything(tmp_path: Path) -> None:
    board = Board(ENGINE, tmp_path)
    running, waiting = ask(board, "a 400 slow"), ask(board, "b 1")
    until(lambda: running.state == "running")
    board.close()
    assert (running.state, waiting.state) == ("interrupted", "interrupted")
    assert board.worker.pid is None
    assert {job.state for job in Ledger(tmp_path).read()} == {"interrupted"}
    with pytest.raises(Refused):
        ask(board, "c")
