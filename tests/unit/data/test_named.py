"""Labelled pictures whose classes go by several names: which picture shows which class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import torchbcos
from torchbcos.data.named import open_named
from torchbcos.evaluation.official import names_of
from torchbcos.zoo.card import Card, official_card

CARD = Card(name="three", architecture="cifar10_resnet20", classes=("red fox", "green tea", "blue jay"), num_classes=3)


def pictures(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / name / f"{name}.png")
    return folder


def flat(folder: Path, table: str, name: str = "labels.csv") -> Path:
    folder.mkdir()
    for file in ("a.png", "b.jpg"):
        Image.new("RGB", (8, 8)).save(folder / file)
    (folder / name).write_text(table, "utf-8")
    return folder


def found(folder: Path, card: Card, labels: Path | None = None) -> dict[str, int]:
    split = open_named(folder, names_of(card), labels)
    return {Path(name).name: index for name, index in zip(split.names, split.targets.tolist(), strict=True)}


@pytest.mark.parametrize(
    "table",
    [
        "a.png,red fox\nb.jpg,blue jay\n",
        "file,class\na.png,Red_Fox\nb.jpg,2\n",
        "\ufefffile,width,height,label\na.png,2,1,0\nb.jpg,1,0,blue jay\n",
        "image,name,index\na,?,0\nb,?,002\n\n",
    ],
)
def test_tables(tmp_path: Path, table: str) -> None:
    assert found(flat(tmp_path / "f", table), CARD) == {"a.png": 0, "b.jpg": 2}


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("", "is empty"),
        ("file,class\n", "names no picture"),
        ("a.png,red fox\nc.png,red fox\n", r"labels\.csv, line 2: there is no picture 'c\.png'"),
        ("c.png,red fox\n", r"line 1: there is no picture 'c\.png'"),
        ("file,class\na.png,red fix\n", "line 2: 'red fix' is no class of this model. Did you mean 'red fox'"),
        ("file,class\na.png\n", "line 2: expected a file and its class"),
    ],
)
def test_wrong_tables(tmp_path: Path, table: str, text: str) -> None:
    with pytest.raises(torchbcos.BcosError, match=text):
        open_named(flat(tmp_path / "f", table), names_of(CARD))


def test_a_table_elsewhere_and_kaggles(tmp_path: Path) -> None:
    folder = flat(tmp_path / "f", "nothing,here", name="other.txt")
    (tmp_path / "t.csv").write_text("ImageId,PredictionString\na,n01440764 1 2 30 40 n01440764 5 6 7 8\nb,n15075141\n")
    assert found(folder, official_card("resnet18"), tmp_path / "t.csv") == {"a.png": 0, "b.jpg": 999}
    with pytest.raises(torchbcos.BcosError, match=r"u\.csv. does not exist"):
        open_named(folder, names_of(official_card("resnet18")), tmp_path / "u.csv")


def test_imagenet_folders(tmp_path: Path) -> None:
    card = official_card("resnet18")
    folder = pictures(tmp_path / "val", "n01440764", "goldfish", "207", "Great_White_shark")
    (folder / "n15075141").mkdir()  # an empty one is passed over
    assert sorted(found(folder, card).values()) == [0, 1, 2, 207]
    pictures(folder, "tensch")
    with pytest.raises(torchbcos.BcosError, match=r"subfolder 'tensch' is no class of this model\. Did you mean 'tench'"):
        open_named(folder, names_of(card))


def test_a_split_reads_what_it_names(tmp_path: Path) -> None:
    split = open_named(flat(tmp_path / "f", "b.jpg,blue jay\na.png,red fox\n"), names_of(CARD))
    assert list(split.names) == ["b.jpg", "a.png"] and split.targets.tolist() == [2, 0]
    assert [split.read(i).size for i in range(2)] == [(8, 8), (8, 8)]


def test_a_very_long_number_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(torchbcos.BcosError, match="is no class of this model"):
        open_named(flat(tmp_path / "f", f"file,class\na.png,{'9' * 5000}\n"), names_of(CARD))


def test_what_is_not_used_is_said(tmp_path: Path) -> None:
    folder, notes = flat(tmp_path / "f", "file,class\na.png,red fox\na.png,0\n"), list[str]()
    assert open_named(folder, names_of(CARD), notes=notes).names == ["a.png"]
    assert notes == [
        f"1 picture in {str(folder)!r} without a class, not used; the first is {str(folder / 'b.jpg')!r}.",
        f"1 further name of the same files in {str(folder)!r}: each file counts once.",
    ]
    pictures(tmp_path / "g", "red fox", "blue jay")
    Image.new("RGB", (8, 8)).save(tmp_path / "g" / "loose.png")
    open_named(tmp_path / "g", names_of(CARD), notes=(found := list[str]()))
    assert len(found) == 1 and "loose.png" in found[0]


def test_blemishes_of_tables(tmp_path: Path) -> None:
    folder = flat(tmp_path / "f", "file,class\n a.png ,red fox\u00a0\nb.jpg,\ufeffblue jay\n")
    assert found(folder, CARD) == {"a.png": 0, "b.jpg": 2}
    (folder / "labels.csv").write_text("file,class\na.png,red fox\nb.jpg,blue jay\na.png,blue jay\n")
    with pytest.raises(
        torchbcos.BcosError, match=r"labels\.csv', lines 2 and 4: .*a\.png' is named twice, and the two labels differ"
    ):
        open_named(folder, names_of(CARD))
    Image.new("RGB", (8, 8)).save(folder / "a.jpg")
    (folder / "labels.csv").write_text("file,class\nb,blue jay\na,red fox\n")
    with pytest.raises(torchbcos.BcosError, match=r"line 3: 'a' may be any of several files in .*: give its suffix"):
        open_named(folder, names_of(CARD))


def test_numbers_that_may_be_too_dark_are_noted(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    Image.fromarray(np.array([[0, 4095]], np.uint16)).save(tmp_path / "cat" / "0.png")
    notes = list[str]()
    open_named(tmp_path, {"cat": 0}, notes=notes)
    (note,) = notes
    assert "the darkest sixteenth" in note and "convert the pictures first" in note
