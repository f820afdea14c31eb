"""What a browser asks of the jobs beside the pages: event streams, state, cancel.

    GET  /steer/jobs                 all jobs, without their events
    GET  /steer/jobs/{id}            one job
    GET  /steer/jobs/{id}/events     server-sent events; `id:` is the event's number
    POST /steer/jobs/{id}/cancel     stop it; only for its owner

1. A stream begins at event 0, or after the number in `Last-Event-ID` (or `?after=`); every event comes once, in order; after the last
   one it ends.
2. The owner is known by a cookie; a request that changes something must also say the owner's word in the header `X-Steer-Token`, which
   only a page of this server is given.
3. An unknown job is 404, somebody else's 403, a number that is none 400.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .board import Board, NotOwner, Refused, board
from .job import Job
from .owner import HEADER, may_change, owner_of

RETRY = 400
"""Milliseconds after which a browser connects again."""
BEAT = 10.0
"""Seconds between signs of life on a silent stream."""
LOOK = 0.5
"""Seconds after which a silent stream looks whether the server is about to end."""
_NUMBER = re.compile(r"[0-9]{0,9}")


def _facts(job: Job, kept: Board, owner: str | None) -> dict[str, Any]:
    return {**job.facts(), "ahead": kept.ahead(job), "yours": job.owner == owner}


async def listed(request: Request) -> Response:
    """All jobs, the newest first."""
    kept, owner = board(), owner_of(request.cookies)
    running, waiting = kept.active()
    jobs = [_facts(job, kept, owner) for job in kept.jobs()]
    return JSONResponse({"running": running, "queued": waiting, "jobs": jobs})


async def state(request: Request) -> Response:
    """One job."""
    job = board().get(request.path_params["id"])
    return _missing() if job is None else JSONResponse(_facts(job, board(), owner_of(request.cookies)))


async def cancel(request: Request) -> Response:
    """Stop a job."""
    if not may_change(request.cookies, request.headers.get(HEADER)):
        return JSONResponse({"error": "Ask from a page of this server, in the browser that started the job."}, 403)
    job = board().get(request.path_params["id"])
    if job is None:
        return _missing()
    try:
        board().cancel(job.id, owner_of(request.cookies) or "")
    except NotOwner as error:
        return JSONResponse({"error": str(error)}, 403)
    except Refused as error:
        return JSONResponse({"error": str(error)}, 409)
    return JSONResponse(_facts(job, board(), job.owner))


async def events(request: Request) -> Response:
    """The events of a job, as they come."""
    job = board().get(request.path_params["id"])
    if job is None:
        return _missing()
    last = request.headers.get("last-event-id") or request.query_params.get("after", "")
    if not _NUMBER.fullmatch(last):
        return JSONResponse({"error": f"{last[:40]!r} is no number of an event: give 0 to 999999999, or none."}, 400)
    begin = int(last) + 1 if last else 0
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(job, begin), media_type="text/event-stream", headers=headers)


async def _stream(job: Job, begin: int) -> AsyncIterator[str]:
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    number, silent = begin, 0.0

    def tell() -> None:
        with suppress(RuntimeError):  # the server's loop has ended
            loop.call_soon_threadsafe(news.set)

    stop = job.subscribe(tell)
    try:
        yield f"retry: {RETRY}\n\n"
        while not board().closing:
            news.clear()
            batch, over = job.since(number)
            for event in batch:
                yield f"id: {number}\ndata: {as_json(event)}\n\n"
                number += 1
            if over:
                yield "event: over\ndata: {}\n\n"
                return
            if batch:
                silent = 0.0
                continue
            try:
                await asyncio.wait_for(news.wait(), LOOK)
            except TimeoutError:
                silent += LOOK
                if number == 0 or silent >= BEAT:
                    silent = 0.0
                    yield ": alive\n\n"
    finally:
        stop()


def as_json(event: Any) -> str:
    """An event on one line; a number that is not finite becomes null."""
    return json.dumps(_finite(event), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _missing() -> Response:
    return JSONResponse({"error": "There is no such job; the server may have been started again."}, 404)


ROUTES = [
    Route("/steer/jobs", listed),
    Route("/steer/jobs/{id}", state),
    Route("/steer/jobs/{id}/events", events),
    Route("/steer/jobs/{id}/cancel", cancel, methods=["POST"]),
]
