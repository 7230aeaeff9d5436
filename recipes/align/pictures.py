"""Gather the pictures that the default model is aligned on, and those that it is measured on, from clones of public repositories.

    git clone --depth 1 REPOSITORY …       # the five that are named below, 760 MB, from where they are hosted
    python recipes/align/pictures.py --clones DIR --shared DATA --out PICTURES

| set | repository | what is taken | terms |
|---|---|---|---|
| duts | aviroshkovan/DUTS-TR | all but the last 1,000 by name | ImageNet's: non-commercial research |
| woof | thunderInfy/imagewoof | 150 a breed of train | ImageNet's |
| caltech | MachineLearning2020/Homework2-Caltech101 | all but the first three of each category, which are for demos | CC BY 4.0 |
| pacs | MachineLearning2020/Homework3-PACS | photos | research |
| ecssd | total-black/U2Net-ECSSD-Evaluation | nothing: it measures | research |
| imagenette, photos | in DATA | train; all | ImageNet's; see DATA/README.md |

Names in DATA/exclude occur in a test set and are left out. PICTURES/train holds a folder a set and the masks of DUTS,
PICTURES/measure the last 1,000 of DUTS and ECSSD with masks: never train, choose or tune on these. A clone may be a bare one.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

KEPT_BACK = 1000  # of DUTS, the last by name
A_BREED, FOR_DEMOS = 150, 3
CLONES = {
    "duts": "DUTS-TR", "woof": "imagewoof", "caltech": "Homework2-Caltech101", "pacs": "Homework3-PACS",
    "ecssd": "U2Net-ECSSD-Evaluation",
}  # fmt: skip
SUFFIXES = (".jpg", ".jpeg", ".png")


def files_of(clone: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the pictures of a clone, bare or not."""
    if not (clone / "objects").is_dir() and any(path.name != ".git" for path in clone.iterdir()):
        for path in sorted(clone.rglob("*")):
            if path.suffix.lower() in SUFFIXES and ".git" not in path.parts:
                yield path.relative_to(clone).as_posix(), path.read_bytes()
        return
    place = clone if (clone / "objects").is_dir() else clone / ".git"
    git = ["git", "--git-dir", str(place)]
    listed = subprocess.run([*git, "ls-tree", "-r", "-z", "--name-only", "HEAD"], capture_output=True, check=True).stdout
    for name in listed.decode("utf-8", "surrogateescape").split("\0"):
        if name.lower().endswith(SUFFIXES):
            found = subprocess.run([*git, "cat-file", "blob", f"HEAD:{name}"], capture_output=True, check=False)
            if not found.returncode:  # very large files may be absent
                yield name, found.stdout


def find_clone(clones: Path, name: str) -> Path:
    """The clone of a repository below a folder, whatever stands before its name."""
    found = [path for path in sorted(clones.iterdir()) if path.name.split("+")[-1].removesuffix(".git") == name]
    if not found:
        sys.exit(f"There is no clone called {name} in {clones}.")
    inner = found[0] / "repo"
    return inner if inner.is_dir() else found[0]


def write(place: Path, name: str, data: bytes) -> None:
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def duts(clone: Path, out: Path, excluded: set[str]) -> None:
    pictures, masks = {}, {}
    for name, data in files_of(clone):
        kind, _, last = name.rpartition("/")
        if kind == "DUTS-TR-Image":
            pictures[last] = data
        elif kind == "DUTS-TR-Mask":
            masks[os.path.splitext(last)[0]] = data
    order = sorted(pictures)
    for place, names in ((out / "train", order[:-KEPT_BACK]), (out / "measure", order[-KEPT_BACK:])):
        for last in names:
            if f"DUTS-TR-Image/{last}" not in excluded:
                stem = os.path.splitext(last)[0]
                write(place / "duts", last, pictures[last])
                write(place / "masks" / "duts", f"{stem}.png", masks[stem])


def ecssd(clone: Path, out: Path, excluded: set[str]) -> None:
    for name, data in files_of(clone):
        folder, _, last = name.rpartition("/")
        if folder == "data/ECSSD/images" and name not in excluded:
            write(out / "measure" / "ecssd", last, data)
        elif folder == "data/ECSSD/ground_truth_mask":
            write(out / "measure" / "masks" / "ecssd", last, data)


def woof(clone: Path, out: Path, excluded: set[str]) -> None:
    taken: Counter[str] = Counter()
    for name, data in files_of(clone):
        split, _, rest = name.partition("/")
        breed = rest.partition("/")[0]
        if split == "train" and name not in excluded and taken[breed] < A_BREED:
            taken[breed] += 1
            write(out / "train" / "woof", rest, data)


def caltech(clone: Path, out: Path, excluded: set[str]) -> None:
    seen: Counter[str] = Counter()
    for name, data in files_of(clone):
        _, _, rest = name.partition("101_ObjectCategories/")
        category = rest.partition("/")[0]
        seen[category] += bool(rest)
        if rest and name not in excluded and seen[category] > FOR_DEMOS:
            write(out / "train" / "caltech", rest, data)


def pacs(clone: Path, out: Path, excluded: set[str]) -> None:
    for name, data in files_of(clone):
        _, _, rest = name.partition("PACS/photo/")
        if rest and name not in excluded:
            write(out / "train" / "pacs", rest, data)


def packed(tars: list[Path], place: Path) -> None:
    """The pictures of some tar shards."""
    for path in tars:
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() and member.name.lower().endswith(SUFFIXES) else None
                if file is not None:
                    write(place, member.name, io.BytesIO(file.read()).getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clones", type=Path, required=True, help="a folder with the clones")
    parser.add_argument("--shared", type=Path, default=os.environ.get("TORCHBCOS_DATA"), help="default: $TORCHBCOS_DATA")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=[*CLONES, "imagenette", "photos"], default=[*CLONES, "imagenette", "photos"])
    args = parser.parse_args()
    if args.shared is None:
        parser.error("--shared: where imagenette, photos-unlabelled and exclude lie")
    makers = {"duts": duts, "woof": woof, "caltech": caltech, "pacs": pacs, "ecssd": ecssd}
    for name in args.sets:
        if name in makers:
            lines = (args.shared / "exclude" / f"{name}.txt").read_text("utf-8").splitlines()
            makers[name](find_clone(args.clones, CLONES[name]), args.out, set(lines))
        elif name == "imagenette":
            packed(sorted((args.shared / "imagenette").glob("train-*.tar")), args.out / "train" / "imagenette")
        else:
            packed(sorted((args.shared / "photos-unlabelled").glob("*.tar")), args.out / "train" / "photos")
        counts = {part: sum(1 for path in (args.out / part / name).rglob("*") if path.is_file()) for part in ("train", "measure")}
        print(f"{name}: {counts['train']:,} to train on, {counts['measure']:,} to measure on", flush=True)


if __name__ == "__main__":
    main()
