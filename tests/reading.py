"""A reading room served in this process, on a port of its own, and a client that has its token."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn

from segue.view.room import Room, VolumeCache, room_app

TOKEN = "a token of the tests"


@dataclass
class Served:
    """Where the room is served, and a client whose cookie opens it."""

    port: int
    client: httpx.Client
    server: uvicorn.Server

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"{self.base}/?token={TOKEN.replace(' ', '%20')}"

    def json(self, path: str) -> dict:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def judge(self, number: int, **body: object) -> httpx.Response:
        return self.client.post(f"/api/cases/{number}/verdict", json=body, headers={"origin": self.base})


@contextlib.contextmanager
def served(room: Room, cache: Path) -> Iterator[Served]:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    servers: list[uvicorn.Server] = []
    app = room_app(room, TOKEN, VolumeCache(cache), lambda: bool(servers) and servers[0].should_exit)
    config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    servers.append(server)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = listening.getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        client.get("/", params={"token": TOKEN})
        yield Served(port, client, server)
    server.should_exit = True
    thread.join(timeout=10)
    listening.close()
    assert not thread.is_alive(), "the server did not end"
