"""Labelled data is recognised by what lies there; each wrong form gets one sentence."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from torchbcos._core.errors import BcosError, InputError, MissingFileError
from torchbcos.data import packed
from torchbcos.data.labelled import Split, split_rows
from torchbcos.data.loading import Examples, Order, check_batch, collate, loader, seed_generator, seed_of, whole_batches
from torchbcos.data.packed import split_name
from torchbcos.data.sources import open_labelled
from torchbcos.pictures.preprocess import Preprocess


def picture(shade: int, side: int = 12) -> Image.Image:
    return Image.new("RGB", (side, side), (shade, 0, 255 - shade))


def png(shade: int) -> bytes:
    file = io.BytesIO()
    picture(shade).save(file, "PNG")
    return file.getvalue()


def classes_in(place: Path, count: int = 3, names: tuple[str, ...] = ("a", "b")) -> Path:
    for k, name in enumerate(names):
        (place / name).mkdir(parents=True)
        for i in range(count):
            picture(10 * i + 100 * k).save(place / name / f"{i}.png")
    return place


def test_folders_of_classes(tmp_path: Path) -> None:
    found = open_labelled(classes_in(tmp_path))
    assert (found.classes, found.kind, found.report, found.multi_label) == (("a", "b"), "folder", None, False)
    assert found.train.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.train.names[3] == str(Path("b", "0.png"))
    assert found.train.read(4).getpixel((0, 0)) == (110, 0, 145)


def test_train_and_val_folders_share_their_classes(tmp_path: Path) -> None:
    classes_in(tmp_path / "train")
    classes_in(tmp_path / "val", 1, ("b",))
    found = open_labelled(tmp_path)
    assert found.report is not None
    assert found.report.targets.tolist() == [1]
    classes_in(tmp_path / "val", 1, ("bb",))
    with pytest.raises(InputError, match=r"a class 'bb' that the training data lacks. Did you mean 'b'"):
        open_labelled(tmp_path)


def write_table(file: Path, rows: list[dict[str, object]]) -> Path:
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def test_tables_of_several_labels_and_of_classes(tmp_path: Path) -> None:
    classes_in(tmp_path)
    several = write_table(tmp_path / "several.csv", [
        {"file": "a/0.png", "sky": 1, "sea": 1, "split": "train"}, {"file": "b/0.png", "sky": 0, "sea": 1, "split": "val"},
    ])  # fmt: skip
    found = open_labelled(several)
    assert (found.classes, found.multi_label) == (("sky", "sea"), True)
    assert found.train.targets.tolist() == [[1.0, 1.0]]
    assert found.report is not None and found.report.targets.tolist() == [[0.0, 1.0]]
    write_table(tmp_path / "labels.csv", [{"file": f"a/{i}.png", "class": f"k{i}"} for i in range(3)])
    found = open_labelled(tmp_path)
    assert (found.classes, found.kind, found.multi_label) == (("k0", "k1", "k2"), "table", False)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"name": "x", "sky": 1}], "needs a column 'file'"),
        ([{"file": "x.png", "sky": "yes"}], r"line 2, column 'sky': 'yes' is neither 0 nor 1"),
        ([{"file": "x.png", "sky": 1, "split": "trian"}], "the split 'trian' is neither"),
    ],
)
def test_wrong_tables(tmp_path: Path, rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_labelled(write_table(tmp_path / "t.csv", rows))


def write_shard(file: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(file, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_shards_of_both_forms_and_names_of_classes(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-0.tar", [("001.png", png(1)), ("001.cls", b"1"), ("002.png", png(2)), ("002.cls", b"0\n")])
    write_shard(tmp_path / "train-1.tar", [("003.cls", b"1"), ("003.png", png(3)), ("003.json", b"{}")])
    write_shard(tmp_path / "val-0.tar", [("9.png", png(9)), ("9.cls", b"1")])
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    found = open_labelled(tmp_path)
    assert (found.kind, found.classes) == ("shards", ("cat", "dog"))
    assert found.train.targets.tolist() == [1, 0, 1]
    assert [found.train.read(i).getpixel((0, 0))[0] for i in range(3)] == [1, 2, 3]
    assert found.report is not None and found.report.names == ["val-0.tar/9.png"]
    other = tmp_path / "folders"
    other.mkdir()
    write_shard(other / "x.tar", [("n02/1.png", png(1)), ("n01/2.png", png(2))])
    assert open_labelled(other).classes == ("n01", "n02")


def test_shards_that_webdataset_writes_are_read(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "train-000.tar")) as sink:
        for i in range(4):
            sink.write({"__key__": f"{i:03}", "png": png(i), "cls": i % 2})
    found = open_labelled(tmp_path)
    assert found.train.targets.tolist() == [0, 1, 0, 1]
    assert found.train.read(3).getpixel((0, 0))[0] == 3


def test_the_index_of_large_shards_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, read = tmp_path / "data", packed.read_index
    data.mkdir()
    write_shard(data / "train-0.tar", [("cat/1.png", png(1)), ("dög/2.png", png(2)), ("cat/3.png", png(3))])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    calls: list[int] = []
    monkeypatch.setattr(packed, "read_index", lambda tars: calls.append(len(tars)) or read(tars))  # type: ignore[func-returns-value]
    first = open_labelled(data)
    assert calls == [1] and not (tmp_path / "cache").exists()  # too small to be worth a file
    monkeypatch.setattr(packed, "LARGE", 3)
    for expected in ([1, 1], [1, 1]):
        found = open_labelled(data)
        assert calls == expected
        assert found.train.names == first.train.names and found.classes == ("cat", "dög")
        assert [found.train.read(i).getpixel((0, 0))[0] for i in range(3)] == [1, 2, 3]
    (file,) = (tmp_path / "cache").rglob("*.npz")
    file.write_bytes(b"damaged")
    assert open_labelled(data).train.names == first.train.names and len(calls) == 3
    write_shard(data / "train-0.tar", [("cat/1.png", png(1)), ("dog/2.png", png(2)), ("dog/4.png", png(3))])
    assert open_labelled(data).classes == ("cat", "dog") and len(calls) == 4  # another file of the same name
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/proc/nowhere")
    assert open_labelled(data).classes == ("cat", "dog")


def test_wrong_shards(tmp_path: Path) -> None:
    (tmp_path / "train.tar").write_bytes(b"no tar")
    with pytest.raises(InputError, match="no uncompressed tar file"):
        open_labelled(tmp_path)
    write_shard(tmp_path / "train.tar", [("1.png", png(1))])
    with pytest.raises(InputError, match=r"'1.png' has neither a '.cls' beside it nor a folder"):
        open_labelled(tmp_path)
    (tmp_path / "train.tar").rename(tmp_path / "val.tar")
    with pytest.raises(InputError, match="no shards to train on"):
        open_labelled(tmp_path)


def test_keys_end_at_the_first_dot() -> None:
    assert split_name("a.b/001.seg.PNG") == ("a.b/001", ".seg.png")


def test_cifar10_binary_and_jpeg(tmp_path: Path) -> None:
    records = np.zeros((20, 3073), np.uint8)
    records[:, 0] = np.arange(20) % 10
    records[:, 1:1025] = 7  # red comes first
    for i in range(1, 6):
        records.tofile(tmp_path / f"data_batch_{i}.bin")
    records[:10].tofile(tmp_path / "test_batch.bin")
    found = open_labelled(tmp_path)
    assert (found.kind, len(found.train), found.classes[1]) == ("cifar10", 100, "automobile")
    assert found.report is not None and len(found.report) == 10
    assert found.train.read(5).getpixel((3, 3)) == (7, 0, 0)
    (tmp_path / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(InputError, match=r"CIFAR-10 in .* cannot be read"):
        open_labelled(tmp_path)


def test_real_cifar10_and_shards(data_dir: Path) -> None:
    cifar = open_labelled(data_dir / "cifar10")
    assert (len(cifar.train), cifar.report is not None and len(cifar.report)) == (50_000, 10_000)
    assert cifar.train.read(49_999).size == (32, 32)
    nette = open_labelled(data_dir / "imagenette")
    assert (len(nette.train), nette.classes[0]) == (9454, "tench")


def test_arrays(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "volume.npy", np.full((2, 3, 4, 5), 255, np.uint8))
    found = open_labelled(tmp_path)
    tensor = found.train.read(0)
    assert tensor.shape == (2, 3, 4, 5)
    assert float(tensor.max()) == 1
    np.save(tmp_path / "a" / "volume.npy", np.array([1.0, np.nan]))
    with pytest.raises(InputError, match="NaN or infinity"):
        found.train.read(0)
    np.save(tmp_path / "a" / "volume.npy", np.array(["x"]))
    with pytest.raises(InputError, match="numbers of shape"):
        found.train.read(0)
    np.save(tmp_path / "a" / "volume.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"no .npy file that can be read"):
        found.train.read(0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: p / "absent", MissingFileError, "There is no data at"),
        (lambda p: classes_in(p, names=("a",)), InputError, "holds 1 folder: a folder for every class is needed"),
        (lambda p: classes_in(p, count=0), InputError, "The class 'a' .* holds no files that end in"),
    ],
)
def test_what_is_no_data(tmp_path: Path, make: object, error: type[BcosError], message: str) -> None:
    with pytest.raises(error, match=message):
        open_labelled(make(tmp_path))  # type: ignore[operator]


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(InputError, match=r"data is a folder, or a table that ends in .csv"):
        open_labelled(tmp_path / "x.txt")


@given(counts=st.lists(st.integers(1, 12), min_size=1, max_size=5), share=st.floats(0.01, 0.5), seed=st.integers(0, 9))
def test_splits_are_disjoint_complete_and_stratified(counts: list[int], share: float, seed: int) -> None:
    targets = torch.tensor([c for c, n in enumerate(counts) for _ in range(n)])
    rest, held = split_rows(targets, share, seed)
    assert sorted(rest + held) == list(range(len(targets)))
    assert split_rows(targets, share, seed) == (rest, held)
    for c, n in enumerate(counts):
        found = sum(int(targets[i]) == c for i in held)
        assert found == (0 if n == 1 else min(max(1, round(share * n)), n - 1))


@given(
    count=st.integers(1, 40), batch=st.integers(1, 5), epochs=st.integers(1, 3), world=st.integers(1, 3), seed=st.integers(0, 5),
    repeats=st.integers(1, 4), data=st.data(),
)  # fmt: skip
def test_order_is_the_same_from_any_start_and_over_any_processes(
    count: int, batch: int, epochs: int, world: int, seed: int, repeats: int, data: st.DataObject
) -> None:
    batch *= world
    if count < world:
        return
    whole = list(Order(count, batch, epochs=epochs, seed=seed, repeats=repeats))
    parts = [list(Order(count, batch, epochs=epochs, seed=seed, repeats=repeats, rank=r, world=world)) for r in range(world)]
    if batch <= count:
        for b, keys in enumerate(whole):
            assert sorted(keys) == sorted(key for part in parts for key in part[b])
    start = data.draw(st.integers(0, len(whole)))
    resumed = Order(count, batch, epochs=epochs, seed=seed, repeats=repeats, start=start)
    assert list(resumed) == whole[start:]
    assert len(resumed) == len(whole) - start
    per_epoch = len(whole) // epochs
    for epoch in range(epochs):
        keys = [key for batch_keys in whole[epoch * per_epoch : (epoch + 1) * per_epoch] for key in batch_keys]
        assert len(set(keys)) == len(keys)
        assert {e for _, e, _ in keys} == {epoch}
        if repeats > 1:
            assert all(copy < repeats for _, _, copy in keys)


def test_a_small_set_repeats_too_and_order_differs_by_epoch() -> None:
    keys = [k for b in Order(10, 256, epochs=1, repeats=4) for k in b]  # the official sampler yields nothing below 256
    assert len(keys) == 10
    assert len({i for i, _, _ in keys}) == 3
    first, second = list(Order(50, 50, epochs=2))
    assert [i for i, _, _ in first] != [i for i, _, _ in second]
    with pytest.raises(InputError, match="cannot be divided over 2 processes"):
        Order(10, 3, world=2)


def test_unreadable_examples_are_replaced_named_and_counted(tmp_path: Path) -> None:
    data = open_labelled(classes_in(tmp_path)).train
    (tmp_path / "a" / "1.png").write_bytes(b"broken")
    (tmp_path / "a" / "2.png").unlink()
    examples = Examples(data, Preprocess(resize=8, crop=8))
    batch = collate([examples[(1, 0, 0)], examples[(5, 0, 0)]])
    assert batch["y"].tolist() == [1, 1]
    assert len(batch["failed"]) == 2
    assert "1.png" in batch["failed"][0] and "2.png" in batch["failed"][1]
    assert check_batch(batch, "skip") == batch["failed"]
    with pytest.raises(InputError, match=r"1.png.*--on-error skip"):
        check_batch(batch, "stop")


def test_examples_of_several_shapes_get_one_sentence() -> None:
    split = Split(["x", "y"], torch.tensor([0, 1]), lambda i: torch.zeros(1, 4 + i), (0, 1))
    examples = Examples(split, Preprocess(encoding="none"))
    with pytest.raises(InputError, match=r"one shape, but there are \(1, 4\) and \(1, 5\)"):
        check_batch(collate([examples[0], examples[1]]), "stop")


def test_worker_processes_read_the_same(tmp_path: Path) -> None:
    examples = Examples(open_labelled(classes_in(tmp_path, 5)).train, Preprocess(resize=8, crop=8))
    rows = whole_batches(10, 4)
    alone, others = [[b["x"] for b in loader(examples, rows, n)] for n in (0, 1)]  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(alone, others, strict=True))
    assert sorted(i for r in range(3) for b in whole_batches(10, 4, r, 3) for i in b) == list(range(10))


def test_fingerprints_notice_files_and_targets(tmp_path: Path) -> None:
    split = open_labelled(classes_in(tmp_path)).train
    assert split.fingerprint() == open_labelled(tmp_path).train.fingerprint()
    other = Split(split.names, split.targets.flip(0), split.reader, split.rows)
    assert len({split.fingerprint(), other.fingerprint(), split.take([0, 1, 2, 3, 4]).fingerprint()}) == 3


def test_seeds_of_close_numbers_differ() -> None:
    found = {seed_of(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(found) == 125


def test_seeding_leaves_nothing_behind() -> None:
    # torch.manual_seed queues a call, with the whole stack, for a CUDA that may never come
    waiting = len(torch.cuda._queued_calls)
    drawn = []
    for seed in (1, 2, 1):
        seed_generator(seed)
        drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[2] != drawn[1]
    assert len(torch.cuda._queued_calls) == waiting


def test_a_table_in_another_encoding_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("file,sky\ngrün.png,1\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"is no table in UTF-8 that can be read"):
        open_labelled(tmp_path)


def test_arrays_of_two_axes_are_judged_at_the_size_of_pictures() -> None:
    split = Split(["a"], torch.tensor([0]), lambda i: torch.rand(2, 20, 30), (0,))
    prepare = Preprocess(resize=8, crop=8)
    assert Examples(split, prepare)[0]["x"].shape == (4, 8, 8)
    assert Examples(split, Preprocess(resize=8, crop=8, encoding="none"))[0]["x"].shape == (2, 8, 8)
    plain = Preprocess(resize=8, crop=8, encoding="normalize", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    failed = Examples(split, plain)[0]["failed"]  # it was left unnormalised, without a word
    assert "'normalize' has a mean and std for three channels, and here are 2: encoding='none'" in failed[0]
    rgb = Split(["a"], torch.tensor([0]), lambda i: torch.ones(3, 20, 30), (0,))
    assert float((Examples(rgb, plain)[0]["x"] - 1).abs().max()) < 1e-6  # (1 - 0.5) / 0.5
