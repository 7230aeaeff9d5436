"""DICOM files: what is refused before memory is taken, what is never told, and pydicom's own test files."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1

from tests.scans import NATIVE, SECRETS, dicom, plane, save
from torchbcos._core.errors import BcosError, InputError, MissingFileError
from torchbcos.pictures import dicom as reading
from torchbcos.pictures.scans import is_scan, read_scan

PIXELS = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def encoded(pixels: np.ndarray, form: str, syntax: Any, **elements: Any) -> pydicom.Dataset:
    """A file whose one frame Pillow compressed."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **({"quality": 100, "subsampling": 0} if form == "JPEG" else {}))
    data = dicom(pixels, SamplesPerPixel=3 if pixels.ndim == 3 else 1, **elements)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate([out.getvalue()])
    data["PixelData"].is_undefined_length = True
    return data


@pytest.mark.parametrize("encoding", sorted(NATIVE))
def test_every_encoding_gives_the_same_numbers(encoding: str, tmp_path: Path) -> None:
    path = save(dicom(PIXELS.astype(np.uint16) * 257, encoding), tmp_path / "no suffix")
    assert is_scan(path)
    np.testing.assert_allclose(read_scan(path).pixels[0] * 255, PIXELS, atol=1e-4)


def test_compressed_frames_that_pillow_unpacks(tmp_path: Path) -> None:
    np.testing.assert_allclose(
        read_scan(save(encoded(PIXELS, "JPEG2000", JPEG2000Lossless), tmp_path / "a")).pixels[0] * 255, PIXELS, atol=1e-4
    )
    scan = read_scan(save(encoded(PIXELS, "JPEG", JPEGBaseline8Bit), tmp_path / "b"))
    np.testing.assert_allclose(scan.pixels[0] * 255, PIXELS, atol=3)
    colour = np.stack([PIXELS, PIXELS[::-1], 255 - PIXELS], -1)
    path = save(encoded(colour, "JPEG", JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422"), tmp_path / "c")
    np.testing.assert_allclose(read_scan(path).pixels.permute(1, 2, 0) * 255, colour, atol=12)
    high = PIXELS.astype(np.uint16) * 200
    path = save(encoded(high, "JPEG2000", JPEG2000Lossless), tmp_path / "d")
    np.testing.assert_allclose(read_scan(path).pixels[0] * 65535, high, atol=0.01)


def test_what_is_not_unpacked_is_named_with_what_to_install(tmp_path: Path) -> None:
    data = encoded(PIXELS, "JPEG", JPEGLosslessSV1)
    with pytest.raises(InputError, match=r"JPEG Lossless.*pip install pylibjpeg pylibjpeg-libjpeg"):
        read_scan(save(data, tmp_path / "a"))
    data = encoded(PIXELS, "JPEG", JPEGBaseline8Bit)
    data.PixelData = encapsulate([b"\xff\xd8\xff\xe0broken!!"])
    with pytest.raises(InputError, match=r"compressed as JPEG Baseline.*broken"):
        read_scan(save(data, tmp_path / "b"))


def test_a_compressed_frame_of_another_size_is_not_unpacked(tmp_path: Path) -> None:
    data = encoded(np.zeros((600, 800), np.uint8), "JPEG2000", JPEG2000Lossless)
    data.Rows, data.Columns = 6, 8
    with pytest.raises(InputError, match="its header says"):
        read_scan(save(data, tmp_path / "a"))
    data = dicom(PIXELS, "rle")
    data.PixelData = encapsulate([data.PixelData[16:] * 5000])
    with pytest.raises(InputError, match="more than it has uncompressed"):
        read_scan(save(data, tmp_path / "b"))


def test_sizes_are_looked_at_before_memory_is_taken(tmp_path: Path) -> None:
    for elements in (
        {"Rows": 65535, "Columns": 65535},
        {"NumberOfFrames": 2**31 - 1},
        {"NumberOfFrames": 200_000, "Rows": 1, "Columns": 1},
    ):
        with pytest.raises(InputError, match="more than the"):
            read_scan(save(dicom(PIXELS, **elements), tmp_path / "a"))
    for elements in ({"Rows": 0}, {"NumberOfFrames": -1}, {"Rows": None}):
        with pytest.raises(InputError, match="says no size"):
            read_scan(save(dicom(PIXELS, **elements), tmp_path / "b"))
    with pytest.raises(InputError, match=r"less than expected|missing"):
        read_scan(save(dicom(PIXELS, Rows=600), tmp_path / "c"))


def test_a_deflated_file_unpacks_to_no_more_than_any_file_may_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(dicom(np.zeros((400, 400), np.uint8), "deflated"), tmp_path / "a")
    assert path.stat().st_size < 2000 and read_scan(path).pixels.shape == (1, 400, 400)
    monkeypatch.setattr(reading, "_MOST_BYTES", 100_000)
    with pytest.raises(InputError, match="would unpack to more than 100,000 bytes"):
        read_scan(path)


def test_a_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = save(dicom(PIXELS), tmp_path / "a")
    os.truncate(path, 2**33)  # sparse
    with pytest.raises(InputError, match="bytes, more than"):
        read_scan(path)


def test_deep_sequences_end_in_a_sentence(tmp_path: Path) -> None:
    path = save(dicom(PIXELS), tmp_path / "a")
    head = path.read_bytes()
    at = head.index(b"\x08\x00\x60\x00")  # before the modality
    item = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(head[:at] + item * 20_000 + head[at:])
    with pytest.raises(InputError, match="nested too deeply"):
        read_scan(path)


def test_private_and_odd_elements_are_passed_over(tmp_path: Path) -> None:
    data = dicom(PIXELS, SpecificCharacterSet="ISO_IR 100")
    block = data.private_block(0x0029, "SOMEBODY", create=True)
    block.add_new(1, "OB", b"\xff" * 1000)
    nested = pydicom.Dataset()
    nested.add_new(0x00290010, "LO", "SOMEBODY")
    nested.add_new(0x00291001, "UN", b"\0" * 7)
    block.add_new(2, "SQ", pydicom.Sequence([nested]))
    with_icon = pydicom.Dataset()
    with_icon.Rows = with_icon.Columns = 60_000
    with_icon.add_new("PixelData", "OW", b"\0\0")
    data.IconImageSequence = pydicom.Sequence([with_icon])
    path = save(data, tmp_path / "a")
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 999"))  # no such letters
    np.testing.assert_allclose(read_scan(path).pixels[0] * 255, PIXELS, atol=1e-4)


def test_other_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    made = {
        "a": (b"GIF89a" * 50, "'DICM' should stand"),
        "b": (b"", "'DICM' should stand"),
        "c": (bytes(128) + b"DICM", "does not say its transfer syntax"),
    }
    for name, (content, words) in made.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=words):
            read_scan(tmp_path / name)
    report = dicom(PIXELS, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    for keyword in ("Rows", "Columns", "PixelData", "PhotometricInterpretation"):
        delattr(report, keyword)
    with pytest.raises(InputError, match=r"holds no picture: it is of the kind 'Basic Text SR Storage'"):
        read_scan(save(report, tmp_path / "d"))
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    with pytest.raises(InputError, match="is a DICOMDIR"):
        read_scan(save(report, tmp_path / "DICOMDIR"))
    with pytest.raises(InputError, match="photometric interpretation 'HSV'"):
        read_scan(save(dicom(PIXELS, PhotometricInterpretation="HSV"), tmp_path / "e"))
    with pytest.raises(MissingFileError):
        read_scan(tmp_path / "nowhere.dcm")
    os.mkfifo(tmp_path / "pipe.dcm")
    with pytest.raises(InputError, match="no regular file"):
        read_scan(tmp_path / "pipe.dcm")


def test_a_file_that_ends_anywhere_is_refused(tmp_path: Path) -> None:
    whole = save(plane(0), tmp_path / "a").read_bytes()
    for length in range(0, len(whole) - 1, 23):
        (tmp_path / "b").write_bytes(whole[:length])
        with pytest.raises(BcosError):
            read_scan(tmp_path / "b")


def test_several_frames(tmp_path: Path) -> None:
    frames = np.arange(60, dtype=np.uint8).reshape(3, 4, 5) * 4
    for encoding in ("explicit", "rle"):
        path = save(dicom(frames, encoding), tmp_path / encoding)
        scan = read_scan(path, axes=3)
        np.testing.assert_allclose(scan.pixels[0] * 255, frames, atol=1e-4)
        assert scan.facts["slices"] == 3 and "order of the file" in scan.facts["notes"][0]
        with pytest.raises(InputError, match="holds 3 frames, and a picture is wanted"):
            read_scan(path, axes=2)
    with pytest.raises(InputError, match="one slice, and a volume is wanted"):
        read_scan(save(dicom(PIXELS), tmp_path / "one"), axes=3)
    with pytest.raises(InputError, match="2 or 3 axes"):
        read_scan(tmp_path / "one", axes=1)
    short = dicom(frames, "rle")
    short.NumberOfFrames = 5
    with pytest.raises(InputError, match=r"compressed|frames"):
        read_scan(save(short, tmp_path / "short"))


def test_groups_of_frames_say_where_each_lies_and_what_its_numbers_mean(tmp_path: Path) -> None:
    frames = np.stack([np.full((4, 5), n, np.uint16) for n in (30, 10, 20)])
    data = dicom(frames)

    def group(**sequences: dict[str, Any]) -> pydicom.Dataset:
        found = pydicom.Dataset()
        for name, elements in sequences.items():
            item = pydicom.Dataset()
            for keyword, value in elements.items():
                setattr(item, keyword, value)
            setattr(found, name, pydicom.Sequence([item]))
        return found

    data.SharedFunctionalGroupsSequence = pydicom.Sequence([
        group(PixelMeasuresSequence={"PixelSpacing": [0.5, 0.6]},
              PlaneOrientationSequence={"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
              FrameVOILUTSequence={"WindowCenter": 50.5, "WindowWidth": 101})
    ])  # fmt: skip
    data.PerFrameFunctionalGroupsSequence = pydicom.Sequence([
        group(PlanePositionSequence={"ImagePositionPatient": [-place, 0, 0]},
              PixelValueTransformationSequence={"RescaleSlope": slope, "RescaleIntercept": 1})
        for place, slope in ((3, 2), (1, 1), (2, 0.5))
    ])  # fmt: skip
    scan = read_scan(save(data, tmp_path / "a"))
    np.testing.assert_allclose(scan.pixels[0, :, 0, 0] * 100, [11, 11, 61], atol=1e-4)
    assert (scan.facts["spacing"], scan.facts["orientation"]) == ([1.0, 0.5, 0.6], "RIP")
    assert "notes" not in scan.facts


def test_nothing_of_the_patient_is_told(tmp_path: Path) -> None:
    said = [repr(read_scan(save(plane(3), tmp_path / "a")).facts)]
    broken = plane(3)
    broken.RescaleSlope = broken.RescaleIntercept = 1
    whole = save(broken, tmp_path / "b").read_bytes()
    words = [secret.encode() for secret in SECRETS]
    assert all(word in whole for word in words)
    for at in range(132, len(whole), 9):  # elements that begin elsewhere hold what they should not
        for cut in (whole[:at] + whole[at + 2 :], whole[:at] + b"PN" + whole[at + 2 :]):
            (tmp_path / "c").write_bytes(cut)
            try:
                said.append(repr(read_scan(tmp_path / "c").facts))
            except BcosError as error:
                said.append(str(error))
                assert (error.__cause__ is None and error.__suppress_context__) or error.__context__ is None
    assert len(said) > 100
    assert [text for text in said for secret in SECRETS if secret in text] == []


def test_the_watch_for_secrets_can_fail() -> None:
    with pytest.raises(InputError) as caught, reading.quiet("'x'", "DICOM file"):
        raise ValueError(f"bad value '{SECRETS[0]}' and \"{SECRETS[2]}\" of an element")
    assert str(caught.value) == "'x' is no DICOM file that can be read: bad value … of an element."


def test_pydicoms_own_files_are_read_as_pydicom_reads_them() -> None:
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    read = refused = 0
    for path in sorted(folder.glob("*.dcm")):
        if path.stat().st_size > 100_000:
            continue
        try:
            scan = read_scan(path, value_range=(-1000, 3000))
        except BcosError as error:
            refused += 1
            assert len(str(error)) <= 500
            continue
        read += 1
        with reading.quiet("", ""):
            data = pydicom.dcmread(path)
            theirs = data.pixel_array.astype(float)
        grey = data.get("SamplesPerPixel", 1) == 1 and "PALETTE" not in data.PhotometricInterpretation
        if grey and "DoseGridScaling" not in data:
            theirs = theirs * float(data.get("RescaleSlope", 1)) + float(data.get("RescaleIntercept", 0))
            np.testing.assert_allclose(scan.pixels.squeeze(), np.clip((theirs + 1000) / 4000, 0, 1), atol=1e-6, err_msg=path.name)
        elif not grey and "PALETTE" not in data.PhotometricInterpretation:
            with reading.quiet("", ""):
                theirs = pydicom.pixels.pixel_array(data).astype(float)
            last = np.moveaxis(scan.pixels.numpy(), 0, -1)
            np.testing.assert_allclose(last, np.clip((theirs + 1000) / 4000, 0, 1), atol=1e-6, err_msg=path.name)
    assert read > 40 and refused > 15


def test_the_message_of_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(dicom(PIXELS), tmp_path / "a.dcm")
    (tmp_path / "b.nii").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    for file, package in ((path, "pydicom"), (tmp_path / "b.nii", "nibabel")):
        with pytest.raises(BcosError, match=rf"needs the package '{package}'"):
            read_scan(file)
    with pytest.raises(BcosError, match="medical"):
        read_scan(path)
    assert is_scan(path)
