from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.rendering import Caption, panel, rgba, sheet, text
from torchbcos.rendering.panel import MARGIN

GREY = [0xD9, 0xDC, 0xE1]
words = Caption(
    title="n01440764_4341.jpg",
    predictions=(("tench", 0.92), ("English springer", 0.03)),
    explained="tench",
    contrast=None,
    value=2.5,
    contribution=2.25,
    constants=0.25,
    share=0.9,
    residual=1e-7,
)


def full(height: int, width: int, caption: Caption = words, seed: int = 0) -> Image.Image:
    g = torch.Generator().manual_seed(seed)
    image = torch.rand(3, height, width, generator=g)
    weights, inputs = torch.randn(6, height, width, generator=g), torch.cat([image, 1 - image])
    return panel(caption, (weights * inputs).sum(0), image=image, picture=rgba(weights, inputs))


def region(picture: Image.Image, left: int, top: int, width: int, height: int) -> np.ndarray[Any, Any]:
    return np.asarray(picture)[top : top + height, left : left + width]


def test_four_tiles_with_pictures_in_them() -> None:
    picture = full(160, 160)
    assert picture.mode == "RGB" and picture.width == 4 * 320 + 3 * 24 + 2 * MARGIN
    for i in range(4):
        assert region(picture, MARGIN + i * 344, 142, 320, 320).std() > 10
    assert (np.asarray(picture)[:, : MARGIN - 1] == 255).all()  # the margin stays white


def test_the_input_tile_is_the_photo() -> None:
    image = torch.zeros(3, 8, 8)
    image[0] = 1
    picture = panel(words, torch.zeros(8, 8), image=image)
    assert (region(picture, MARGIN, 142, 320, 320) == [255, 0, 0]).all()
    assert picture.width == 3 * 320 + 2 * 24 + 2 * MARGIN  # no rgba: three tiles


def test_small_pictures_keep_their_pixels() -> None:
    c = torch.tensor([[1.0, -1.0], [0.0, 1.0]])
    picture = panel(words, c, image=torch.rand(3, 2, 2), percentile=100)
    tile = region(picture, MARGIN + 344, 142, 320, 320)
    assert (tile[:160, :160] == [255, 0, 0]).all() and (tile[:160, 160:] == [0, 0, 255]).all()
    assert (tile[160:, :160] == 255).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (3, 200), (700, 500), (160, 161), (224, 224)])
def test_any_size(size: tuple[int, int]) -> None:
    picture = full(*size)
    assert 880 <= picture.width <= 1500 and 200 <= picture.height <= 700


STRIP, SQUARE = (808, 96), (420, 420)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1,), STRIP), ((300,), STRIP), ((5000,), STRIP), ((1, 1), SQUARE), ((224, 224), SQUARE), ((1, 3, 3), SQUARE),
        ((40, 20, 30), (504, 344)),
    ],
)  # fmt: skip
def test_without_a_photo_only_the_heat_map(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    """One tile of that size (a grey line around it says where it ends): blue where the map begins, red where it ends."""
    contributions = torch.ones(shape)
    contributions.view(-1)[: contributions.numel() // 2] = -1
    picture = panel(words, contributions)
    assert picture.width == 880
    around = region(picture, MARGIN - 1, 141, size[0] + 2, size[1] + 2).astype(int)
    assert (around[[0, -1]] == GREY).all() and (around[:, [0, -1]] == GREY).all()
    for (red, _, blue), sign in ((around[1, 1], -1 if contributions.numel() > 1 else 1), (around[-2, -2], 1)):
        assert sign * (red - blue) > 100


def test_a_map_of_zeros() -> None:
    assert panel(words, torch.zeros(5, 5)).mode == "RGB"


def test_a_small_share_is_said_and_costs_room() -> None:
    small = dataclasses.replace(words, share=0.04)
    assert small.warning == ("The pixels carry only 4.0 % of this logit; the rest are constants, which no picture can show.")
    assert full(8, 8, small).height == full(8, 8).height + 42
    assert "difference" in str(dataclasses.replace(small, contrast="springer").warning)
    for share in (0.5, 0.9, 1.5, math.nan):
        assert dataclasses.replace(words, share=share).warning is None
    for share, said in ((1.51, "151 %"), (7.0, "700 %")):
        large = dataclasses.replace(words, share=share)
        assert large.warning == (
            f"The pixels carry {said} of this logit: what is above 100 % is taken back by constants, which no picture can show."
        )
        assert full(8, 8, large).height == full(8, 8, small).height
    assert dataclasses.replace(words, share=math.inf, contrast="springer").warning is not None
    for share, said in ((-0.3, "-30 %"), (-3.0, "-300 %")):
        assert dataclasses.replace(words, share=share).warning == (
            f"The pixels together speak against it ({said}): this logit is made by constants, which no picture can show."
        )


def test_pixels_that_cancel_are_said_with_what_is_left_of_them() -> None:
    """As those of ordinary networks do: thousands for and against the class leave a few."""
    noisy = dataclasses.replace(words, value=11.0, contribution=-3.0, share=0.9, size=1603.0)
    assert noisy.warning == "Nearly all that the pixels say cancels: 800.00 for it, 803.00 against it, -3.00 is left."
    both = dataclasses.replace(noisy, share=-0.35, parts="samples").warning
    assert both is not None and both.startswith("The samples together speak against it") and both.endswith("-3.00 is left.")
    for size in (0.0, 2.0 * 11.0, 20.0 * 11.0):  # B-cos networks: one to two times
        assert dataclasses.replace(noisy, size=size).warning is None
    assert dataclasses.replace(noisy, value=0.01, contribution=0.02, size=1.0).warning is None  # a logit near zero is no fault


def test_a_sum_that_does_not_add_up_is_said_in_as_many_lines_as_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dataclasses.replace(words, complete=False, residual=-0.037, share=math.nan)
    assert wrong.warning == (
        "Pixels and constants do not add up to this logit: -0.0370 is missing. The network does something that its explanation "
        "does not know; torchbcos.testing.check_model(model, x) names it."
    )
    found = drawn(monkeypatch, wrong, torch.rand(8, 8))
    first = next(i for i, line in enumerate(found) if line.startswith("Pixels and constants"))
    assert " ".join(found[first:]) == wrong.warning and len(found[first:]) > 1  # all of it, cut nowhere
    assert panel(wrong, torch.rand(8, 8)).height == panel(words, torch.rand(8, 8)).height + 42 + 22 * (len(found[first:]) - 1)
    assert "Voxels and constants" in str(dataclasses.replace(wrong, parts="voxels").warning)
    assert "this difference" in str(dataclasses.replace(wrong, contrast="springer").warning)
    low = dataclasses.replace(wrong, share=0.01)
    assert low.warning == wrong.warning  # before all else


def test_the_share_says_that_the_bias_stands_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Share of pixels" in drawn(monkeypatch, dataclasses.replace(words, aside=-1e-4), torch.rand(8, 8))
    assert "Share of pixels, logit bias aside" in drawn(monkeypatch, dataclasses.replace(words, aside=-2.2), torch.rand(8, 8))


def test_the_question() -> None:
    assert words.question == "Why 'tench'"
    assert dataclasses.replace(words, contrast="springer").question == "Why 'tench' rather than 'springer'"


def test_numbers_and_names_change_the_picture() -> None:
    base = np.asarray(full(8, 8))
    for change in (
        {"title": "b.jpg"},
        {"explained": "church"},
        {"contrast": "church"},
        {"value": 9.5},
        {"contribution": 9.5},
        {"constants": 9.5},
        {"residual": 9.5},
        {"share": 0.8},
        {"predictions": (("tench", 0.5),)},
    ):
        other = np.asarray(full(8, 8, dataclasses.replace(words, **change)))
        assert other.shape != base.shape or (other != base).any(), change


def test_odd_words_and_numbers() -> None:
    odd = dataclasses.replace(
        words,
        title="\ud800\n" + "x" * 5000,
        predictions=tuple(("漢字 ἀρχή " * 30, math.nan) for _ in range(50)),
        explained="é" * 3000,
        contrast="",
        value=math.inf,
        contribution=-1.234e-30,
        constants=-9.9e37,
        residual=math.nan,
        share=math.nan,
    )
    assert full(8, 8, odd).width == full(8, 8).width
    assert full(8, 8, dataclasses.replace(words, predictions=())).mode == "RGB"


def test_the_widest_numbers_do_not_run_into_each_other() -> None:
    wide = dataclasses.replace(
        words, contrast="b", value=-1.2e-30, contribution=-1.2e-30, constants=-1.2e30, residual=-1e-30, share=-99999.0
    )
    picture = panel(wide, torch.randn(8, 8))
    bottom = np.asarray(picture)[-(72 - 38) - MARGIN - 42 : -MARGIN + 4 - 42]  # above the line that warns of the share
    ink = (bottom < 128).all(-1).any(0)
    gaps = np.diff(np.flatnonzero(ink))
    assert gaps.max() >= 20  # the share stands apart from the sum


def test_without_freetype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "load_font", lambda name, size: None if name else ImageFont.load_default_imagefont())
    assert full(8, 8).mode == "RGB"


def test_the_caption_is_frozen_and_takes_keywords_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        words.title = "b"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Caption("a")  # type: ignore[call-arg]


c, image, picture = torch.randn(4, 5), torch.rand(3, 4, 5), np.ones((4, 5, 4), np.float32)


@pytest.mark.parametrize(
    ("caption", "contributions", "options", "kind", "message"),
    [
        ("tench", c, {}, ArgumentTypeError, "caption must be a Caption, got str"),
        (words, c, {"image": torch.rand(3, 5, 5)}, InputError, r"one size, got \(5, 5\) and \(4, 5\)"),
        (words, c, {"picture": picture[:3]}, InputError, r"picture must be \(4, 5, 4\) from rgba, got \(3, 5, 4\)"),
        (words, c, {"picture": torch.ones(4, 5, 4)}, ArgumentTypeError, "picture must be an array, got Tensor"),
        (words, c[0], {"image": image}, InputError, r"image needs contributions of shape \(H, W\), got \(5,\)"),
        (words, c[0], {"picture": picture}, InputError, r"picture needs contributions of shape \(H, W\)"),
        (words, c * float("nan"), {}, InputError, "contributions holds NaN"),
        (words, c, {"percentile": 0}, InputError, "percentile must lie in"),
    ],
)
def test_errors(caption: Any, contributions: Any, options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        panel(caption, contributions, **options)


# -- what the words say ------------------------------------------------------------------------------------------------


def drawn(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: Any) -> list[str]:
    """Every text that a panel writes."""
    found: list[str] = []
    write = text.Pen.write

    def spy(self: text.Pen, x: float, y: float, line: str, *rest: Any, **more: Any) -> float:
        found.append(line)
        return write(self, x, y, line, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(text.Pen, "write", spy)
        patch.setattr(text.Pen, "label", lambda self, x, y, line, *rest: found.append(line) or 1.0)
        panel(*arguments, **options)
    return found


def test_no_class_reaches_one_half() -> None:
    def question(*chances: float, **changes: Any) -> str:
        return dataclasses.replace(words, predictions=tuple((str(p), p) for p in chances), **changes).question

    assert question(0.49, 0.3) == "Why 'tench', though no class reaches 50 %"
    assert question(0.2, contrast="church") == "Why 'tench' rather than 'church', though no class reaches 50 %"
    assert question(0.5) == question(0.1, 0.9) == question() == question(math.nan) == "Why 'tench'"


def test_colours_are_said_and_so_is_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    found = drawn(monkeypatch, dataclasses.replace(words, note="centre crop, 33 % of the picture"), c, image=image)
    assert {"red: for it, blue: against it", "centre crop, 33 % of the picture"} <= set(found)
    assert "red: for 'tench', blue: for 'church'" in drawn(monkeypatch, dataclasses.replace(words, contrast="church"), c)


def test_the_classes_of_the_question_are_never_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    long = [f"{i} a class with a long name" for i in range(5)]
    caption = dataclasses.replace(
        words, predictions=tuple((name, 0.9 - i / 10) for i, name in enumerate(long)), explained=long[3], contrast=long[4]
    )
    found = drawn(monkeypatch, caption, c)
    assert [name for name in long if name in found] == [long[0], long[3], long[4]]


def test_slices_have_numbers_and_the_label_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = torch.zeros(64, 48, 40)
    volume[30:50] = 1
    assert "Contributions: 16 of 64 slices of axis 0, with 80 % of all contributions" in drawn(monkeypatch, words, volume)
    assert "Contributions: 2 of 48 slices of axis 1, with 4.2 % of all contributions" in drawn(
        monkeypatch, words, volume, slices=[3, 9], axis=1
    )
    assert "Contributions: all 3 slices of axis 0" in drawn(monkeypatch, words, torch.ones(3, 8, 8))
    assert "Contributions: 16 of 20 slices of axis 0, with – of all contributions" in drawn(
        monkeypatch, words, torch.zeros(20, 8, 8)
    )
    one, other = panel(words, volume, slices=[30, 31]), panel(words, volume, slices=[30, 32])
    tile = [np.asarray(p)[142:, : 36 + 420] for p in (one, other)]
    assert one.size == other.size and (tile[0] != tile[1]).any()  # equal slices: only their numbers differ


def test_panels_below_each_other() -> None:
    one, two = Image.new("RGB", (900, 300), "#ff0000"), Image.new("RGB", (400, 200), "#0000ff")
    whole = np.asarray(sheet([one, two], "2 of 9"))
    assert whole.shape == (562, 900, 3) and (whole[62:362] == [255, 0, 0]).all() and (whole[362:, :400] == [0, 0, 255]).all()
    assert (whole[362:, 400:] == 255).all() and whole[:62].std() > 0 and sheet([one]).size == (900, 300)
    with pytest.raises(InputError, match="at least one panel"):
        sheet([])


def test_a_panel_never_asks_why_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any font for them, letters stand as code points."""
    caption = dataclasses.replace(words, explained="\ue000a", contrast="\u202e\ue001", predictions=(("\ue000", 0.9),))
    found = drawn(monkeypatch, caption, c)
    assert "Why '\\ue000a' rather than '\\ue001'" in found and "\\ue000" in found and not any("?" in line for line in found)


@pytest.mark.parametrize(
    ("chance", "shown"), [(0.4999, "49.9 %"), (0.496, "49.6 %"), (0.5, "50 %"), (0.4949, "49 %"), (0.021, "2.1 %")]
)
def test_what_is_drawn_beside_a_class_does_not_contradict_the_question(
    chance: float, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said 50 %, and above it that no class reaches 50 %."""
    found = drawn(monkeypatch, dataclasses.replace(words, predictions=(("tench", chance),)), c)
    assert shown in found
    assert any("no class reaches 50 %" in line for line in found) == (chance < 0.5)


@pytest.mark.parametrize(
    ("constants", "residual", "said"),
    [
        (-2.2, 1e-7, ["2.53", "=", "4.73", "-", "2.20", "+", "1.0e-07"]),
        (0.25, -1e-7, ["2.53", "=", "4.73", "+", "0.250", "-", "1.0e-07"]),
        (0.0, -0.0, ["2.53", "=", "4.73", "+", "0", "+", "0"]),
    ],
)  # fmt: skip
def test_a_sum_has_one_sign_before_each_term(
    constants: float, residual: float, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    caption = dataclasses.replace(words, value=2.53, contribution=4.73, constants=constants, residual=residual)
    found = drawn(monkeypatch, caption, c, image=image)
    start = found.index("2.53")
    assert [word for word in found[start:] if not word.isalpha()][: len(said)] == said


@pytest.mark.parametrize("contrast", [None, "atrial flutter with variable conduction " * 3])
def test_long_names_do_not_cut_the_doubt(contrast: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended with "though no class reaches 50…"."""
    name = "paroxysmal supraventricular tachycardia " * 4
    caption = dataclasses.replace(words, explained=name, contrast=contrast, predictions=((name, 0.4),))
    assert caption.doubt in drawn(monkeypatch, caption, c)
    short = dataclasses.replace(words, explained="a" * 30, predictions=(("a", 0.4),))
    assert short.question in drawn(monkeypatch, short, c) and short.question.endswith(short.doubt)
