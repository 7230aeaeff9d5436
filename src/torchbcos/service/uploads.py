"""What a request carries: a picture's bytes, as they are or as a field of a form. It stays in memory, and nothing is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torchbcos._core.optional import require
from torchbcos.service.limits import Limits
from torchbcos.service.refusals import Refused

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["Upload", "read_upload"]

_FORM, _RAW = "multipart/form-data", ("image/", "application/octet-stream")
_SLACK = 64 * 1024  # of a form: boundaries, headers and short fields
_PARTS = 16
_ASK = 'Send the picture as it is (Content-Type: image/jpeg, say), or as the field "picture" of a form.'


@dataclass(frozen=True)
class Upload:
    """What came with a request.

    Attributes:
        picture: bytes of the file.
        fields: of a form, the others by name.
    """

    picture: bytes
    fields: Mapping[str, bytes] = field(default_factory=dict)


async def read_upload(request: Request, limits: Limits) -> Upload:
    """The picture of a request, and whatever fields stand beside it.

    Raises:
        Refused: 408, too slow; 413, too much; 415, of another kind; 422, there is no picture.
    """
    kind, options = _kind_of(request)
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refused(415, "Send the picture without Content-Encoding: picture files are compressed already.")
    body = await _body(request, limits, slack=_SLACK if kind == _FORM else 0)
    upload = _of_form(body, options) if kind == _FORM else Upload(body)
    if not upload.picture:
        raise Refused(422, f"There is no picture in this request. {_ASK}")
    if len(upload.picture) > limits.bytes:
        raise _too_large(limits)
    return upload


def _kind_of(request: Request) -> tuple[str, Mapping[bytes, bytes]]:
    multipart: Any = require("python_multipart.multipart", extra="serve", why="The service")
    kind, options = multipart.parse_options_header(request.headers.get("content-type", ""))
    said = kind.decode("latin-1")
    if said == _FORM and options.get(b"boundary"):
        return said, options
    if not said.startswith(_RAW):
        raise Refused(415, f"A request of this Content-Type carries no picture. {_ASK}")
    return said, {}


def _too_large(limits: Limits) -> Refused:
    return Refused(413, f"A picture may have {limits.bytes:,} bytes: make it smaller.", {"Connection": "close"})


async def _body(request: Request, limits: Limits, slack: int) -> bytes:
    """All bytes, refused as soon as they are too many or too slow."""
    anyio: Any = require("anyio", extra="serve", why="The service")
    most = limits.bytes + slack
    said = request.headers.get("content-length", "0")
    if not said.isascii() or not said.isdigit() or len(said) > 18 or int(said) > most:
        raise _too_large(limits) if said.isdigit() else Refused(400, "Content-Length is a number.")
    parts, count = [], 0
    try:
        with anyio.fail_after(limits.upload_seconds):
            async for chunk in request.stream():
                count += len(chunk)
                if count > most:
                    raise _too_large(limits)
                parts.append(chunk)
    except TimeoutError:
        sentence = f"The picture did not arrive within {limits.upload_seconds:g} seconds."
        raise Refused(408, sentence, {"Connection": "close"}) from None
    return b"".join(parts)


def _of_form(body: bytes, options: Mapping[bytes, bytes]) -> Upload:
    """The fields of a form; of several of one name the first."""
    multipart: Any = require("python_multipart.multipart", extra="serve", why="The service")
    reader = _Fields(multipart.parse_options_header)
    callbacks = {
        "on_part_begin": reader.begin, "on_header_field": reader.name, "on_header_value": reader.value,
        "on_header_end": reader.header, "on_part_data": reader.data, "on_part_end": reader.end,
    }  # fmt: skip
    try:
        parser = multipart.MultipartParser(options[b"boundary"], callbacks)
        parser.write(body)
        parser.finalize()
    except Refused:
        raise
    except Exception as error:  # of the parser: several kinds
        raise Refused(422, f"This form cannot be read: it is broken or ends early. {_ASK}") from error
    if reader.open:
        raise Refused(422, f"This form ends early. {_ASK}")
    found = dict(reader.fields)
    return Upload(found.pop("picture", b""), found)


class _Fields:
    """Collects the parts of a form, as its parser finds them."""

    def __init__(self, options_of: Any) -> None:
        self.options_of, self.fields, self.open = options_of, dict[str, bytes](), False
        self.headers: dict[bytes, bytes] = {}
        self.key, self.said, self.parts, self.count = b"", b"", list[bytes](), 0

    def begin(self) -> None:
        self.count += 1
        if self.count > _PARTS:
            raise Refused(422, f"A form has at most {_PARTS} fields.")
        self.headers, self.key, self.said, self.parts, self.open = {}, b"", b"", [], True

    def name(self, data: bytes, start: int, end: int) -> None:
        self.key += data[start:end]

    def value(self, data: bytes, start: int, end: int) -> None:
        self.said += data[start:end]

    def header(self) -> None:
        self.headers[self.key.lower()] = self.said
        self.key = self.said = b""

    def data(self, data: bytes, start: int, end: int) -> None:
        self.parts.append(data[start:end])

    def end(self) -> None:
        self.open = False
        _, options = self.options_of(self.headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        self.fields.setdefault(name, b"".join(self.parts))
