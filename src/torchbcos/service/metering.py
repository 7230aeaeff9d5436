"""What a service counts, in the text that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torchbcos._core.optional import require

__all__ = ["Meters"]

_PATHS = tuple(f"/v1/{action}" for action in ("predict", "explain", "change", "compare", "feature", "models"))
_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Meters:
    """Counters of one service, in a registry of their own.

    Args:
        waiting: gives how many requests wait now.
        loaded: gives how many models are in memory.
    """

    def __init__(self, waiting: Callable[[], int], loaded: Callable[[], int]) -> None:
        self.prometheus: Any = require("prometheus_client", extra="serve", why="The service")
        self.registry: Any = self.prometheus.CollectorRegistry()
        kept = {"registry": self.registry, "namespace": "torchbcos"}
        self.requests = self.prometheus.Counter("requests", "Requests by path and status.", ["path", "status"], **kept)
        self.seconds = self.prometheus.Histogram(
            "request_seconds", "Seconds from a request's head to its answer.", ["path"], buckets=_SECONDS, **kept
        )  # fmt: skip
        self.together = self.prometheus.Histogram(
            "batch_pictures", "Pictures that were answered together.", buckets=(1, 2, 4, 8, 16, 32), **kept
        )  # fmt: skip
        self.busy = self.prometheus.Counter("network_seconds", "Seconds in which the network was at work.", **kept)
        self.prometheus.Gauge("waiting", "Requests that wait for the network.", **kept).set_function(waiting)
        self.prometheus.Gauge("models_loaded", "Models in memory.", **kept).set_function(loaded)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request; of other paths than the service's own no name is kept: strangers choose them."""
        known = path if path in _PATHS else "other"
        self.requests.labels(known, str(status)).inc()
        self.seconds.labels(known).observe(seconds)

    def batch(self, count: int, seconds: float) -> None:
        """Count a batch."""
        self.together.observe(count)
        self.busy.inc(seconds)

    def text(self) -> tuple[bytes, str]:
        """All of it, and its media type."""
        return self.prometheus.generate_latest(self.registry), self.prometheus.CONTENT_TYPE_LATEST
