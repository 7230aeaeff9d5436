"""The service on a Ray cluster: one application, several replicas of it, and Ray in front that spreads requests over them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from torchbcos._core.errors import InputError
from torchbcos._core.names import hint, quote
from torchbcos._core.optional import require
from torchbcos.service.application import Service
from torchbcos.service.limits import Limits
from torchbcos.service.shelf import named_sources

__all__ = ["ray_app"]

_NAME = "torchbcos"
_ARGUMENTS = ("sources", "limits", "token", "hosts", "device", "allow_code", "deployment")
_USUAL = {
    "num_replicas": 2, "max_ongoing_requests": 64, "max_queued_requests": 256, "health_check_period_s": 2,
    "health_check_timeout_s": 10, "graceful_shutdown_timeout_s": 35,
    "logging_config": {"enable_access_log": False},  # of pictures nothing is kept, not even when somebody asked
}  # fmt: skip


def ray_app(args: Mapping[str, Any] | None = None) -> Any:
    """The service as a `ray.serve.Application`: `ray.serve.run(torchbcos.service.ray_app())`.

    Each replica is a process with the models and a queue of its own (what comes together is computed together), and serves as
    soon as the first model is in memory. Ray spreads requests over them, and puts another one in the place of one that died;
    a request that was with it fails, and may be sent again: an answer depends on nothing but the request.

    From a shell: `serve run torchbcos.service:ray_app sources=imagenet,mine=runs/mine/model`.

    Args:
        args: what `torchbcos.service.app` takes, by name: `sources` (a list, or one text with commas), `limits` (a mapping),
            `token` (without it the variable TORCHBCOS_TOKEN, else none), `hosts`, `device`, `allow_code`; and `deployment`,
            a mapping of what `ray.serve.deployment` takes: `num_replicas` (2), `ray_actor_options`, `autoscaling_config`.

    Raises:
        InputError: an argument is unknown, or does not fit.
        MissingPackageError: the packages of the extra `scale` are not installed.
    """
    given = dict(args or {})
    for name in given:
        if name not in _ARGUMENTS:
            raise InputError(f"ray_app takes {', '.join(_ARGUMENTS)}, not {quote(str(name))}.{hint(str(name), _ARGUMENTS)}")
    sources, limits = named_sources(_several(given.get("sources", "default"))), _limits(given.get("limits", {}))
    token = given.get("token") or os.environ.get("TORCHBCOS_TOKEN")
    hosts, options = _several(given.get("hosts", ())), _options(given)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports itself to its makers
    serve: Any = require("ray.serve", extra="scale", why="ray_app")
    chosen = given.get("deployment", {})
    if not isinstance(chosen, Mapping):
        raise InputError(f"deployment is a mapping of what ray.serve.deployment takes, not {quote(str(chosen))}.")
    replica = serve.ingress(_builder(sources, limits, token, hosts, options))()
    return serve.deployment(replica, **{"name": _NAME, **_USUAL, **chosen}).bind()


def _builder(
    sources: Mapping[str, str], limits: Limits, token: str | None, hosts: Sequence[str], options: Mapping[str, Any]
) -> Callable[[], Any]:
    """What makes the application, in each replica anew; it returns when the first model is in memory."""

    def build() -> Any:
        service = Service(sources, limits, token, hosts, options)
        service.shelf.open(service.shelf.first)  # what cannot be opened fails here, before anybody asks
        return service.application()

    return build


def _several(given: Any) -> tuple[str, ...]:
    """Texts of a list, or of one text with commas."""
    texts = given.split(",") if isinstance(given, str) else list(given)
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"sources and hosts are texts, not {quote(str(given))}.")
    return tuple(filter(None, (text.strip() for text in texts)))


def _limits(given: Any) -> Limits:
    """Limits of a mapping."""
    if isinstance(given, Limits):
        return given
    known = [field.name for field in fields(Limits)]
    if not isinstance(given, Mapping) or not set(given) <= set(known):
        raise InputError(f"limits is a mapping of {', '.join(known)}, not {quote(str(given))}.")
    return Limits(**given)


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Of `torchbcos.load`. A shell has texts only, so "true" is a truth here; everything else that is not one is refused."""
    code = {"true": True, "false": False}.get(str(given.get("allow_code", False)).lower())
    if code is None:
        raise InputError(f"allow_code is true or false, not {quote(str(given['allow_code']))}.")
    return {"device": str(given.get("device", "auto")), "allow_code": code}
