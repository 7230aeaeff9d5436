"""What a student learns from few pictures: labels, a teacher's probabilities, and its explanations (e²KD).

    python recipes/trials/distilled.py data --out runs/few --train 600 --val 600
    torchbcos train folder --data runs/few --out runs/student --set teacher=imagenette teacher_weight=1 teacher_explanations=1 …
    python recipes/trials/distilled.py measure --model runs/student/model --data runs/few

`data` copies the first pictures of Imagenette's splits into folders named as the embedded network's classes. `measure`
prints top-1 and the mean cosine between the student's and the embedded network's contributions to the true class.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from PIL import Image
from trial import command_line

import torchbcos
from torchbcos.data import open_labelled
from torchbcos.training import explanation_distance


def write_data(args: Any) -> None:
    """`train/` and `val/`, a folder a class."""
    found = open_labelled(args.data)
    assert found.report is not None
    for part, split, count in (("train", found.train, args.train), ("val", found.report, args.val)):
        for i in range(count):
            picture = split.read(i)
            assert isinstance(picture, Image.Image)
            target = args.out / part / found.classes[int(split.targets[i])] / f"{i:05}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            picture.convert("RGB").save(target)
    print(args.out)


def measure(args: Any) -> None:
    """Top-1 and likeness on `val`."""
    student, teacher = torchbcos.load(args.model), torchbcos.load("imagenette")
    split = open_labelled(args.data / "val").train
    names = open_labelled(args.data / "val").classes
    right, cosines = 0, list[float]()
    for start in range(0, len(split), 32):
        rows = range(start, min(start + 32, len(split)))
        pictures, y = [split.read(i) for i in rows], [names[int(split.targets[i])] for i in rows]
        of = [torch.tensor([[c.class_names.index(name)] for name in y]) for c in (student, teacher)]
        mine, theirs = (c.explain(pictures, t) for c, t in zip((student, teacher), of, strict=True))
        right += int((mine.outputs.argmax(1) == of[0][:, 0]).sum())
        maps = [torch.nn.functional.interpolate(e.contributions, size=(96, 96), mode="area") for e in (mine, theirs)]
        cosines += (1 - explanation_distance(*maps)).tolist()
    likeness = round(float(torch.tensor(cosines).mean()), 4)
    print(json.dumps({"model": str(args.model), "top1": round(100 * right / len(split), 2), "likeness": likeness}))


def main() -> None:
    parser, _, _ = command_line(__doc__, write_data, measure, train=600, val=600)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
