"""Folders of photos for trying things out, from the archive of unlabelled photos: the first word of a name is the class.

python recipes/trials/own_photos.py --out runs/vehicles --class aircraft=airplanes,helicopter --class boats=ketch,schooner
"""

from __future__ import annotations

import argparse
import os
import tarfile
from collections import Counter
from pathlib import Path

DATA = Path(os.environ.get("TORCHBCOS_DATA", Path(__file__).parents[3] / "shared" / "data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--class", dest="classes", action="append", required=True, help="NAME or NAME=WORD,WORD")
    parser.add_argument("--most", type=int, default=40, help="photos of a class")
    args = parser.parse_args()
    names = {word: name for name, _, words in (c.partition("=") for c in args.classes) for word in (words or name).split(",")}
    count: Counter[str] = Counter()
    for archive in sorted((DATA / "photos-unlabelled").glob("*.tar")):
        with tarfile.open(archive) as tar:
            for member in tar:
                source, _, rest = member.name.partition("-")
                name = names.get(rest.split("-")[0].split("_")[0]) if source in ("caltech101", "clothing") else None
                if name is None or count[name] == args.most:
                    continue
                count[name] += 1
                target = args.out / name / rest
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]
    print(", ".join(f"{n} {name}" for name, n in sorted(count.items())), "in", args.out)


if __name__ == "__main__":
    main()
