"""Recipes survive a file, old files still open, and what is wrong with a key gets one sentence."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchbcos._core.errors import InputError, MissingFileError
from torchbcos.training import Recipe, find_recipe, list_settings, read_recipe, to_toml, with_settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BEFORE = sorted((Path(__file__).parents[3] / "fixtures" / "recipes-0.1").glob("*.toml"))


@pytest.mark.parametrize("file", BEFORE, ids=lambda file: file.stem)
def test_files_of_the_first_version_are_read_and_written_again(file: Path) -> None:
    recipe, run = read_recipe(file)
    before, after = tomllib.loads(file.read_text("utf-8")), tomllib.loads(to_toml(recipe, run))
    assert before == {key: value for key, value in after.items() if key in before}
    assert [key for key in after if key in before] == list(before)
    if not run:
        assert recipe == find_recipe(file.stem)


def test_a_run_of_the_first_version_opens_with_its_facts() -> None:
    recipe, run = read_recipe(next(file for file in BEFORE if file.stem == "run-guided"))
    expected = find_recipe("finetune").changed(
        name="guided", about='a run: "ä" \\ and # are no comment', epochs=3, lr=1e-5, guide="energy", guide_weight=1.0,
        guide_at="layer2", options={"norm": "layer", "stages": [1, 2]},
    )  # fmt: skip
    assert recipe == expected
    assert run["classes"] == ["apple", 'a "b"', "ü"] and run["changes"] == ["from step 4: lr 0.1 -> 0.2"]


@pytest.mark.parametrize("name", ["folder", "bcos_final_long-convnext_base", "vit_final-standard_simple_vit_s_patch16_224"])
def test_comments_explain_every_setting_and_change_none(name: str, tmp_path: Path) -> None:
    recipe = with_settings(find_recipe(name), ["options.norm=layer", "about=a # b"])
    text, file = to_toml(recipe, {"pictures": 3}, comments=True), tmp_path / "recipe.toml"
    file.write_text(text, "utf-8")
    assert read_recipe(file) == (recipe, {"pictures": 3})
    assert [line for line in text.splitlines() if line and not line.startswith("#")] == [
        line for line in to_toml(recipe, {"pictures": 3}).splitlines() if line
    ]
    words = " ".join(text.replace("\n# ", " ").split())
    assert [key for key, one in list_settings().items() if one.text not in words] == []
    assert max(map(len, text.splitlines())) <= 130
    lines = text.splitlines()
    above = {line.partition(" = ")[0]: before for before, line in itertools.pairwise(lines) if " = " in line}
    assert above["epochs"] == "# passes over the training data (1 to 1,000,000 epochs)"
    assert tomllib.loads(text)["epochs"] == recipe.epochs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["epoch=3"], "no key 'epoch'. It is 'epochs' here"),
        (["epochs"], "takes key=value"),
        (["epochs=many"], "epochs must be a whole number, not 'many'"),
        (["epochs=0"], "between 1 and"),
        (["lr=fast"], "lr must be a number"),
        (["compile=1"], "compile must be true or false"),
        (["loss=bec"], "loss must be one of 'bce', .* Did you mean 'bce'"),
        (["crop_scale=0.5"], "crop_scale must be two numbers"),
        (["options=3"], "options must be a table"),
        (["warmup_epochs=1", "warmup_steps=2"], "not both"),
        (["ema_decay=0", "export=ema"], "needs averaged weights"),
        (["accumulate=7"], "cannot be divided into 7 equal parts"),
        (["epochs=inf"], "epochs must be finite"),
        (["lr=nan"], "lr must be finite"),
        (['crop_scale=["a", 1]'], "crop_scale must be two numbers"),
        (["guide=energy"], "guide='energy' with guide_weight=0 and guide_share=1 changes nothing"),
        (["teacher=runs/1"], "A teacher teaches nothing without"),
        (["guide=energy", "guide_weight=1", "guide_share=0"], "changes nothing"),
        (["selection_share=0", "export=best"], "export='best' needs pictures to choose by"),
        (["plain=true", "watch_every=5"], "no exact explanations to watch"),
        (["epochs=2", "epochs=5"], "epochs is set twice, to 2 and to 5"),
        (["grow_from=512"], "grow_from 512 is larger than image_size"),
        (["crop_scale=[1, 0.5]"], "crop_scale must be two parts of a picture"),
        (["crop_scale=[-1, 0.5]"], "crop_scale must be two parts of a picture"),
        (["options.x=1979-05-27"], "options.x must be a text, a finite number, .* not datetime.date"),
        (["options.x=nan"], "options.x must be a text, a finite number"),
        (["options.x=" + "[" * 40 + "]" * 40], "options.x must be .* not nested too deeply"),
        (["epochs=0x" + "f" * 5000], "epochs must be a whole number, not one of more than 19 digits"),
        (["lr=0x" + "f" * 5000], "lr must be a number, not one of more than 19 digits"),
        (["options.x=0x" + "f" * 5000], "options.x must be .* not a number of more than 19 digits"),
        (["about=\udcff"], "about must be text, and holds bytes that are none"),
        (["options.x=\udcff"], "options.x.* must be text, and holds bytes that are none"),
    ],
)  # fmt: skip
def test_wrong_settings_get_one_sentence(settings: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        with_settings(find_recipe("folder"), settings)
    assert "\n" not in str(caught.value)


def test_settings_of_options_and_bare_words() -> None:
    settings = ["options.max_out=2", "augment=augmix", "teacher=runs/1", "teacher_weight=1", "crop_scale=[0.5, 1]"]
    recipe = with_settings(find_recipe("folder"), settings)
    assert recipe.options == {"width_factor": 0.5, "antialias": True, "max_out": 2}
    assert (recipe.augment, recipe.teacher, recipe.crop_scale) == ("augmix", "runs/1", (0.5, 1.0))


@pytest.mark.parametrize("text", ["[" * 3000, "{a=" * 3000, "9" * 5000, '"' * 3 + "x"])
def test_a_setting_that_is_no_toml_is_a_text(text: str) -> None:
    """Thousands of brackets or digits, too, which the reader itself cannot read."""
    assert with_settings(find_recipe("folder"), [f"options.x={text}"]).options["x"] == text


def test_wrong_files(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    with pytest.raises(MissingFileError, match="no recipe file"):
        read_recipe(file)
    file.write_text("epochs = = 3")
    with pytest.raises(InputError, match="is no recipe file"):
        read_recipe(file)
    file.write_bytes(b"\xef\xbb\xbfepochs = 3")  # with the mark that some editors put there
    assert read_recipe(file)[0].epochs == 3
    with file.open("ab") as large:
        large.truncate(2**25)
    with pytest.raises(InputError, match="has more than 4 MB"):
        read_recipe(file)
    for key in ("a." * 20_000 + "a", '"a" . ' * 20_000 + "a", "options." + "a." * 20_000 + "a"):
        file.write_text(f"{key} = 1")
        with pytest.raises(InputError, match="a key has hundreds of parts"):
            read_recipe(file)
    file.write_text(f"about = '{'a, b. ' * 1000}'")
    assert read_recipe(file)[0].about.startswith("a, b")
    file.write_text("epoch = 3")
    with pytest.raises(InputError, match=r"r.toml': A recipe has no key 'epoch'"):
        read_recipe(file)


@given(
    epochs=st.integers(1, 1000), lr=st.floats(1e-9, 10), about=st.text(max_size=20), compile=st.booleans(),
    options=st.dictionaries(st.text(min_size=1), st.integers(-5, 5) | st.booleans() | st.text(max_size=5), max_size=3),
)  # fmt: skip
def test_any_recipe_survives_a_file(tmp_path_factory: pytest.TempPathFactory, **values: object) -> None:
    recipe = Recipe(**values)  # type: ignore[arg-type]
    file = tmp_path_factory.mktemp("r") / "r.toml"
    file.write_text(to_toml(recipe), "utf-8")
    assert read_recipe(file)[0] == recipe


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "not UTF-8", "digits"])
def test_whatever_lies_in_the_place_of_a_recipe(kind: str, tmp_path: Path) -> None:
    """A pipe was waited for without end; a device filled the memory; Python's own words stood in the others' messages."""
    file = tmp_path / "r.toml"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "folder":
        file.mkdir()
    else:
        file.write_bytes(b"\xff" if kind == "not UTF-8" else b"epochs = " + b"9" * 5000)
    expected = {
        "pipe": "is no regular file", "device": "is no regular file", "folder": "is a folder; a text file is expected",
        "not UTF-8": "line 1, is not text in UTF-8", "digits": "is no recipe file: a number in it has thousands of digits",
    }  # fmt: skip
    with pytest.raises(InputError, match=expected[kind]) as caught:
        read_recipe(file)
    assert not any(word in str(caught.value) for word in ("Errno", "codec", "sys.", "int("))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_machine(end: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(f"epochs = 3{end}lr = 0.5{end}".encode())
    assert (read_recipe(tmp_path / "r.toml")[0].epochs, read_recipe(tmp_path / "r.toml")[0].lr) == (3, 0.5)
