"""Maps of other libraries: what is missing, unknown, damaged or of another size is said; nothing outside the folder is read."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.coloured import COLOURS, SIDE, classifier, folder, plain_classifier
from torchbcos import metrics
from torchbcos._core.errors import BcosError, InputError, MissingFileError
from torchbcos.evaluation import compare
from torchbcos.evaluation.foreign_maps import Found, inventory, map_file, read_map

NAMES = tuple(COLOURS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("maps") / "data", 2)


def write(maps: Path, name: str, target: int, array: Any, **options: Any) -> Path:
    file = maps / f"{name}.{target}.npy"
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, array, **options)
    return file


def noise(seed: int, side: int = SIDE) -> Any:
    return np.random.default_rng(seed).normal(size=(side, side)).astype(np.float32)


def all_of(maps: Path, each: int = 2, order: tuple[str, ...] = NAMES, side: int = SIDE) -> Path:
    for name in NAMES:
        for i in range(each):
            write(maps, f"{name}/{i}.png", order.index(name), noise(10 * NAMES.index(name) + i, side))
    return maps


def test_numbers_are_those_of_the_files(data: Path, tmp_path: Path) -> None:
    found = compare([classifier()], ["inherent"], ["gini", "deletion"], data, maps=all_of(tmp_path))
    assert [method["kind"] for method in found.facts["methods"]][-1] == "files"
    names, classes = (found.facts["items"]["pictures"][key] for key in ("names", "classes"))
    wanted = [
        metrics.gini(torch.from_numpy(np.load(tmp_path / f"{a}.{NAMES.index(b)}.npy"))[None])
        for a, b in zip(names, classes, strict=True)
    ]
    assert torch.equal(found.values["Bcos", "maps", "gini"][:, 0], torch.cat(wanted).double())
    assert found.facts["data"]["maps"] == {"files": 10, "unknown": [], "missing": [], "damaged": {}, "resized": []}
    alone = compare([classifier()], [], ["gini"], data, maps=tmp_path)
    assert [row["method"] for row in alone.rows] == ["maps"]


def test_classes_are_the_models(data: Path, tmp_path: Path) -> None:
    order = ("yellow", "blue", "cyan", "green", "red")
    with pytest.raises(InputError, match="in the model's order"):
        compare([classifier()], [], ["gini"], data, maps=all_of(tmp_path / "b", order=order), limit=1)
    clf = plain_classifier(order)
    found = compare([clf], [], ["gini"], data, maps=all_of(tmp_path / "a"), targets="predicted")
    assert found.rows[0]["n"] == 10, "the index is that of the model's output, whatever it is called"


def test_what_is_missing_unknown_and_damaged_is_named_and_counted(data: Path, tmp_path: Path) -> None:
    maps = all_of(tmp_path)
    (maps / "red/0.png.3.npy").unlink()
    write(maps, "red/7.png", 3, noise(0))
    write(maps, "red/1.png", 99, noise(0))
    write(maps, "red/1.png", -1, noise(0))
    (maps / "readme.npy").write_bytes(b"")
    (maps / "notes.txt").touch()
    write(maps, "blue/0.png", 0, np.full((SIDE, SIDE), np.nan))
    found = compare([classifier()], ["random"], ["gini"], data, maps=maps)
    about = found.facts["data"]["maps"]
    assert about["unknown"] == ["readme.npy", "red/1.png.-1.npy", "red/1.png.99.npy", "red/7.png.3.npy"] and about["files"] == 13
    assert about["missing"] == ["red/0.png"] and list(about["damaged"]) == ["blue/0.png"]
    assert [row["n"] for row in found.rows] == [8, 8], "the same pictures for all methods"
    said = " ".join(found.sentences)
    for words in (
        "4 files in the folder",
        "Without a map, and so left out: 1 picture",
        "'red/0.png'",
        "NaN or infinity",
        "readme.npy",
    ):
        assert words in said, words


@pytest.mark.parametrize(
    "kind", ["nan", "inf", "three axes", "one number", "text", "pickled", "header", "cut", "empty", "wide", "folder", "pipe"]
)
def test_files_that_are_no_maps_are_one_sentence(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "a.png.0.npy"
    arrays = {
        "nan": np.full((4, 4), np.nan), "inf": np.full((4, 4), np.inf), "three axes": np.zeros((3, 4, 4)),
        "one number": np.zeros(1),
        "text": np.array([["a"]]), "pickled": np.array([[{}]], dtype=object), "wide": np.zeros((4, 9)),
    }  # fmt: skip
    if kind in arrays:
        np.save(file, arrays[kind], allow_pickle=True)
    elif kind == "header":
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
        file.write_bytes(head.getvalue())
    elif kind == "cut":
        np.save(file, np.zeros((4, 4)))
        file.write_bytes(file.read_bytes()[:-8])
    elif kind == "empty":
        file.touch()
    elif kind == "folder":
        file.mkdir()
    else:
        os.mkfifo(file)
    with pytest.raises(BcosError, match=r"a\.png\.0\.npy") as caught:
        read_map(tmp_path, "a.png", 0, (4, 4))
    assert len(str(caught.value)) <= 500


def test_maps_of_another_size_are_resized_and_it_is_said(data: Path, tmp_path: Path) -> None:
    found = compare([classifier()], [], ["gini"], data, maps=all_of(tmp_path, side=SIDE // 2), limit=3)
    assert len(found.facts["data"]["maps"]["resized"]) == 3
    assert any("3 pictures had another size" in text for text in found.sentences)
    small = torch.arange(16.0).view(4, 4)
    write(tmp_path, "x", 0, small.numpy())
    larger, smaller = read_map(tmp_path, "x", 0, (8, 8)), read_map(tmp_path, "x", 0, (2, 2))
    assert larger is not None and larger.resized and larger.map.shape == (8, 8) and float(larger.map.mean()) == 7.5
    assert smaller is not None and float(smaller.map.sum()) == pytest.approx(30), "antialiased: nothing is skipped"


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", "|u1", "<i4", "|b1"])
def test_numbers_of_any_kind(dtype: str, tmp_path: Path) -> None:
    write(tmp_path, "x", 0, np.asfortranarray(np.eye(3, 3, 1).astype(dtype)))
    found = read_map(tmp_path, "x", 0, (3, 3))
    assert isinstance(found, Found) and torch.equal(found.map, torch.from_numpy(np.eye(3, 3, 1, dtype=np.float32)))
    write(tmp_path, "x", 0, np.eye(3)[None])
    assert read_map(tmp_path, "x", 0, (3, 3)) is not None, "(1, H, W) is a map, too"


def test_grids_are_one_sentence(data: Path, tmp_path: Path) -> None:
    found = compare([classifier()], ["inherent"], ["grid-pointing", "gini"], data, maps=all_of(tmp_path), limit=2)
    said = [text for text in found.sentences if text.startswith("maps on ") and "grids" in text]
    assert len(said) == 1 and "give a method that this library runs" in said[0]
    assert found.values["Bcos", "maps", "grid-pointing"].isnan().all() and not found.values["Bcos", "maps", "gini"].isnan().any()
    changed = compare([classifier()], [], ["max-sensitivity"], data, maps=tmp_path, limit=2)
    assert "needs maps of changed pictures" in changed.rows[0]["note"]


def test_files_that_change_or_come_later_are_seen(data: Path, tmp_path: Path) -> None:
    maps, out = all_of(tmp_path / "maps"), tmp_path / "out"
    (maps / "red/0.png.3.npy").unlink()
    assert compare([classifier()], [], ["gini"], data, maps=maps, out=out).rows[0]["n"] == 9
    write(maps, "red/0.png", 3, noise(77))
    write(maps, "blue/0.png", 0, noise(78))
    later = compare([classifier()], [], ["gini"], data, maps=maps, out=out)
    fresh = compare([classifier()], [], ["gini"], data, maps=maps)
    assert later.rows[0]["n"] == 10 and torch.equal(later.values["Bcos", "maps", "gini"], fresh.values["Bcos", "maps", "gini"])


def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    write(tmp_path, "secret.png", 0, noise(0))
    absolute = str(tmp_path / "secret.png")
    for name in ("../secret.png", "a/../../secret.png", absolute, f"x.tar/{absolute}", "x.tar/../secret.png", "a\0b"):
        assert map_file(maps, name, 0) is None and read_map(maps, name, 0, (SIDE, SIDE)) is None
    (maps / "round").symlink_to(maps)
    write(maps, "a.png", 0, noise(0))
    assert inventory(maps, ["a.png"], 5).files == 1, "a link that leads in a circle is not walked"


def test_links_to_maps_are_maps(tmp_path: Path) -> None:
    real = write(tmp_path / "elsewhere", "a.png", 0, noise(0))
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a.png.0.npy").symlink_to(real)
    assert read_map(tmp_path / "maps", "a.png", 0, (SIDE, SIDE)) is not None
    (tmp_path / "maps" / "b.png.0.npy").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BcosError, match="does not exist"):
        read_map(tmp_path / "maps", "b.png", 0, (SIDE, SIDE))


def test_members_of_shards_and_odd_names(tmp_path: Path) -> None:
    assert map_file("maps", "val-0.tar/n01/a.b.jpg", 12) == Path("maps/n01/a.b.jpg.12.npy")
    write(tmp_path, "a.3.npy", 1, noise(0))  # of a picture that is called a.3.npy
    write(tmp_path, "ä b/\x1b[31m.png", 2, noise(0))
    write(tmp_path, "a.png", 0, noise(0)).rename(tmp_path / "a.png.٣.npy")  # a digit that Python takes for one
    found = inventory(tmp_path, ["a.3.npy", "ä b/\x1b[31m.png", "a.png"], 5)
    assert found.files == 3 and found.unknown == ("a.png.٣.npy",)


def test_folders_without_maps(data: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no folder of maps"):
        compare([classifier()], [], ["gini"], data, maps=tmp_path / "none")
    with pytest.raises(InputError, match=r"no map in .*PICTURE\.CLASS\.npy"):
        compare([classifier()], [], ["gini"], data, maps=tmp_path)
    write(tmp_path, "other.png", 0, noise(0))
    with pytest.raises(InputError, match=r"No map in .*looked for") as caught:
        compare([classifier()], [], ["gini"], data, maps=tmp_path)
    assert "blue/0.png.0.npy" in str(caught.value)


def test_maps_beside_several_models(data: Path, tmp_path: Path) -> None:
    found = compare(
        [classifier(), plain_classifier()], [], ["gini", "single-deletion"], data, maps=all_of(tmp_path), limit=2, confidence=0
    )
    assert torch.equal(found.values["Bcos", "maps", "gini"], found.values["Plain", "maps", "gini"])
    assert any("stand for every model alike" in text for text in found.sentences)
