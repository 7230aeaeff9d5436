"""Everything a hard disk can hold, once through the command line: each refusal is one sentence, and the rest gets done."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import torchbcos
from torchbcos.cli.__main__ import app
from torchbcos.pictures import Preprocess
from torchbcos.zoo import Card, Classifier

CLASSES = ("red", "green", "blue")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny classifier, for `--model`."""
    torch.manual_seed(0)
    network = torchbcos.create_model("cifar10_resnet20", num_classes=3)
    torchbcos.recalibrate(network, [torch.rand(8, 6, 32, 32)])
    card = Card(name="tiny", architecture="cifar10_resnet20", classes=CLASSES, num_classes=3,
                preprocess=Preprocess(resize=32, crop=32).to_dict())  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    torchbcos.save(Classifier(network.eval(), card), folder)
    return folder


class Done:
    """What a command did: exit code, stdout, and the lines of stderr."""

    def __init__(self, *arguments: object) -> None:
        result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        self.code, self.out, self.errors = result.exit_code, result.stdout, result.stderr.splitlines()
        assert "Traceback" not in result.output

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON list."""
        records: list[dict[str, Any]] = json.loads(self.out)
        return records


@pytest.fixture
def explain(model: Path, tmp_path: Path) -> Callable[..., Done]:
    """`torchbcos explain` with the tiny classifier, into `tmp_path/out`."""
    return lambda *arguments: Done("explain", "--model", model, "--out", tmp_path / "out", *arguments)


def noise(seed: int = 0, size: tuple[int, int] = (40, 48)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8))


def written(folder: Path) -> list[str]:
    """Every file below a folder, temporary ones included."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) if folder.exists() else []


def seen_by_the_network(explain: Callable[..., Done], path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """The (3, 32, 32) colours that reach the network when `path` is explained."""
    seen: list[Any] = []
    original = Preprocess.look

    def spy(self: Preprocess, items: Any, **more: Any) -> Any:
        seen.append(original(self, items, **more))
        return seen[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Preprocess, "look", spy)
        done = explain(path)
    assert (done.code, done.errors) == (0, []), done.errors
    return seen[0][0][0, :3]


def bomb(width: int = 20_000, height: int = 20_000) -> bytes:
    """A PNG of 1.2 GB that takes a few kilobytes."""

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    body = b"".join(packer.compress(row) for _ in range(height // 100)) + packer.flush()  # the header promises all rows
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", body) + part(b"IEND", b"")


def jpeg(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


# -- refused: one sentence, exit code 1 ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("empty.jpg", lambda: b"", "is empty (0 bytes): copy or download it again."),
        ("text.jpg", lambda: b"Dear diary,\ntoday\n", "is no picture that can be read: it contains text; supported: JPEG, PNG"),
        ("page.jpg", lambda: b"<!DOCTYPE html>\n<html>404</html>", "HTML or XML text (an error page saved under this name?)"),
        ("cut.jpg", lambda: jpeg(noise())[:600], "ends early: it is truncated. Copy or download it again."),
        ("bomb.png", bomb, "has 20000 x 20000 = 400 megapixels, more than the 178 that are read: make it smaller first."),
    ],
)
def test_refused(explain: Callable[..., Done], tmp_path: Path, name: str, content: Callable[[], bytes], text: str) -> None:
    (tmp_path / name).write_bytes(content())
    done = explain(tmp_path / name)
    assert done.code == 1 and len(done.errors) == 1
    assert done.errors[0].startswith("torchbcos: ") and name in done.errors[0] and text in done.errors[0]
    assert written(tmp_path / "out") == []
    [record] = explain(tmp_path / name, "--json").records
    assert record["error"] and record["predictions"] == record["explanations"] == []


def test_a_bomb_takes_no_memory(model: Path, tmp_path: Path) -> None:
    """In a process of its own, whose largest size is measured: decoded, the bomb alone would take 1.2 GB."""
    (tmp_path / "bomb.png").write_bytes(bomb())
    noise().save(tmp_path / "good.png")
    code = (
        "import resource, sys\nfrom torchbcos.cli.__main__ import main\n"
        "for name in ('good.png', 'bomb.png'):\n"
        f"    sys.argv = ['torchbcos', 'predict', name, '--model', {str(model)!r}]\n"
        "    try: main()\n    except SystemExit: print(' ', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "400 megapixels" in done.stderr
    good, both = (int(line.split()[-1]) for line in done.stdout.splitlines() if line.startswith(" "))
    assert both < good + 100_000  # kilobytes


def test_a_hundred_photos_with_three_broken_ones(explain: Callable[..., Done], tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(100):
        noise(i).save(photos / f"p{i}.jpg")
    broken = {"p7.jpg": b"", "p50.jpg": b"text", "p99.jpg": jpeg(noise())[:500]}
    for name, content in broken.items():
        (photos / name).write_bytes(content)
    done = explain(photos, "--json")
    assert done.code == 1 and len(done.errors) == 3
    assert all(name in line for name, line in zip(broken, done.errors, strict=True))
    assert len(written(tmp_path / "out")) == 97
    records = done.records
    assert [Path(r["file"]).name for r in records] == [f"p{i}.jpg" for i in range(100)]
    assert {Path(r["file"]).name for r in records if r["error"]} == set(broken)


def test_a_picture_that_only_preprocessing_refuses_takes_no_other_with_it(explain: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "c.png"):
        noise().save(tmp_path / "in" / name)
    Image.new("L", (9_000_000, 1)).save(tmp_path / "in" / "b.png")  # resized, its longer side would be absurd
    done = explain(tmp_path / "in")
    assert done.code == 1 and len(done.errors) == 1 and "b.png" in done.errors[0] and "crop it" in done.errors[0]
    assert len(written(tmp_path / "out")) == 2 and "2 of 3 pictures done." in done.out


# -- read -------------------------------------------------------------------------------------------


def test_names_with_spaces_and_umlauts(explain: Callable[..., Done], tmp_path: Path) -> None:
    names = ["Größe 1 (neu).jpg", "mit Leer zeichen.png", "日本.webp", "-x.png"]
    (tmp_path / "Ordner mit ü").mkdir()
    for name in names:
        noise().save(tmp_path / "Ordner mit ü" / name)
    done = explain(tmp_path / "Ordner mit ü", "--json")
    assert (done.code, done.errors) == (0, [])
    assert sorted(Path(r["file"]).name for r in done.records) == sorted(names)
    assert all(Path(r["explanations"][0]["picture"]).is_file() for r in done.records)


def test_a_name_that_is_no_unicode(model: Path, tmp_path: Path) -> None:
    """As old archives leave it: the program must not die of printing it."""
    try:
        noise().save(os.fsdecode(os.fsencode(str(tmp_path)) + b"/gr\xfc\xdf.png"))
    except OSError:
        pytest.skip("this disk takes Unicode names only")
    command = [sys.executable, "-W", "ignore", "-m", "torchbcos.cli", "predict", ".", "--model", str(model), "--json"]
    program = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (program.returncode, program.stderr) == (0, "")
    assert json.loads(program.stdout)[0]["file"].encode(errors="surrogateescape") == b"gr\xfc\xdf.png"
    done = Done("predict", tmp_path, "--model", model)
    assert (done.code, done.errors) == (0, []) and "gr\\udcfc\\udcdf.png: " in done.out


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_modes(explain: Callable[..., Done], tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.new("RGB", (40, 40), (255, 0, 0) if mode in {"P", "RGB", "RGBA", "CMYK"} else (255, 255, 255)).convert(mode)
    if mode in {"LA", "RGBA"}:
        image.putalpha(0)  # over white, whatever the colour below
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    image.save(path)
    colours = seen_by_the_network(explain, path, monkeypatch)
    expected = [1.0, 0.0, 0.0] if mode in {"P", "RGB", "CMYK"} else [1.0, 1.0, 1.0]
    torch.testing.assert_close(colours.mean((1, 2)), torch.tensor(expected), atol=0.02, rtol=0)


def test_16_bits_are_scaled_not_clipped(explain: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = np.linspace(0, 65535, 40).astype(np.uint16)
    Image.fromarray(np.tile(ramp, (40, 1))).save(tmp_path / "x.png")
    colours = seen_by_the_network(explain, tmp_path / "x.png", monkeypatch)
    assert 0.4 < float(colours.mean()) < 0.6 and float(colours[0, 0].diff().min()) > 0  # clipped, nearly all would be 1


def test_exif_is_upright(explain: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upright = np.zeros((40, 40, 3), np.uint8)
    upright[:20] = 255  # the sky is above
    stored, exif = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[274] = 6
    stored.save(tmp_path / "x.jpg", exif=exif, quality=95)
    colours = seen_by_the_network(explain, tmp_path / "x.jpg", monkeypatch)
    assert float(colours[:, :12].mean()) > 0.95 and float(colours[:, -12:].mean()) < 0.05


def test_one_pixel(explain: Callable[..., Done], tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), "red").save(tmp_path / "x.png")
    done = explain(tmp_path / "x.png")
    assert (done.code, done.errors) == (0, []) and len(written(tmp_path / "out")) == 1


def test_animations_are_said_once(explain: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    (tmp_path / "in").mkdir()
    for name in ("a.gif", "b.gif"):
        frames[0].save(tmp_path / "in" / name, save_all=True, append_images=frames[1:])
    seen: list[Any] = []
    original = Preprocess.look

    def spy(self: Preprocess, items: Any, **more: Any) -> Any:
        seen.append(original(self, items, **more))
        return seen[-1]

    monkeypatch.setattr(Preprocess, "look", spy)
    done = explain(tmp_path / "in")
    assert done.code == 0 and len(done.errors) == 1 and "is animated" in done.errors[0] and "said once" in done.errors[0]
    assert [round(float(v)) for v in seen[0][0][:, :3].mean((0, 2, 3))] == [1, 0, 0]  # the first frame, of both


# -- wrong requests: one sentence, exit code 2 -----------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("explain", "{photo}", "--model", "resnt50"), "There is no model 'resnt50': … Did you mean 'resnet50'"),
        (("explain", "{photo}", "--class", "gren"), "There is no class 'gren' among 3. Did you mean 'green'"),
        (("explain", "{photo}", "--contrast", "blu"), "There is no class 'blu' among 3. Did you mean 'blue'"),
        (("explain", "{photo}", "--class", "7"), "There is no class '7' among 3. The model knows "),
        (("explain", "{photo}", "--top-k", "4"), "--top-k 4 is more than the 3 classes"),
        (("explain", "{photo}", "--top-k", "0"), "Invalid value for '--top-k'"),
        (("explain", "{photo}", "--topk", "2"), "no option '--topk'. It is '--top-k' here. See 'torchbcos explain --help'."),
        (("explain", "{photo}", "--device", "gpu"), "'gpu' is not one of 'auto', 'cpu', 'cuda', 'mps'."),
        (("explain", "{photo}", "--model"), "Option '--model' requires an argument."),
        (("explain",), "Missing argument 'PATH...'; for example 'torchbcos explain photo.jpg'. See 'torchbcos explain --help'."),
        (("explane", "{photo}"), "There is no command 'explane'. Did you mean 'explain' or 'prune'? See 'torchbcos --help'."),
        (("predict", "{photo}", "--tpo-k", "2"), "There is no option '--tpo-k'. Did you mean '--top-k'"),
        (("predict", "{photo}x"), "photo.pngx' does not exist. Did you mean 'photo.png'"),
        (("predict", "{empty}"), "empty' holds no pictures"),
        (("models", "resnt"), "no model matches 'resnt'. Did you mean 'resnet50'"),
    ],
)
def test_wrong_requests(
    model: Path, tmp_path: Path, arguments: tuple[str, ...], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise().save(tmp_path / "photo.png")
    (tmp_path / "empty").mkdir()
    filled = [a.format(photo=tmp_path / "photo.png", empty=tmp_path / "empty") for a in arguments]
    if arguments[0] in {"explain", "predict"} and len(arguments) > 1 and "--model" not in arguments:
        filled += ["--model", str(model)]
    monkeypatch.chdir(tmp_path)
    done = Done(*filled)
    assert (done.code, done.out) == (2, "") and len(done.errors) == 1, done.errors
    assert done.errors[0].startswith("torchbcos: ") and len(done.errors[0]) <= 520
    assert re.search(".*".join(map(re.escape, text.split("…"))), done.errors[0]), done.errors[0]
    assert not (tmp_path / "explanations").exists()


def test_no_argument_shows_the_help() -> None:
    done = Done()
    assert done.code == 2 and all(word in done.out for word in ("explain", "predict", "models", "--version"))
    assert Done("--version").out == f"torchbcos {torchbcos.__version__}\n"


# -- output that cannot be written -----------------------------------------------------------------


def test_unwritable_output(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise().save(tmp_path / "photo.png")
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/below/it"):
        done = Done("explain", tmp_path / "photo.png", "--model", model, "--out", tmp_path / out)
        assert done.code == 2 and len(done.errors) == 1 and "file' is a file, not a folder." in done.errors[0]
    assert (tmp_path / "file").read_text() == "mine"

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # root may write anywhere, so the refusal is played
    done = Done("explain", tmp_path / "photo.png", "--model", model, "--out", tmp_path / "out")
    assert done.code == 2 and len(done.errors) == 1 and done.errors[0].endswith("Permission denied.")


def test_a_full_disk_leaves_nothing_half_written(
    explain: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        noise().save(tmp_path / "in" / name)
    whole = Path.write_bytes

    def half(self: Path, data: bytes) -> int:
        if "out" not in self.parts:
            return whole(self, data)
        whole(self, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    done = explain(tmp_path / "in")
    assert done.code == 1 and len(done.errors) == 2 and "0 of 2 pictures done." in done.out
    for name, line in zip(("a.png", "b.png"), done.errors, strict=True):
        assert name in line and "No space left on device. Nothing was left behind." in line
    assert written(tmp_path / "out") == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_standard_output(model: Path, tmp_path: Path) -> None:
    noise().save(tmp_path / "photo.png")
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-W", "ignore", "-m", "torchbcos.cli", "predict", "photo.png", "--model", str(model)]
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "torchbcos: could not write to standard output: No space left on device.\n")


def test_results_of_the_last_run_are_not_explained(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise().save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    assert Done("explain", ".", "--model", model).code == 0
    done = Done("explain", ".", "--model", model)
    assert done.code == 0 and len(done.errors) == 1 and "1 pictures in 'explanations'" in done.errors[0]
    assert len(written(tmp_path / "explanations")) == 1
    assert Done("explain", "explanations", "--model", model).code == 0  # unless they are asked for
    assert len(written(tmp_path / "explanations")) == 2


def test_missing_files_are_named_and_the_rest_is_done(explain: Callable[..., Done], tmp_path: Path) -> None:
    noise().save(tmp_path / "photo.png")
    done = explain(tmp_path / "absent.png", tmp_path / "photo.png", "--json")
    assert done.code == 1 and len(done.errors) == 1 and "absent.png" in done.errors[0]
    assert [r["error"] is None for r in done.records] == [True, False]
    done = explain(tmp_path / "absent.png", "--json")
    assert done.code == 2 and [Path(r["file"]).name for r in done.records] == ["absent.png"]


def test_a_progress_bar_does_not_take_what_is_printed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich redirects standard output to the bar's console while it shows."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    for i in range(4):
        noise(i).save(tmp_path / f"p{i}.png")
    done = Done("predict", tmp_path, "--model", model, "--batch-size", 1)
    assert done.code == 0 and sum("p" in line and "%" in line for line in done.out.splitlines()) == 4
    assert any("pictures" in line for line in done.errors)  # the bar was there


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_a_network_of_broken_weights_is_an_error_that_names_them(tmp_path: Path, command: str) -> None:
    network = torchbcos.create_model("cifar10_resnet20", num_classes=3).eval()
    network.fc.weight.data[1] = float("nan")  # after a run that diverged; one class is enough
    card = Card(name="tiny", architecture="cifar10_resnet20", classes=CLASSES, num_classes=3,
                preprocess=Preprocess(resize=32, crop=32).to_dict())  # fmt: skip
    classifier = Classifier(network, card)
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    try:
        torchbcos.save(classifier, tmp_path / "m")
        torchbcos.load(tmp_path / "m")
    except torchbcos.BcosError as error:  # such weights may be refused before they are used
        assert "fc.weight" in str(error)
        return
    extra = ["--out", tmp_path / "out"] if command == "explain" else []
    done = Done(command, tmp_path / "a.png", "--model", tmp_path / "m", "--json", *extra)
    assert done.code == 1 and "'fc.weight' holds such numbers itself" in done.records[0]["error"]
    assert done.records[0]["predictions"] == [] and "fc.weight" in done.errors[0]
    spoken = Done(command, tmp_path / "a.png", "--model", tmp_path / "m", *extra)
    assert spoken.code == 1 and "nan" not in spoken.out
