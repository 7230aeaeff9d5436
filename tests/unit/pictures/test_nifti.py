"""NIfTI: orientation by an asymmetric phantom, scales, and files that lie about their size."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scans import plane, save
from torchbcos._core.errors import InputError, MissingFileError
from torchbcos.pictures import nifti as reading
from torchbcos.pictures.scans import is_scan, read_scan

WAYS = [
    "".join(one)
    for order in itertools.permutations(("LR", "AP", "IS"))
    for one in itertools.product(*order)
]  # fmt: skip


def volume() -> np.ndarray:
    """(D, H, W): a landmark at the head, one at the front, one at the left; all else differs, too."""
    found = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
    found[2, 1, 2], found[0, 0, 3], found[1, 2, 4] = 100, 200, 300  # head, front, left
    return found


def stored_as(codes: str) -> nib.Nifti1Image:
    """The volume as a file with these axes holds it: "LPS" counts to the left, the back and the head."""
    plain = nib.Nifti1Image(volume().transpose(2, 1, 0), np.diag([-1.5, -2.0, 3.0, 1.0]))  # LPS
    ways = nib.orientations.axcodes2ornt(codes)
    turn = nib.orientations.ornt_transform(nib.io_orientation(plain.affine), ways)
    return plain.as_reoriented(turn)


@pytest.mark.parametrize("codes", WAYS)
def test_every_orientation_gives_one_volume(codes: str, tmp_path: Path) -> None:
    image = stored_as(codes)
    assert "".join(nib.aff2axcodes(image.affine)) == codes
    nib.save(image, tmp_path / "a.nii")
    scan = read_scan(tmp_path / "a.nii", value_range=(0, 300))
    np.testing.assert_allclose(scan.pixels[0] * 300, volume(), atol=1e-3)
    assert scan.facts["spacing"] == pytest.approx([3.0, 2.0, 1.5]) and scan.facts["orientation"] == "SPL"
    theirs = nib.as_closest_canonical(nib.load(tmp_path / "a.nii"))  # to the right, the front, the head
    np.testing.assert_array_equal((scan.pixels[0] * 300).round(), np.asarray(theirs.dataobj)[::-1, ::-1].transpose(2, 1, 0))


def test_a_dicom_series_and_its_twin_in_nifti_are_one(tmp_path: Path) -> None:
    values = volume()
    for i, pixels in enumerate(values):
        save(plane(i * 3.0, pixels.astype(np.uint16)), tmp_path / "s" / str(i))
    nib.save(stored_as("RAS"), tmp_path / "a.nii.gz")
    ours, theirs = (read_scan(path, value_range=(0, 300)) for path in (tmp_path / "s", tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(ours.pixels, theirs.pixels)
    assert ours.facts["orientation"] == theirs.facts["orientation"]


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["i1", "u1", "<i2", ">i2", "<u2", "<i4", ">i4", "<u4", "<i8", "<u8", "<f4", ">f4", "<f8"]),
    slope=st.sampled_from([0.0, 1.0, 2.0, -0.5, float("nan")]),
    intercept=st.sampled_from([0.0, -1024.0, 3.5]),
    ends=st.sampled_from([(0.0, 100.0), (-1000.0, 1000.0)]),
    header=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
    packed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_numbers_of_every_kind_and_scale(
    kind: str, slope: float, intercept: float, ends: Any, header: Any, packed: bool, seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    stored = np.random.default_rng(seed).integers(0, 120, (5, 4, 3)).astype(kind)
    image = header(stored, np.diag([-1.0, -1, 1, 1]), dtype=stored.dtype)
    path = tmp_path_factory.mktemp("n") / ("a.nii.gz" if packed else "a.nii")
    image.header.set_data_dtype(stored.dtype)
    raw = bytearray(image.to_bytes())
    order, double = image.header.endianness, header is nib.Nifti2Image
    at = 176 if double else 112  # of the slope and, after it, the intercept
    raw[at : at + (16 if double else 8)] = np.array([slope, intercept], f"{order}f{8 if double else 4}").tobytes()
    path.write_bytes(gzip.compress(raw, 1) if packed else bytes(raw))
    scan = read_scan(path, value_range=ends)
    scaled = stored.astype(np.float64) if slope == 0 or slope != slope else stored.astype(np.float64) * slope + intercept
    wanted = [min(max((float(v) - ends[0]) / (ends[1] - ends[0]), 0.0), 1.0) for v in scaled.transpose(2, 1, 0).ravel()]
    np.testing.assert_allclose(scan.pixels.numpy().ravel(), wanted, atol=1e-6)
    theirs = nib.load(path).get_fdata().transpose(2, 1, 0)
    np.testing.assert_allclose(scan.pixels[0], np.clip((theirs - ends[0]) / (ends[1] - ends[0]), 0, 1), atol=1e-6)


def write(path: Path, stored: np.ndarray, **header: Any) -> Path:
    image = nib.Nifti1Image(stored, np.diag([-1.0, -1, 1, 1]))
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


def test_which_value_is_black_is_never_guessed(tmp_path: Path) -> None:
    stored = np.linspace(-1000, 2000, 60).reshape(5, 4, 3).astype(np.int16)
    with pytest.raises(InputError, match=r"numbers from -1000 to 2000 and states no window.*--range -1000\.\.2000"):
        read_scan(write(tmp_path / "a.nii", stored))
    scan = read_scan(write(tmp_path / "b.nii", stored, cal_min=-160, cal_max=240))
    assert (scan.facts["window"], scan.facts["window_from"]) == ([-160.0, 240.0], "file")
    scan = read_scan(write(tmp_path / "c.nii", ((stored + 1000) / 3000).astype(np.float32)))
    assert (scan.facts["window"], scan.facts["window_from"]) == ([0.0, 1.0], "stored bits")
    scan = read_scan(write(tmp_path / "d.nii", stored.astype(np.uint8)))
    np.testing.assert_allclose(scan.pixels[0] * 255, stored.astype(np.uint8).transpose(2, 1, 0), atol=1e-4)
    with pytest.raises(InputError, match="from 5 to 5 and states no window"):
        read_scan(write(tmp_path / "e.nii", np.full((2, 3, 4), 5.0, np.float32)))


def test_nan_is_black_and_said_and_infinity_refused(tmp_path: Path) -> None:
    stored = np.full((5, 4, 3), 0.5, np.float32)
    stored[0, 0, 0] = np.nan
    scan = read_scan(write(tmp_path / "a.nii", stored))
    assert scan.pixels[0, 0, 0, 0] == 0 and scan.facts["notes"] == ["1 of its 60 numbers are NaN: they are black."]
    stored[0, 0, 0] = np.inf
    for limits in (None, (0, 1)):
        with pytest.raises(InputError, match="infinity"):
            read_scan(write(tmp_path / "b.nii", stored), value_range=limits)


def test_a_fourth_axis_is_the_channels_or_too_long(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).random((5, 4, 3, 2)).astype(np.float32)
    scan = read_scan(write(tmp_path / "a.nii", stored))
    np.testing.assert_allclose(scan.pixels, stored.transpose(3, 2, 1, 0), atol=1e-6)
    assert scan.facts["channels"] == 2
    assert read_scan(write(tmp_path / "b.nii", stored[:, :, :, None, :])).pixels.shape == (2, 3, 4, 5)
    for shape in ((5, 4, 3, 17), (5, 4, 3, 2, 2)):
        with pytest.raises(InputError, match="a volume over time, say"):
            read_scan(write(tmp_path / "c.nii", np.zeros(shape, np.float32)))


@pytest.mark.parametrize(("codes", "letters"), [("LPS", "PL"), ("RAS", "PL"), ("LSP", "IL"), ("PSL", "IP"), ("AIR", "IP")])
def test_one_slice_is_a_picture_with_the_head_or_the_front_up(codes: str, letters: str, tmp_path: Path) -> None:
    values = np.zeros((3, 4, 5), np.float32)
    values[2], values[:, 0] = 1.0, 0.5  # the head, the front
    flat = {"PL": values[1:2], "IL": values[:, 1:2], "IP": values[:, :, 1:2]}[letters]
    plain = nib.Nifti1Image(flat.transpose(2, 1, 0), np.diag([-1.5, -2.0, 3.0, 1.0]))
    turn = nib.orientations.ornt_transform(nib.io_orientation(plain.affine), nib.orientations.axcodes2ornt(codes))
    nib.save(plain.as_reoriented(turn), tmp_path / "a.nii")
    scan = read_scan(tmp_path / "a.nii", axes=2)
    assert scan.facts["orientation"] == letters and scan.pixels.dim() == 3
    picture = scan.pixels[0]
    assert picture[0].min() == (0.5 if letters == "PL" else (1.0 if letters == "IL" else 0.5))
    if letters == "IP":
        assert picture[0, 1:].min() == 1 and picture[:, 0].max() == 0.5  # the head up, the front on the left
    assert scan.facts["spacing"] == {"PL": [2.0, 1.5], "IL": [3.0, 1.5], "IP": [3.0, 2.0]}[letters]
    with pytest.raises(InputError, match="one slice, and a volume is wanted"):
        read_scan(tmp_path / "a.nii", axes=3)


def test_a_volume_is_no_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", np.zeros((5, 4, 3), np.float32))
    with pytest.raises(InputError, match="holds 3 slices, and a picture is wanted"):
        read_scan(path, axes=2)
    assert read_scan(path, axes=3).pixels.shape == (1, 3, 4, 5)


def test_a_file_that_does_not_say_its_orientation(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume().transpose(2, 1, 0), None)
    image.header.set_zooms((1.5, 2, 3))
    nib.save(image, tmp_path / "a.nii")
    scan = read_scan(tmp_path / "a.nii", value_range=(0, 300))
    assert scan.facts["orientation"] is None and scan.facts["spacing"] == [3.0, 2.0, 1.5]
    assert "as they are stored" in scan.facts["notes"][0]
    np.testing.assert_allclose(scan.pixels[0] * 300, volume(), atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ([("R", "u1"), ("G", "u1"), ("B", "u1")], r"colours \(RGB\)"),
        ([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")], r"colours \(RGB\)"),
        ("c8", "complex numbers"),
    ],
)
def test_kinds_that_are_not_read_are_named(kind: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_scan(write(tmp_path / "a.nii", np.zeros((5, 4, 3), np.dtype(kind))))


def changed(raw: bytes, at: int, kind: str, *values: Any) -> bytes:
    new = np.array(values, kind).tobytes()
    return raw[:at] + new + raw[at + len(new) :]


def test_headers_that_lie_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    raw = write(tmp_path / "a.nii", np.zeros((5, 4, 3), np.float32)).read_bytes()
    cases = {
        "more than the": changed(raw, 42, "<i2", 30000, 30000, 30000),
        "begin at byte": changed(raw, 108, "<f4", 1e30),
        "begin at byte nan": changed(raw, 108, "<f4", np.nan),
        "no picture and no volume": changed(raw, 40, "<i2", 3, 5, -4, 3),
        "no picture and no volume|shape ()": changed(raw, 40, "<i2", 9),
        "floats of 128 bits": changed(raw, 70, "<i2", 1536, 128),
        "unknown kind, 77": changed(raw, 70, "<i2", 77),
        "a pair of files": changed(raw, 344, "u1", *b"ni1\0"),
        "lacks the mark": changed(raw, 344, "u1", *b"abcd"),
        "348 or 540": b"\0" * 400,
        "ends early: 40 bytes": raw[:-40],
        "lacks the mark of one": raw[:100],
    }
    for words, content in cases.items():
        for name, stored in (("b.nii", content), ("b.nii.gz", gzip.compress(content))):
            (tmp_path / name).write_bytes(stored)
            with pytest.raises(InputError, match=words.partition("|")[0]):
                read_scan(tmp_path / name)
    with pytest.raises(MissingFileError):
        read_scan(tmp_path / "nowhere.nii")


def test_a_compressed_file_that_unpacks_without_end(tmp_path: Path) -> None:
    raw = write(tmp_path / "a.nii", np.zeros((5, 4, 3), np.float32)).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(raw + bytes(2**24)))
    assert read_scan(tmp_path / "b.nii.gz").pixels.shape == (1, 3, 4, 5)
    bomb = changed(raw, 108, "<f4", 2.0**25) + bytes(2**24)  # numbers far behind the header
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(bomb))
    with pytest.raises(InputError, match="ends early"):
        read_scan(tmp_path / "c.nii.gz")


def test_a_checksum_that_is_wrong_is_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", np.random.default_rng(0).random((5, 4, 3)).astype(np.float32))
    packed = bytearray(path.read_bytes())
    packed[-6] ^= 1
    path.write_bytes(bytes(packed))
    with pytest.raises(InputError, match="no NIfTI file that can be read: CRC"):
        read_scan(path)
    path.write_bytes(bytes(packed[:-30]))
    with pytest.raises(InputError):
        read_scan(path)


def test_names(tmp_path: Path) -> None:
    assert is_scan("A.NII.GZ") and not is_scan("a.gz")
    path = write(tmp_path / "A.nii", np.zeros((5, 4, 3), np.float32))
    path.rename(tmp_path / "A.NII")
    assert read_scan(tmp_path / "A.NII").facts["slices"] == 3
    assert reading.is_nifti(Path("a.nii"))
