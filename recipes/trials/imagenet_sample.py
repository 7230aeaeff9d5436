"""ImageNet in small: the 500 sample photos as a folder of 500 classes, and as tar shards in WebDataset's form.

python recipes/trials/imagenet_sample.py --out runs/imagenet-500
torchbcos train bcos_final --data runs/imagenet-500/folder --out runs/r50 --set batch_size=8 max_steps=20
torchbcos train bcos_final --data runs/imagenet-500/shards --out runs/r50-two --devices 2 --strategy ddp …
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import tarfile
from pathlib import Path

DATA = Path(os.environ.get("TORCHBCOS_DATA", Path(__file__).parents[3] / "shared" / "data")) / "imagenet-samples"
SHARDS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with (DATA / "labels.csv").open(newline="") as file:
        labels = {row["file"]: row for row in csv.DictReader(file)}
    (args.out / "shards").mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as files:
        paths = [args.out / "shards" / f"train-{k:04}.tar" for k in range(SHARDS)]
        shards = [files.enter_context(tarfile.open(path, "w")) for path in paths]
        tar = files.enter_context(tarfile.open(DATA / "samples.tar"))
        for i, member in enumerate(m for m in tar if m.name in labels):
            row, photo = labels[member.name], tar.extractfile(member).read()  # type: ignore[union-attr]
            place = args.out / "folder" / "train" / row["wnid"] / member.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(photo)
            for name, body in ((f"{i:06}.jpg", photo), (f"{i:06}.cls", row["wnid"].encode())):
                info = tarfile.TarInfo(name)
                info.size = len(body)
                shards[i % SHARDS].addfile(info, io.BytesIO(body))
    print(f"{len(labels)} photos in {args.out / 'folder'} and in {SHARDS} shards in {args.out / 'shards'}")


if __name__ == "__main__":
    main()
