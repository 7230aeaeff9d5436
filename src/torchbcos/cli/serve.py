"""`torchbcos serve`: the page and the service."""

from __future__ import annotations

import errno
import ipaddress
import secrets
import socket
from typing import Annotated, Any

import typer

from torchbcos._core.errors import InputError
from torchbcos.cli.common import AllowCode, Device, DeviceOption, say, tell, usage_errors

__all__ = ["serve"]

_LOCAL = ("localhost", "127.0.0.1", "::1")


def serve(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="[NAME=]SOURCE", show_default="imagenet",
            help="As 'torchbcos explain' takes it; may be repeated. Each is opened when it is first asked for.",
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen on; 0.0.0.0: all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8080,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", envvar="TORCHBCOS_TOKEN", show_default="none on this machine alone, else a fresh one",
            help="What every request must carry.",
        ),
    ] = None,
    in_memory: Annotated[int, typer.Option("--in-memory", metavar="N", min=1, help="Models in memory at a time, at most.")] = 2,
    allow_code: AllowCode = False,
    device: DeviceOption = Device.auto,
) -> None:  # fmt: skip
    """Open a page on which pictures are explained, and the same answers over HTTP.

    Nothing leaves this machine, and nothing of a picture is kept. Ctrl-C ends it when what was asked is answered.
    """
    with usage_errors():
        from torchbcos._core.optional import require
        from torchbcos.service import Limits, app

        uvicorn: Any = require("uvicorn", extra="serve", why="The service")
        local = host.lower() in _LOCAL or _is_loopback(host)
        if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token and len(token) >= 8):
            raise InputError("--token has eight letters, digits and signs at least, and no blanks around them.")
        if token is None and not local:
            token = secrets.token_urlsafe(24)
        hosts = (*_LOCAL, host) if local else ()
        application = app(
            models or ["default"], limits=Limits(models=in_memory), token=token, hosts=hosts, device=device.value,
            allow_code=allow_code,
        )  # fmt: skip
        listening = _listen(host, port)
        config = uvicorn.Config(
            application, log_level="warning", access_log=False, server_header=False, timeout_keep_alive=10,
            timeout_graceful_shutdown=35, ws="none", h11_max_incomplete_event_size=32_768, limit_concurrency=256,
        )  # fmt: skip
        name = f"[{host}]" if ":" in host else "localhost" if local else socket.gethostname() if _is_any(host) else host
        page = f"http://{name}:{listening.getsockname()[1]}/"
        tell(f"The page: {page}{f'#token={token}' if token else ''}")
        if token:
            say(f"torchbcos: requests carry 'Authorization: Bearer {token}'; over a network put TLS in front of this.")
        say("torchbcos: Ctrl-C ends the service.")
        uvicorn.Server(config).run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: the port is taken, or the address is none of this machine.
    """
    try:
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(where[:2], family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise InputError(f"Port {port} is taken: choose another one with --port, or --port 0 for any that is free.") from None
        if isinstance(error, PermissionError):
            raise InputError(f"Port {port} may not be used: choose one from 1024 on.") from None
        raise InputError(
            f"{host[:80]!r} is no address of this machine: 127.0.0.1 is this machine alone, 0.0.0.0 all of it."
        ) from None
