"""A request that is not answered: a status, and one sentence that says what would be."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Refused"]


class Refused(Exception):
    """Raised wherever a request ends early; the application makes a response of it.

    Attributes:
        status: of HTTP.
        sentence: what the caller reads, in "error".
        headers: beside it.
    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, dict(headers or {})
