from __future__ import annotations

import numpy as np
import pytest

from torchbcos._core.errors import InputError
from torchbcos.rendering.draw import draw
from torchbcos.rendering.shapes import Area, Dot, Drawing, Line, Shape, Words


def pixels(*shapes: Shape, scale: float = 1) -> np.ndarray:
    """Darkness of a drawing of 40 x 20 units, 0 to 1."""
    return 1 - np.asarray(draw(Drawing(40, 20, shapes), scale=scale, margin=0).convert("L"), np.float64) / 255


def test_shapes_stand_where_they_are_told() -> None:
    box = pixels(Area.box(10, 5, 20, 15, "#000000"))
    assert box[6:14, 11:19].min() > 0.99 and box[:4].max() < 0.01 and box[:, 23:].max() < 0.01
    assert pixels(Area.box(10, 5, 20, 15, "#000000", 0.25))[10, 15] == pytest.approx(0.25, abs=0.01)
    assert pixels(Line(((0, 10), (40, 10)), "#000000", 2)).sum() == pytest.approx(80, rel=0.05)


def test_dashes_leave_gaps_also_around_corners() -> None:
    whole, dashed = (pixels(Line(((0, 10), (20, 10), (40, 10)), "#000000", 2, dash)).sum() for dash in ((), (3, 3)))
    assert whole == pytest.approx(80, abs=4) and dashed == pytest.approx(
        46.7, abs=1
    )  # seven dashes of 3, and what a pen adds at both ends


@pytest.mark.parametrize("mark", ["circle", "square", "diamond", "triangle"])
def test_hollow_marks_show_the_paper(mark: str) -> None:
    full, hollow = (pixels(Dot(20, 10, 6, mark=mark, hollow=h)) for h in (False, True))
    assert full[10, 20] > 0.8 and hollow[10, 20] < 0.05 and 0 < hollow.sum() < full.sum()


def test_a_scale_makes_more_pixels_of_the_same_drawing() -> None:
    shape = Area.box(10, 5, 20, 15, "#000000")
    assert pixels(shape, scale=2).sum() == pytest.approx(4 * pixels(shape).sum(), rel=0.05)


def test_words_stand_at_their_anchor_and_turn() -> None:
    def ends(**how: object) -> tuple[int, int, int, int]:
        rows, columns = np.nonzero(pixels(Words(20, 10, "ii", 10, **how)) > 0.1)  # type: ignore[arg-type]
        return int(columns.min()), int(columns.max()), int(rows.min()), int(rows.max())

    assert ends()[0] >= 20 and ends(anchor="end")[1] <= 20
    left, right, top, bottom = ends(anchor="middle")
    assert abs((left + right) / 2 - 20) <= 1 and abs((top + bottom) / 2 - 10) <= 2
    assert ends(turned=True)[3] <= 10  # upwards from its start
    left, right, top, bottom = ends(anchor="middle", turned=True)
    assert abs((top + bottom) / 2 - 10) <= 2 and right - left > bottom - top  # two letters, one above the other


def test_a_figure_that_would_take_all_memory_is_refused() -> None:
    with pytest.raises(InputError, match="smaller scale"):
        draw(Drawing(20_000, 20_000, ()), scale=2)
