"""What a service says of pictures: the records of `--json`, the panel as PNG, the numbers as NPZ, and maps for the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from torchbcos.attribution import IntegratedGradients
from torchbcos.explanation import Explanation
from torchbcos.explanation.arrays import arrays_of
from torchbcos.explanation.engine import explain_through
from torchbcos.explanation.proving import proof_bytes
from torchbcos.pictures import Placed
from torchbcos.rendering.files import to_uint8
from torchbcos.service.changing import Step, changed
from torchbcos.zoo import Classifier
from torchbcos.zoo.records import Record, explained, predicted

__all__ = ["Asked", "Picture", "answer", "png_of"]

_STEPS = 16  # of Integrated Gradients: what a person waits for
_NAME = "picture"  # what records call a picture that came without a file
_Action = Literal["predict", "explain", "change", "compare", "feature"]
_Form = Literal["json", "maps", "png", "npz", "proof"]


@dataclass(frozen=True)
class Asked:
    """What is asked of a picture; pictures of which the same is asked are answered together.

    Attributes:
        action: "predict", "explain", "change" (the picture is changed, and explained again), "compare" (a map by another
            method) or "feature" (what an inner feature sees).
        model: its name.
        targets: indices of the classes that are explained, or of the feature; None: the `top_k` highest.
        contrast: the class that they are compared with.
        top_k: how many classes.
        form: of the answer to "explain": its record, the record with maps, the panel of the first class, all
            numbers, or a proof of the first class.
        smooth: of the picture of W, as `Explanation.rgba` takes it.
        method: of "compare".
        at: of "feature": the module.
    """

    action: _Action
    model: str
    targets: tuple[int, ...] | None = None
    contrast: int | None = None
    top_k: int = 5
    form: _Form = "json"
    smooth: int = 15
    method: str = ""
    at: str = ""

    @property
    def size(self) -> int:
        """How much of a batch one picture takes: explanations of K classes are K backward passes."""
        one = {"predict": 1, "change": 2, "compare": 8, "feature": 1}
        return one.get(self.action, len(self.targets or range(self.top_k)))


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that is asked about.

    Attributes:
        placed: the picture as the network takes it.
        steps: by which it is changed.
        sha256: of its file, for a proof.
    """

    placed: Placed
    steps: tuple[Step, ...] = ()
    sha256: str = ""


def answer(classifier: Classifier, asked: Asked, pictures: Sequence[Picture]) -> list[Any]:
    """The answers for several pictures: records, or bytes.

    Raises:
        BcosError: one of them cannot be answered.
    """
    alone = {"change": _changed, "compare": _compared, "feature": _feature}.get(asked.action)
    if alone is not None:
        return [alone(classifier, asked, picture) for picture in pictures]
    files, placed = [_NAME] * len(pictures), [picture.placed for picture in pictures]
    if asked.action == "predict":
        return list(predicted(classifier, files, placed, top_k=asked.top_k))
    made: dict[int, Any] = {}

    def draw(i: int, e: Explanation, k: int, record: Record) -> None:
        if asked.form == "maps":
            record["maps"] = _maps(e, k, asked.smooth)
        elif k == 0 and asked.form == "png":
            made[i] = png_of(e.panel(0, 0))
        elif k == 0 and asked.form == "npz":
            made[i] = _npz(e)
        elif k == 0 and asked.form == "proof":
            made[i] = proof_bytes(e, 0, 0, (_NAME, pictures[i].sha256))

    records = explained(
        classifier, files, placed, asked.targets, top_k=asked.top_k, contrast=asked.contrast, draw=draw
    )  # fmt: skip
    return [made.get(i, record) for i, record in enumerate(records)]


def _changed(classifier: Classifier, asked: Asked, picture: Picture) -> Record:
    target = asked.targets[0] if asked.targets else None
    after, facts = changed(classifier, picture.placed, picture.steps, target)
    rows = classifier.predictions(after.outputs, top_k=asked.top_k)[0]
    record: Record = {"file": _NAME, "error": None, "change": facts, "predictions": [asdict(row) for row in rows]}
    record["explanations"] = after.to_dict()["explanations"][0]
    record["explanations"][0]["maps"] = _maps(after, 0, asked.smooth)
    return record


def _compared(classifier: Classifier, asked: Asked, picture: Picture) -> Record:
    targets = None if asked.targets is None else [list(asked.targets[:1])]
    method: Any = IntegratedGradients(steps=_STEPS) if asked.method == "integrated_gradients" else asked.method
    found = classifier.attribute([picture.placed], targets, method=method)
    target = int(found.targets[0, 0])
    return {
        "file": _NAME, "error": None, "method": asked.method, "index": target, "label": classifier.class_names[target],
        "passes": found.passes, "maps": _numbers(found.maps[0, 0]),
    }  # fmt: skip


def _feature(classifier: Classifier, asked: Asked, picture: Picture) -> Record:
    x = classifier.preprocess([picture.placed])
    channel = asked.targets[0] if asked.targets else None
    e = explain_through(classifier.model, None, x, channel, at=asked.at)
    e = e.shown_with(photos=classifier.transform.decode(e.inputs))
    return {
        "file": _NAME, "error": None, "at": asked.at, "explanations": [{**e.to_dict()["explanations"][0][0], "maps": _maps(
            e, 0, asked.smooth)}],
    }  # fmt: skip


def png_of(picture: Image.Image | NDArray[Any]) -> bytes:
    """A picture as the bytes of a PNG file.

    >>> png_of(np.zeros((2, 2, 4), np.float32))[:4]
    b'\\x89PNG'
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(to_uint8(picture))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _npz(e: Explanation) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays_of(e))  # type: ignore[arg-type]
    return file.getvalue()


def _maps(e: Explanation, k: int, smooth: int) -> dict[str, Any]:
    """What a page draws: contributions as numbers, and the pictures that Python makes of them."""
    found = _numbers(e.contributions[0, k])
    if e.photos is not None:
        found["photo"] = _text(png_of(e.photos[0].movedim(0, -1).float().cpu().numpy()))
    return found | {"rgba": _text(png_of(e.rgba(0, k, smooth=smooth))), "heatmap": _text(png_of(e.heatmap(0, k)))}


def _numbers(map_: Tensor) -> dict[str, Any]:
    """(H, W) as little-endian float32 in rows, base64."""
    numbers = map_.detach().float().cpu().numpy().astype("<f4")
    return {"height": numbers.shape[0], "width": numbers.shape[1], "contributions": _text(numbers.tobytes())}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
