"""`torchbcos export`: options reach the function, and the last lines say what stands in the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from torchbcos.cli.__main__ import app
from torchbcos.zoo import export as exporting


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the function is asked, which then writes nothing."""
    calls: list[dict[str, Any]] = []

    def write(model: Any, path: Path, **options: Any) -> exporting.Exported:
        calls.append({"model": model.card.name, "path": path, **options})
        ports = (exporting.Port("pictures", "uint8", ("N", 160, 160, 3)),), (exporting.Port("logits", "float32", ("N", 10)),)
        return exporting.Exported(path, 26_000_000, *ports, ("logits.bias",), ("torch", "onnxruntime"))

    monkeypatch.setattr(exporting, "export", write)
    return calls


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        app(["export", *map(str, words)])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_the_options_reach_the_function(asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "why.pt2"
    code, out, _ = run(capsys, "-o", path, "--top-k", 2, "--no-preprocessing")
    assert code == 0
    assert out.splitlines() == [
        f"{path}: 26.0 MB, compared with 'torchbcos explain' in torch and in onnxruntime",
        "  in: pictures uint8 (N, 160, 160, 3)", "  out: logits float32 (N, 10)", "  constants: logits.bias",
    ]  # fmt: skip
    code, out, _ = run(capsys, "-o", path, "--class", "tench", "--class", 3, "--floats", "--size", "160", "--json")
    assert code == 0 and json.loads(out)["inputs"] == {"pictures": {"dtype": "uint8", "shape": ["N", 160, 160, 3]}}
    run(capsys, "-o", path, "--any-class")
    wanted = [
        {"top_k": 2, "targets": False, "size": None, "preprocessing": False},
        {"top_k": 1, "targets": ["tench", "3"], "size": [160], "preprocessing": "pixels"},
        {"top_k": 1, "targets": True, "size": None, "preprocessing": True},
    ]
    assert asked == [{"model": "imagenet", "path": path, **options} for options in wanted]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-o", "why.txt"], "ends in '.onnx'"),
        (["-o", "why.pt2", "--class", "0", "--any-class"], "exclude each other"),
        (["-o", "why.pt2", "--floats", "--no-preprocessing"], "exclude each other"),
        (["-o", "why.pt2", "--size", "-3"], "--size is a number a side"),
        ([], "--out"),
    ],
)
def test_wrong_requests_are_one_sentence(
    words: list[str], sentence: str, asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "") and sentence in err and len(err.splitlines()) == 1
    assert asked == []
