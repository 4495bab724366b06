"""From a room to a page in the browser: a free port of this machine, the browser, the tunnel's line, a clean end."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import sys
import threading
import webbrowser
from typing import Any

from segue.core.console import result, say
from segue.core.errors import MachineError
from segue.view.room.app import ASSETS, room_app
from segue.view.room.page import SCRIPTS
from segue.view.room.shelf import Room
from segue.view.room.volumes import VolumeCache

_ENDS_WITHIN_S = 1


def serve(room: Room, *, browser: bool = True, cache: VolumeCache | None = None) -> None:
    """Serve a room on a free port of 127.0.0.1 until Ctrl-C, and open the browser on it.

    Where the command runs at the other end of ssh, the line that makes a tunnel is printed instead.

    Raises:
        MachineError: no port of this machine can be listened on.
    """
    import uvicorn

    cache = cache or VolumeCache()
    cache.tidy()
    token = secrets.token_urlsafe(24)
    listening = _listening()
    port = listening.getsockname()[1]
    address = f"http://127.0.0.1:{port}/?token={token}"
    servers: list[uvicorn.Server] = []
    app = room_app(room, token, cache, closing=lambda: bool(servers) and servers[0].should_exit)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # addresses hold the token
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=_ENDS_WITHIN_S,
        ws="none",
    )
    servers.append(uvicorn.Server(config))
    if missing := [name for name in SCRIPTS if not (ASSETS / name).exists()]:
        say(
            f"the scripts of the page were never built ({', '.join(missing)}): make front, or pip install . builds them"
        )
    far = bool(os.environ.get("SSH_CONNECTION"))
    result(address)
    for line in _advice(port, far, browser):
        say(line)
    if browser and not far:
        threading.Thread(target=_open, args=(address,), daemon=True).start()
    try:
        servers[0].run(sockets=[listening])
    except KeyboardInterrupt:
        pass  # uvicorn passes the signal on when it has ended
    finally:
        listening.close()
    say("closed")


def _listening() -> socket.socket:
    try:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.bind(("127.0.0.1", 0))
    except OSError as error:
        raise MachineError(
            "no port of this machine can be listened on", where="127.0.0.1", value=error.strerror
        ) from error
    return made


def _advice(port: int, far: bool, browser: bool) -> list[str]:
    lines = []
    if far:
        lines = [
            "this is a remote machine: on your own, in another terminal, run",
            f"  ssh -N -L {port}:127.0.0.1:{port} {_login()}",
            "and open the address above there (if that port is taken there, put another one before 127.0.0.1, "
            "and into the address)",
        ]
    elif not browser:
        lines = ["open the address above in a browser on this machine"]
    return [*lines, "Ctrl-C ends it"]


def _login() -> str:
    """``user@host``, with the port where it is not ssh's usual one: as ssh itself says how this machine was reached."""
    told = os.environ.get("SSH_CONNECTION", "").split()
    host, port = (told[2], told[3]) if len(told) == 4 else (socket.gethostname(), "22")
    return f"{'' if port == '22' else f'-p {port} '}{_user()}@{host}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "USER"


def _open(address: str) -> None:
    """Open a graphical browser; one that would take over the terminal is none."""
    graphical = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    opened: Any = False
    try:
        opened = graphical and webbrowser.open(address)
    except webbrowser.Error:
        opened = False
    if not opened:
        say("no browser could be opened here: open the address above yourself")
