"""The server of one reading room: a page, a list, volumes, news. It reads what was opened, and writes verdicts alone.

Cases, sheets and runs are asked for by their number: no path comes in, so none can lead out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import segue
from segue.catalogue import VERDICTS, Verdict, read_verdicts, write_verdicts
from segue.core.errors import SegueError
from segue.core.files import jsonable, parse_json
from segue.view.colours import label_colours
from segue.view.facts import read_facts
from segue.view.room.describing import described
from segue.view.room.errors import largest_errors
from segue.view.room.following import Tail, state_of, trainings
from segue.view.room.guard import Guard
from segue.view.room.page import room_page
from segue.view.room.shelf import Room, RoomCase, Sheet
from segue.view.room.volumes import Ready, VolumeCache
from segue.view.samples import samples_section
from segue.view.windows import CT_WINDOWS

ASSETS = Path(str(resources.files("segue.view"))) / "assets"
_FOR_EVER = "private, max-age=31536000, immutable"
_LOOK_EVERY_S = 0.5
_LONGEST_BODY = 16_384
_TYPES = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain"}


def room_app(room: Room, token: str, cache: VolumeCache, closing: Callable[[], bool] = lambda: False) -> Starlette:
    """The application of one room.

    Args:
        token: the secret of the address.
        closing: whether the server is about to end, so that streams end too.
    """
    served = _Served(room, cache, closing)
    routes = [
        Route("/", served.page),
        Route("/assets/{name}", served.asset),
        Route("/api/room", served.room_facts),
        Route("/api/news", served.news),
        Route("/api/runs/{run:int}/{fold:int}/samples", served.samples),
        Route("/api/cases/{case:int}", served.case),
        Route("/api/cases/{case:int}/{kind}/{sheet:int}/{level}/{key}.nii.gz", served.volume),
        Route("/api/cases/{case:int}/errors/{run:int}", served.errors),
        Route("/api/cases/{case:int}/verdict", served.verdict, methods=["POST"]),
    ]
    middleware = [Middleware(Guard, token=token), Middleware(_JsonGzip)]
    handlers: Any = {SegueError: _told, HTTPException: _refused}
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)


class _JsonGzip(GZipMiddleware):
    """Packs lists and scripts; volumes are packed already, and a stream of news must not wait for its end."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and (scope["path"].endswith(".nii.gz") or scope["path"] == "/api/news"):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class _Served:
    """The answers; each method is one route."""

    def __init__(self, room: Room, cache: VolumeCache, closing: Callable[[], bool]) -> None:
        self.room, self.cache, self.closing = room, cache, closing

    async def page(self, request: Request) -> Response:
        return HTMLResponse(room_page(self.room, ASSETS))

    async def asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        # The name is compared with what is there; it never becomes part of a path.
        path = next((path for path in ASSETS.glob("*") if path.name == name and path.suffix in _TYPES), None)
        if path is None:
            raise HTTPException(404, "no such file")
        return FileResponse(path, media_type=_TYPES[path.suffix], headers={"cache-control": "no-cache"})

    async def room_facts(self, request: Request) -> Response:
        room = self.room
        verdicts, problem = await run_in_threadpool(self._verdicts)
        return _json(
            {
                "title": room.title,
                "kind": room.kind,
                "version": segue.__version__,
                "notes": list(room.notes) + ([problem] if problem else []),
                "colours": label_colours(list(room.labels.values())),
                "runs": [{"name": name, "trainings": self._trainings(place)} for place, name in enumerate(room.names)],
                "cases": room.listing,
                "verdicts": verdicts,
                "windows": [{"name": w.name, "min": w.low, "max": w.high} for w in CT_WINDOWS],
                "unfinished": any(not run.finished for run in room.runs),
                "writable": room.root is not None and problem is None,
            }
        )

    def _trainings(self, place: int) -> list[str]:
        top = self.room.runs[place]
        return [run.folder.name if run != top else "" for run in trainings(top)]

    async def case(self, request: Request) -> Response:
        number = self._number(request)
        return _json(await run_in_threadpool(described, self.room, number, self.cache))

    async def volume(self, request: Request) -> Response:
        case = self.room.cases[self._number(request)]
        ready = await run_in_threadpool(self._ready, case, request)
        level, key = request.path_params["level"], request.path_params["key"]
        if level not in ready.files:
            raise HTTPException(404, "no such level")
        if key != ready.key:
            raise HTTPException(410, "this volume has changed since the case was opened: open it again")
        headers = {"cache-control": _FOR_EVER, "etag": f'"{ready.key}-{level}"'}
        if headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return FileResponse(ready.files[level], media_type="application/gzip", headers=headers)

    def _ready(self, case: RoomCase, request: Request) -> Ready:
        images, masks = case.sheets()
        sheets: list[Sheet] = {"images": images, "masks": masks}.get(request.path_params["kind"], [])
        place = request.path_params["sheet"]
        if place >= len(sheets):
            raise HTTPException(404, "no such volume")
        return self.cache.ready(sheets[place], labels=request.path_params["kind"] == "masks")

    async def errors(self, request: Request) -> Response:
        case = self.room.cases[self._number(request)]
        found = await run_in_threadpool(self._errors, case, request.path_params["run"])
        return _json({"errors": [asdict(error) for error in found]})

    def _errors(self, case: RoomCase, run: int) -> list[Any]:
        masks = case.sheets()[1]
        truth = next((mask for mask in masks if mask.run is None and mask.name == "truth"), None)
        prediction = next((mask for mask in masks if mask.run == run), None)
        if truth is None or prediction is None:
            return []
        ignored = self.room.card.ignore_label if self.room.card else None
        return largest_errors(truth.read(), prediction.read(), self.room.labels, ignored)

    async def samples(self, request: Request) -> Response:
        place, fold = request.path_params["run"], request.path_params["fold"]
        members = trainings(self.room.runs[place]) if place < len(self.room.runs) else []
        if fold >= len(members):
            raise HTTPException(404, "no such training")
        return _json(await run_in_threadpool(lambda: samples_section(read_facts(members[fold], {}))))

    async def verdict(self, request: Request) -> Response:
        number = self._number(request)
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            raise HTTPException(415, "JSON is expected")
        if self.room.root is None:
            raise HTTPException(409, "single files have no table of verdicts: open a dataset or a run")
        body = await _body(request)
        word, reason = body.get("verdict"), body.get("reason", "")
        if word not in ("accept", "flag", "exclude", None) or not isinstance(reason, str):
            raise HTTPException(422, "a verdict is accept, flag, exclude or null, with a reason in words")
        name = self.room.cases[number].id
        if word is None:
            write: Callable[[], Any] = partial(write_verdicts, self.room.root, [], [name])
        else:
            write = partial(write_verdicts, self.room.root, [Verdict(name, word, reason)])
        return _json({"verdicts": _told_verdicts(await run_in_threadpool(write))})

    async def news(self, request: Request) -> Response:
        return StreamingResponse(self._news(request), media_type="text/event-stream")

    async def _news(self, request: Request) -> AsyncIterator[str]:
        """Server-Sent Events: ``verdicts`` when the table changes, ``training`` with new events of each run."""
        tails = [
            (place, fold, run, Tail(run.events))
            for place, top in enumerate(self.room.runs)
            for fold, run in enumerate(trainings(top))
        ]
        ended: set[tuple[int, int]] = set()
        stamp = self._stamp()
        yield "retry: 2000\n\n"
        while not self.closing() and not await request.is_disconnected():
            for place, fold, run, tail in tails:
                events = await run_in_threadpool(tail.new)
                if events or (place, fold) not in ended:
                    state = await run_in_threadpool(state_of, run)
                    if state["going"] is not True:
                        ended.add((place, fold))
                    if events or state["going"] is not True:
                        yield _event("training", {"run": place, "fold": fold, "events": events, "state": state})
            if (now := self._stamp()) != stamp:
                stamp = now
                verdicts, problem = await run_in_threadpool(self._verdicts)
                yield _event("verdicts", {"verdicts": verdicts, "problem": problem})
            await asyncio.sleep(_LOOK_EVERY_S)

    def _number(self, request: Request) -> int:
        number = request.path_params["case"]
        if not 0 <= number < len(self.room.cases):
            raise HTTPException(404, "no such case")
        return number

    def _stamp(self) -> object:
        try:
            stat = (self.room.root / VERDICTS).stat() if self.room.root else None
        except OSError:
            return None
        return stat and (stat.st_mtime_ns, stat.st_size, stat.st_ino)

    def _verdicts(self) -> tuple[dict[str, Any], str | None]:
        if self.room.root is None:
            return {}, None
        try:
            return _told_verdicts(read_verdicts(self.room.root)), None
        except SegueError as error:
            return {}, str(error)


def _told_verdicts(verdicts: dict[str, Verdict]) -> dict[str, Any]:
    return {name: {"verdict": one.verdict, "reason": one.reason, "by": one.by} for name, one in verdicts.items()}


async def _body(request: Request) -> dict[str, Any]:
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > _LONGEST_BODY:
            raise HTTPException(413, "a verdict is short")
    try:
        body = parse_json(content)
    except (ValueError, RecursionError):
        raise HTTPException(400, "this is no JSON") from None
    if not isinstance(body, dict):
        raise HTTPException(400, "an object is expected")
    return body


def _event(kind: str, content: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps(jsonable(content), allow_nan=False)}\n\n"


def _json(content: Any) -> JSONResponse:
    return JSONResponse(jsonable(content))


async def _told(request: Request, error: Exception) -> Response:
    """An error of the data, in its own words; what lies outside the opened folder is not in them."""
    assert isinstance(error, SegueError), "the handler of these"
    return JSONResponse({"error": str(error).replace("\n  -> ", ". To mend it: ")}, 422)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "the handler of these"
    return JSONResponse({"error": error.detail}, error.status_code)
