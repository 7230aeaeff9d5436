"""Answers over HTTP: predictions and exact explanations, and the page that asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torchbcos.service.application import Service
from torchbcos.service.limits import Limits as Limits
from torchbcos.service.replicas import ray_app as ray_app
from torchbcos.service.shelf import named_sources

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["Limits", "app", "ray_app"]


def app(
    sources: Sequence[str] = ("default",), *, limits: Limits | None = None, token: str | None = None, hosts: Sequence[str] = (),
    device: str = "auto", allow_code: bool = False,
) -> Starlette:  # fmt: skip
    """An ASGI application that predicts and explains pictures.

    `POST /v1/predict` and `/v1/explain` take a picture's bytes, or a form with the field "picture", and give the records that
    `torchbcos explain --json` prints; `GET /openapi.json` describes everything. Any ASGI server runs it:
    `uvicorn --factory torchbcos.service:app`.

    Args:
        sources: models, as `torchbcos.load` takes them, or NAME=SOURCE; the first answers requests that name none.
        limits: of uploads, of what waits, and of time; None: the usual ones.
        token: every request must carry it (`Authorization: Bearer TOKEN`); None: anybody who reaches the service may ask.
        hosts: the names by which it may be called; empty: any.
        device, allow_code: as in `torchbcos.load`.

    Raises:
        InputError: two models have one name, or a limit is no positive number.
        MissingPackageError: the packages of the extra `serve` are not installed.
    """
    options = {"device": device, "allow_code": allow_code}
    return Service(named_sources(sources), limits or Limits(), token, hosts, options).application()
