"""The application: routes, and what stands between a stranger's request and the network."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchbcos import __version__
from torchbcos._core.errors import BcosError
from torchbcos._core.optional import require
from torchbcos.pictures import Placed, decode_image
from torchbcos.service.answers import Asked, Picture, answer
from torchbcos.service.changing import steps_of
from torchbcos.service.description import described_api
from torchbcos.service.limits import Limits
from torchbcos.service.metering import Meters
from torchbcos.service.questions import asked_of, check_names, form_of, layers_of
from torchbcos.service.queueing import Queue
from torchbcos.service.refusals import Refused
from torchbcos.service.shelf import Shelf
from torchbcos.service.uploads import read_upload
from torchbcos.zoo import Classifier

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Service"]

_PAGE = Path(__file__).parent / "page"
_FILES = {"": ("page.html", "text/html"), "page.js": ("page.js", "text/javascript"), "page.css": ("page.css", "text/css")}
_TYPES = {"png": "image/png", "npz": "application/x-npz", "proof": "application/x-torchbcos-proof"}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin", "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()", "cache-control": "no-store",
}  # fmt: skip
_OPEN = {"/healthz", "/readyz", "/", "/page.js", "/page.css"}  # without a token: they say nothing of anybody's pictures
_FAULT = "Something went wrong here; the log of the service says what."
_READERS = 2  # pictures that are decoded at a time: a large one takes some hundred megabytes
_GONE = 499  # a caller that did not wait: no standard number, and no caller sees it
_log = logging.getLogger(__name__)


class Service:
    """What all requests share.

    Args:
        sources: models by name, as `torchbcos.load` takes them.
        limits: see `Limits`.
        token: that every request must carry; None: none.
        hosts: names by which the service may be called (the Host header); empty: any.
        options: of `torchbcos.load`.
    """

    def __init__(
        self, sources: Mapping[str, str], limits: Limits, token: str | None, hosts: Sequence[str], options: Mapping[str, Any]
    ) -> None:
        self.limits, self.token, self.hosts = limits, token, frozenset(host.lower() for host in hosts)
        self.responses: Any = require("starlette.responses", extra="serve", why="The service")
        self.held = 0  # bytes of uploads
        self.shelf = Shelf(sources, limits.models, options)
        self.meters = Meters(lambda: len(self.queue), lambda: len(self.shelf.loaded()))
        self.queue: Queue[Picture] = Queue(self._work, length=limits.queue, batch=limits.batch, noted=self.meters.batch)
        self.readers = ThreadPoolExecutor(_READERS, thread_name_prefix="torchbcos-read")
        self.openers = ThreadPoolExecutor(1, thread_name_prefix="torchbcos-open")

    def application(self) -> Starlette:
        """The ASGI application."""
        starlette: Any = require("starlette.applications", extra="serve", why="The service")
        routing: Any = require("starlette.routing", extra="serve", why="The service")
        routes = [
            *(
                routing.Route(f"/v1/{action}", functools.partial(self._answered, action), methods=["POST"])
                for action in ("predict", "explain", "change", "compare", "feature")
            ),
            routing.Route("/v1/models", self._models), routing.Route("/openapi.json", self._description),
            routing.Route("/healthz", self._healthy), routing.Route("/readyz", self._ready),
            routing.Route("/metrics", self._metrics),
            *(routing.Route(f"/{name}", functools.partial(self._file, name)) for name in _FILES),
        ]  # fmt: skip

        @asynccontextmanager
        async def lifespan(_: Starlette) -> Any:
            opening = asyncio.get_running_loop().run_in_executor(self.openers, self._open_first)
            try:
                yield
            finally:
                opening.cancel()
                self.close()
                # a thread that computes while Python ends brings the process down with it
                await asyncio.to_thread(self.queue.thread.join, self.limits.seconds)

        exceptions: Any = require("starlette.exceptions", extra="serve", why="The service")
        handlers = {exceptions.HTTPException: _sentence}
        found: Starlette = starlette.Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
        found.add_middleware(_Guard, service=self)  # type: ignore[arg-type]
        return found

    def close(self) -> None:
        """Answer what waits, and end."""
        self.queue.close()
        self.readers.shutdown(wait=False, cancel_futures=True)
        self.openers.shutdown(wait=False, cancel_futures=True)

    def _open_first(self) -> None:
        """Open the first model before anybody asks; why it cannot be opened, the log says."""
        with suppress(Refused):
            self.shelf.open(self.shelf.first)

    # -- the network ---------------------------------------------------------------------------------------------------

    def _work(self, kind: Any, pictures: Sequence[Picture]) -> Sequence[Any]:
        asked: Asked = kind
        return answer(self.shelf.open(asked.model), asked, pictures)

    def _read(self, data: bytes, classifier: Classifier) -> Placed:
        """The picture of an upload, as small as the network takes it."""
        image = decode_image(data, "The picture", most=self.limits.pixels)
        return classifier.transform.placed(image, "The picture")

    @contextmanager
    def _holding(self, request: Request) -> Iterator[None]:
        """Count an upload among those that are in memory, as large as it says that it is, or as it may become.

        Raises:
            Refused: 429, they are too many already.
        """
        said = request.headers.get("content-length", "")
        size = min(int(said), self.limits.bytes) if said.isascii() and said.isdigit() and len(said) < 18 else self.limits.bytes
        if self.held and self.held + size > self.limits.held:
            raise Refused(429, "Too many uploads at a time: try again.", {"Retry-After": "1", "Connection": "close"})
        self.held += size
        try:
            yield
        finally:
            self.held -= size

    # -- routes --------------------------------------------------------------------------------------------------------

    async def _answered(self, action: str, request: Request) -> Response:
        query = request.query_params
        check_names(action, query.keys())
        form = form_of(request.headers.get("accept", "*/*")) if action == "explain" else "json"
        name = self.shelf.check(query.get("model"))
        loop = asyncio.get_running_loop()
        with self._holding(request):
            upload = await read_upload(request, self.limits)
            classifier = self.shelf.ready(name)
            if classifier is None:
                classifier = await loop.run_in_executor(self.openers, self.shelf.open, name)
            if classifier.transform.axes != 2:
                raise Refused(422, "This model takes no pictures, and a service takes nothing else.")
            asked = asked_of(action, name, classifier, dict(query), query.getlist("class"), form, self.limits)
            try:
                placed = await loop.run_in_executor(self.readers, self._read, upload.picture, classifier)
            except BcosError as error:
                raise Refused(422, str(error)) from None
            except RuntimeError as error:  # the pool has ended
                raise Refused(503, "This service is ending.", {"Retry-After": "5"}) from error
            steps = steps_of(query.get("steps", ""), upload.fields, placed.pixels.shape[1:]) if action == "change" else []
            sha256 = hashlib.sha256(upload.picture).hexdigest() if form == "proof" else ""
            del upload
        found = await _while_connected(
            request, self.queue.ask(asked, Picture(placed, tuple(steps), sha256), size=asked.size, seconds=self.limits.seconds)
        )  # fmt: skip
        if isinstance(found, bytes):
            response: Response = self.responses.Response(found, media_type=_TYPES[form])
        else:
            response = self.responses.JSONResponse(found)
        return response

    async def _models(self, request: Request) -> Response:
        here = set(self.shelf.loaded())
        rows = []
        for name, place in self.shelf.places.items():
            row: dict[str, Any] = {"name": name, "loaded": name in here, "default": name == self.shelf.first}
            if (classifier := place.classifier) is not None:
                card = classifier.card
                row |= {
                    "architecture": card.architecture,
                    "classes": list(classifier.class_names),
                    "layers": layers_of(classifier),
                }
            rows.append(row)
        response: Response = self.responses.JSONResponse({"models": rows, "version": __version__})
        return response

    async def _description(self, request: Request) -> Response:
        response: Response = self.responses.JSONResponse(described_api(self.limits, self.token is not None))
        return response

    async def _healthy(self, request: Request) -> Response:
        response: Response = self.responses.JSONResponse({"status": "ok"})
        return response

    async def _ready(self, request: Request) -> Response:
        """Whether the first model is in memory, and there is room in the queue."""
        waiting = len(self.queue)
        ready = self.shelf.first in self.shelf.loaded() and waiting < self.limits.queue and not self.queue.closed
        response: Response = self.responses.JSONResponse({"ready": ready, "waiting": waiting}, 200 if ready else 503)
        return response

    async def _metrics(self, request: Request) -> Response:
        body, kind = self.meters.text()
        response: Response = self.responses.Response(body, headers={"content-type": kind})
        return response

    async def _file(self, name: str, request: Request) -> Response:
        file, kind = _FILES[name]
        response: Response = self.responses.Response((_PAGE / file).read_bytes(), media_type=kind)
        return response


async def _sentence(request: Request, error: Any) -> Response:
    """What the router refuses, as everything else is refused."""
    words = {404: "There is nothing at this path: /openapi.json says what there is.", 405: "This path takes another method."}
    raise Refused(error.status_code, words.get(error.status_code, str(error.detail)), error.headers)


async def _while_connected(request: Request, work: Awaitable[Any]) -> Any:
    """The result of `work`, which is given up when the caller goes away."""
    task = asyncio.ensure_future(work)

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    watching = asyncio.ensure_future(gone())
    try:
        await asyncio.wait({task, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refused(_GONE, "The caller went away.")
        return task.result()
    finally:
        for one in (task, watching):
            one.cancel()


class _Guard:
    """Before every request: who may ask. After it: headers, numbers, and a sentence in place of whatever went wrong."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service
        requests: Any = require("starlette.requests", extra="serve", why="The service")
        self.gone: type[Exception] = requests.ClientDisconnect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, begun = time.monotonic(), 500, False

        async def sending(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                begun, status = True, message["status"]
                given = {key for key, _ in message["headers"]}
                more = [(k.encode(), v.encode()) for k, v in _HEADERS.items() if k.encode() not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, receive, sending)
        except Refused as refused:
            status = refused.status
            if not begun:
                await self._refuse(refused, scope, receive, sending)
        except BcosError as error:
            status = 422
            if not begun:
                await self._refuse(Refused(422, str(error)), scope, receive, sending)
        except self.gone:
            status = _GONE
        except Exception as error:  # a fault of ours: its traceback is for the log, and names no picture
            _log.error("A request failed: %s", type(error).__name__, exc_info=error)
            if not begun:
                await self._refuse(Refused(500, _FAULT), scope, receive, sending)
        finally:
            self.service.meters.request(scope["path"], status, time.monotonic() - began)

    def _check(self, scope: Scope) -> None:
        """Refuse who may not ask.

        Raises:
            Refused: 401, 403 or 421.
        """
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
        service = self.service
        host = re.sub(r":\d*$", "", headers.get(b"host", "")).strip("[]").lower()
        if service.hosts and host not in service.hosts:
            raise Refused(421, "This service is not called by that name.")
        if headers.get(b"sec-fetch-site", "same-origin") not in ("same-origin", "none") and scope["method"] != "GET":
            raise Refused(403, "Pages of other sites may not ask here.")
        if service.token is not None and scope["path"] not in _OPEN:
            said = headers.get(b"authorization", "")
            if not hmac.compare_digest(said.encode("latin-1"), f"Bearer {service.token}".encode()):
                raise Refused(401, "This service needs its token: Authorization: Bearer TOKEN.", {"WWW-Authenticate": "Bearer"})

    async def _refuse(self, refused: Refused, scope: Scope, receive: Receive, send: Callable[[Message], Awaitable[None]]) -> None:
        await self.service.responses.JSONResponse({"error": refused.sentence}, refused.status, refused.headers)(
            scope, receive, send
        )
