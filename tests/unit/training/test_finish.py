"""The temperature of a run: fitted on the split that chose, kept in the card, told in the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import torchbcos
from tests.unit.training.data import squares, tiny
from torchbcos.data import open_labelled
from torchbcos.evaluation import calibrate_model, measure_accuracy, open_model
from torchbcos.judging import Calibration
from torchbcos.runs import RunFolder
from torchbcos.training import Recipe, finish, read_recipe, train
from torchbcos.training.plan import hold_out


def run(recipe: Recipe, data: Path, out: Path) -> tuple[dict[str, Any], list[str]]:
    lines: list[str] = []
    return train(recipe, data, out, say=lines.append, accelerator="cpu", devices=1), lines


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of which some lie in the folder of another colour: nobody is right about all of them."""
    place = squares(tmp_path_factory.mktemp("squares"), count=20)
    for name, other in (("red", "blue"), ("blue", "green"), ("green", "red")):
        for i in range(6):
            (place / name / f"{i:02}.png").rename(place / other / f"from-{name}-{i}.png")
    return place


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    out = tmp_path_factory.mktemp("runs") / "run"
    recipe = tiny(selection_share=0.3, report_share=0.2, epochs=2, lr=5e-3, export="ema")
    return out, *run(recipe, data, out)


def test_the_card_has_the_temperature_and_the_report_what_it_changes(
    finished: tuple[Path, dict[str, Any], list[str]], data: Path
) -> None:
    out, report, lines = finished
    found, card = report["calibration"], torchbcos.load(out / "model").card
    assert found["temperature"] == card.temperature is not None and found["temperature"] != 1.0
    assert found["fitted_on"] == "selection" and found["pictures"] == 15 and "a rough value" in found["note"]
    for split in ("selection", "report"):
        assert {name: report[split][name] for name in ("ece", "loss")} == found[split]["after"]
    assert RunFolder(out).card.is_file() and "temperature" not in json.loads(RunFolder(out).card.read_text())
    [line] = [line for line in lines if line.startswith("Temperature ")]
    assert line.startswith(f"Temperature {found['temperature']:g}, fitted on the 15 pictures that chose; calibration error ")
    assert f"{found['report']['after']['ece']:.2f} % with it (reported split)" in line


def test_what_is_measured_is_what_the_report_says(finished: tuple[Path, dict[str, Any], list[str]], data: Path) -> None:
    out, report, _ = finished
    for weights in ("auto", "ema"):  # the exported weights, twice
        model = open_model(out, weights=weights, device="cpu")
        assert model.card.temperature == report["calibration"]["temperature"]
        for split in ("report", "selection"):
            found = measure_accuracy(model, data, split=split, run=out, workers=0)
            assert found["temperature"] == model.card.temperature
            for name in ("ece", "loss", "top1"):
                assert found[name] == pytest.approx(report[split][name], abs=2e-3)
    assert open_model(out, weights="last", device="cpu").card.temperature is None  # of other weights than those it was fitted for


def test_a_run_without_a_temperature_says_why(data: Path, tmp_path: Path) -> None:
    report, lines = run(tiny(epochs=1, max_steps=1, selection_share=0.0), data, tmp_path / "run")
    note = "Nothing was held out to choose by: no temperature was fitted."
    assert report["calibration"] == {"temperature": None, "note": note}
    assert f"No temperature is kept. {note}" in lines and torchbcos.load(tmp_path / "run" / "model").card.temperature is None


def test_a_temperature_at_its_bound_is_not_kept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "calibrate", lambda outputs, probability: Calibration(None, 5, "All are right."))
    report, lines = run(tiny(epochs=1, max_steps=1), data, tmp_path / "run")
    assert report["calibration"] == {"temperature": None, "fitted_on": "selection", "pictures": 5, "note": "All are right."}
    assert "No temperature is kept. All are right." in lines
    assert torchbcos.load(tmp_path / "run" / "model").card.temperature is None


def without(recipe: Path, key: str) -> None:
    """A recipe file as it was before there was this setting."""
    lines = recipe.read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(f"{key} ")]
    assert len(kept) == len(lines) - 1
    recipe.write_text("".join(kept), "utf-8")


def test_runs_from_before_there_was_a_temperature(data: Path, tmp_path: Path) -> None:
    """A finished one is finished; one that is switched off is written anew; one that was on its way gets a temperature."""
    recipe, out = tiny(epochs=1, max_steps=1, selection_share=0.3), tmp_path / "run"
    run(recipe, data, out)
    without(out / "recipe.toml", "calibrate")
    assert read_recipe(out / "recipe.toml")[0].calibrate
    report: Mapping[str, Any] = json.loads((out / "report.json").read_text())
    del (old := dict(report))["calibration"]
    (out / "report.json").write_text(json.dumps(old))
    again, lines = run(recipe, data, out)
    assert again == old and "is finished" in lines[0]
    off, lines = run(recipe.changed(calibrate=False), data, out)
    assert (
        off["calibration"] == {"temperature": None, "note": "The recipe has calibrate = false."} and "is finished" not in lines[0]
    )
    assert torchbcos.load(out / "model").card.temperature is None
    on, _ = run(recipe, data, out)
    assert on["calibration"] == report["calibration"]


def test_the_split_that_chose_is_the_one_that_is_fitted_on(finished: tuple[Path, dict[str, Any], list[str]], data: Path) -> None:
    """A planted fault: on the reported split the temperature is another."""
    out, report, _ = finished
    splits = hold_out(open_labelled(data), read_recipe(out / "recipe.toml")[0])
    assert splits.selection is not None and splits.report is not None
    assert not set(splits.selection.names) & set(splits.report.names)
    model = open_model(out, device="cpu")
    there, elsewhere = (calibrate_model(model, data, split=split, run=out, workers=0)[1] for split in ("selection", "report"))
    assert there["temperature"] == pytest.approx(report["calibration"]["temperature"], rel=1e-3)
    assert elsewhere["temperature"] != pytest.approx(there["temperature"], rel=1e-2)
