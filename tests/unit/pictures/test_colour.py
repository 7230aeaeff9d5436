"""Colours as they were meant: profiles in every format, compared with Pillow's ImageCms; PNG's numbers, compared with float64."""

from __future__ import annotations

import io
import random
import struct
import threading
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from torchbcos import pictures
from torchbcos.pictures import colour

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
D65 = (0.3127, 0.3290)
# x, y of white (as each space's white is adapted, only the primaries matter here), red, green, blue; and the curve
SPACES: dict[str, tuple[tuple[tuple[float, float], ...], float | str]] = {
    "srgb": ((D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), "srgb"),
    "p3": ((D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), "srgb"),
    "adobe": ((D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), 563 / 256),
    "prophoto": (((0.3457, 0.3585), (0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), 1.8),
    "permuted": ((D65, (0.30, 0.60), (0.15, 0.06), (0.64, 0.33)), "srgb"),
}


def decode(x: np.ndarray, curve: float | str) -> np.ndarray:
    """Light of stored values in [0, 1]."""
    if curve == "srgb":
        return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return x ** float(curve)


def xyz_of(xy: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Columns: XYZ of red, green and blue, by solving for the white of Y = 1."""
    white, *primaries = [np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in xy]
    columns = np.stack(primaries, 1)
    return columns @ np.diag(np.linalg.inv(columns) @ white)


def adapted(xy: tuple[tuple[float, float], ...]) -> np.ndarray:
    """The same under D50, by Bradford's cone responses."""
    cones = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    x, y = xy[0]
    ratio = (cones @ np.array([0.9642, 1.0, 0.8249])) / (cones @ np.array([x / y, 1.0, (1 - x - y) / y]))
    return np.linalg.inv(cones) @ np.diag(ratio) @ cones @ xyz_of(xy)


def tag_xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def tag_curve(curve: float | str) -> bytes:
    if curve == "srgb":
        table = np.rint(decode(np.linspace(0, 1, 1024), curve) * 65535).astype(">u2")
        return b"curv\0\0\0\0" + struct.pack(">I", 1024) + table.tobytes()
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(float(curve) * 256))


def icc(space: bytes, tags: list[tuple[bytes, bytes]], kind: bytes = b"mntr", between: bytes = b"XYZ ") -> bytes:
    """A version 2 profile."""
    table, body = struct.pack(">I", len(tags)), b""
    for name, tag in tags:
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(tag))
        body += tag + b"\0" * (-len(tag) % 4)
    head = struct.pack(
        ">I4sI4s4s4s12s4s", 128 + len(table) + len(body), b"test", 0x02400000, kind, space, between, b"\0" * 12, b"acsp"
    )
    return head.ljust(68, b"\0") + tag_xyz(np.array([0.9642, 1.0, 0.8249]))[8:].ljust(60, b"\0") + table + body


def matrix_profile(name: str, kind: bytes = b"mntr") -> bytes:
    xy, curve = SPACES[name]
    columns = adapted(xy)
    tags = [(f"{c}XYZ".encode(), tag_xyz(columns[:, i])) for i, c in enumerate("rgb")]
    tags += [(f"{c}TRC".encode(), tag_curve(curve)) for c in "rgb"]
    white = [0.9505, 1.0, 1.0891] if name == "adobe" else [0.9642, 1.0, 0.8249]  # some write the screen's own: it does not matter
    return icc(b"RGB ", [(b"wtpt", tag_xyz(np.array(white))), *tags], kind)


def grey_profile(gamma: float) -> bytes:
    return icc(b"GRAY", [(b"wtpt", tag_xyz(np.array([0.9642, 1.0, 0.8249]))), (b"kTRC", tag_curve(gamma))])


def cmyk_profile() -> bytes:
    """Inks as a table of 5^4 colours in L*a*b* (a lut8Type), on yellowish paper; another table for the perceptual intent."""
    steps = np.stack(np.meshgrid(*[np.linspace(0, 1, 5)] * 4, indexing="ij"), -1).reshape(-1, 4)
    cyan, magenta, yellow, black = steps.T
    lightness = 100 * (1 - 0.35 * cyan) * (1 - 0.45 * magenta) * (1 - 0.1 * yellow) * (1 - 0.95 * black)
    red_green = 60 * (cyan - magenta) * (1 - black)
    blue_yellow = (80 * yellow - 40 * cyan - 20 * magenta) * (1 - black)
    lab = np.stack([lightness * 2.55, red_green + 128, blue_yellow + 128], -1).clip(0, 255).round().astype(np.uint8)
    ramp = bytes(range(256))
    head = b"mft1\0\0\0\0" + bytes([4, 3, 5, 0]) + struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    luts = [head + ramp * 4 + table.tobytes() + ramp * 3 for table in (255 - lab, lab)]
    paper = tag_xyz(np.array([0.84, 0.88, 0.60]))
    return icc(b"CMYK", [(b"wtpt", paper), (b"A2B0", luts[0]), (b"A2B1", luts[1])], b"prtr", b"Lab ")


PROFILES = {name: matrix_profile(name) for name in SPACES} | {"grey": grey_profile(1.4), "cmyk": cmyk_profile()}
MODES = {"grey": "L", "cmyk": "CMYK"}


def scene(mode: str = "RGB") -> Image.Image:
    """Smooth, so that JPEG keeps it, with every corner of the colours in it."""
    y, x = np.mgrid[:48, :64] / np.array([47, 63])[:, None, None]
    rgb = np.stack([x, y, (np.sin(5 * x) * np.cos(4 * y) + 1) / 2], -1)
    image = Image.fromarray((rgb * 255).round().astype(np.uint8))
    if mode == "CMYK":
        return Image.merge("CMYK", [*image.split(), image.getchannel(0).transpose(Image.Transpose.ROTATE_180)])
    return image.convert(mode)


def cms(image: Image.Image, profile: bytes, out: str = "RGB") -> np.ndarray:
    """What Pillow's ImageCms makes of an image and a profile."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    found = ImageCms.profileToProfile(image, source, SRGB, ImageCms.Intent.RELATIVE_COLORIMETRIC, out)
    assert found is not None
    return np.asarray(found).astype(int)


def stored(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **({"lossless": True} if kind == "WEBP" else {}), **options)
    return stream.getvalue()


def read(content: bytes) -> np.ndarray:
    return np.asarray(pictures.decode_image(content, "it")).astype(int)


def as_stored(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image


# -- six profiles, four formats ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("name", list(PROFILES))
def test_a_profile_is_converted_as_imagecms_does(kind: str, name: str) -> None:
    mode = MODES.get(name, "RGB")
    if (mode == "CMYK" and kind in ("PNG", "WEBP")) or (mode == "L" and kind == "WEBP"):
        pytest.skip("the format has no such colours")
    content = stored(scene(mode), kind, icc_profile=PROFILES[name])
    got, image = read(content), as_stored(content)
    assert np.abs(got - cms(image, PROFILES[name])).max() <= 1
    if name == "srgb":
        assert np.array_equal(got, np.asarray(image))
    else:  # the profile matters: without it the colours are others by far
        assert np.abs(got - np.asarray(image.convert("RGB")).astype(int)).max() > 25


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_stays_as_it_is(kind: str) -> None:
    image = scene().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    content = stored(image, kind, icc_profile=PROFILES["permuted"], **({"exact": True} if kind == "WEBP" else {}))
    colours, alpha = cms(image, PROFILES["permuted"], "RGBA")[..., :3], np.asarray(image.getchannel("A"))[..., None] / 255
    assert np.abs(read(content) - (colours * alpha + 255 * (1 - alpha))).max() <= 1.01


def test_large_pictures_with_alpha_are_laid_over_white_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    image = scene().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    content = stored(image, "PNG", icc_profile=PROFILES["p3"])
    whole = read(content)
    monkeypatch.setattr("torchbcos.pictures.modes._BAND", 64 * 7)  # 48 rows are no multiple of 7
    assert np.array_equal(read(content), whole)


def test_grey_with_alpha_and_palettes() -> None:
    grey = scene("LA")
    grey.putalpha(Image.linear_gradient("L").resize(grey.size))
    alpha = np.asarray(grey.getchannel("A"))[..., None] / 255
    wanted = cms(grey.getchannel("L"), PROFILES["grey"]) * alpha + 255 * (1 - alpha)
    assert np.abs(read(stored(grey, "PNG", icc_profile=PROFILES["grey"])) - wanted).max() <= 1.01
    palette = scene().quantize(64)
    for kind in ("PNG", "TIFF"):
        wanted = cms(palette.convert("RGB"), PROFILES["permuted"])
        assert np.abs(read(stored(palette, kind, icc_profile=PROFILES["permuted"])) - wanted).max() <= 1
    see_through = stored(palette, "PNG", icc_profile=PROFILES["permuted"], transparency=bytes([0] * 64))
    assert (read(see_through) == 255).all()
    bits = scene("1")
    assert np.abs(read(stored(bits, "PNG", icc_profile=PROFILES["grey"])) - cms(bits.convert("L"), PROFILES["grey"])).max() <= 1


def png(depth: int, kind: int, rows: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand: Pillow writes neither 16-bit colour nor gAMA."""
    height, width = rows.shape[:2]
    data = b"".join(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes() for row in rows)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts
    )


def iccp(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"profile\0\0" + zlib.compress(profile)


def test_sixteen_bits_are_all_used() -> None:
    values = (np.arange(4096, dtype=np.uint16) * 16).reshape(16, 256)
    linear = grey_profile(1.0)
    got = read(png(16, 0, values, iccp(linear)))
    assert np.abs(got - cms(Image.fromarray(values), linear)).max() <= 1
    assert len(np.unique(got)) > 230  # of its upper 8 bits alone: 183
    colours = np.asarray(scene()).astype(np.uint16) * 257
    assert np.abs(read(png(16, 2, colours, iccp(PROFILES["permuted"]))) - cms(scene(), PROFILES["permuted"])).max() <= 1


def test_sixteen_bits_with_a_transparent_value() -> None:
    values = np.array([[0, 9000, 65535]], dtype=np.uint16)
    got = read(png(16, 0, values, iccp(grey_profile(1.0)), (b"tRNS", struct.pack(">H", 9000))))
    assert got[0, :, 0].tolist() == [0, 255, 255]


# -- profiles that do not count --------------------------------------------------------------------


def unfit() -> dict[str, tuple[str, bytes]]:
    p3 = PROFILES["p3"]
    return {
        "none": ("RGB", b""),
        "noise": ("RGB", random.Random(1).randbytes(3000)),
        "header only": ("RGB", p3[:128]),
        "cut": ("RGB", p3[: len(p3) // 2]),
        "no signature": ("RGB", p3[:36] + b"nope" + p3[40:]),
        "grey in colour": ("RGB", PROFILES["grey"]),
        "inks in colour": ("RGB", PROFILES["cmyk"]),
        "colour in grey": ("L", p3),
        "colour in inks": ("CMYK", p3),
        "a link of two devices": ("RGB", matrix_profile("p3", b"link")),
        "an abstract effect": ("RGB", matrix_profile("p3", b"abst")),
        "named colours": ("RGB", matrix_profile("p3", b"nmcl")),
    }


@pytest.mark.parametrize("name", list(unfit()))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_broken_or_unfitting_profile_is_ignored(name: str, kind: str) -> None:
    mode, profile = unfit()[name]
    if (mode == "CMYK" and kind in ("PNG", "WEBP")) or (mode == "L" and kind == "WEBP"):
        pytest.skip("the format has no such colours")
    content = stored(scene(mode), kind, icc_profile=profile)
    assert np.array_equal(read(content), read(stored(scene(mode), kind)))


def test_mutated_profiles_never_stop_a_picture() -> None:
    draw, counted = random.Random(7), {"same": 0, "other": 0}
    plain = read(stored(scene(), "JPEG"))
    for i in range(150):
        profile = bytearray(PROFILES[("p3", "permuted")[i % 2]])
        for _ in range(draw.choice([1, 2, 8])):
            at = draw.randrange(len(profile) if draw.random() < 0.3 else 240)
            profile[at] = draw.randrange(256)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = read(stored(scene(), "JPEG", icc_profile=bytes(profile)))
        counted["same" if np.array_equal(got, plain) else "other"] += 1
    assert min(counted.values()) > 10


def test_a_profile_that_unpacks_into_gigabytes_is_not_unpacked() -> None:
    bomb = zlib.compress(b"\0" * 80_000_000, 9)
    honest = struct.pack(">I", 80_000_000) + PROFILES["p3"][4:128]
    lying = struct.pack(">I", 3000) + PROFILES["p3"][4:128]
    for body in (bomb, zlib.compress(honest + bytes(80_000_000), 9), zlib.compress(lying + bytes(80_000_000), 9)):
        content = png(8, 2, np.asarray(scene()), (b"iCCP", b"a\0\0" + body))
        tracemalloc.start()
        assert np.array_equal(read(content), np.asarray(scene()))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2_000_000


def test_profiles_that_are_srgb_change_no_bit() -> None:
    for profile in (
        ImageCms.ImageCmsProfile(SRGB.profile).tobytes(),
        PROFILES["srgb"],
        colour.make_profile(1 / 2.2, None, grey=True),
    ):
        if profile is not None:
            assert np.array_equal(read(stored(scene(), "PNG", icc_profile=profile)), np.asarray(scene()))


def test_threads_share_a_conversion() -> None:
    content = stored(scene(), "JPEG", icc_profile=PROFILES["prophoto"])
    wanted, wrong = read(content), []

    def work() -> None:
        for _ in range(10):
            if not np.array_equal(read(content), wanted):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_without_littlecms_a_sentence_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ImportError("The _imagingcms C module is not installed")

    colour._find_transform.cache_clear()
    monkeypatch.setattr(ImageCms, "ImageCmsProfile", fail)
    with pytest.raises(pictures.read.BcosError, match="needs a Pillow that was built with LittleCMS"):
        read(stored(scene(), "JPEG", icc_profile=PROFILES["p3"]))
    assert np.array_equal(read(stored(scene(), "PNG")), np.asarray(scene()))


# -- images in memory ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_open_image_is_read_as_its_file_is(kind: str) -> None:
    content = stored(scene(), kind, icc_profile=PROFILES["permuted"])
    image = as_stored(content)
    before = image.tobytes()
    assert np.array_equal(np.asarray(pictures.to_rgb(image)).astype(int), read(content))
    assert image.tobytes() == before
    ours = pictures.to_rgb(image)
    assert pictures.to_rgb(ours) is ours


def test_an_image_that_somebody_converted_is_left_alone() -> None:
    image = as_stored(stored(scene(), "PNG", icc_profile=PROFILES["permuted"]))
    source = ImageCms.ImageCmsProfile(io.BytesIO(PROFILES["permuted"]))
    done = ImageCms.profileToProfile(image, source, SRGB, ImageCms.Intent.RELATIVE_COLORIMETRIC)
    assert done is not None
    assert np.array_equal(np.asarray(pictures.to_rgb(done)), np.asarray(done))
    lab = scene().convert("LAB")
    lab.info["icc_profile"] = PROFILES["permuted"]
    assert np.array_equal(np.asarray(pictures.to_rgb(lab)), np.asarray(lab.convert("RGB")))


# -- PNG's own numbers -----------------------------------------------------------------------------


def gama(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


def chrm(xy: tuple[tuple[float, float], ...]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(value * 100_000) for point in xy for value in point))


def exact(image: np.ndarray, xy: tuple[tuple[float, float], ...], curve: float | str) -> np.ndarray:
    """sRGB of stored values, in float64, from the definitions."""
    light = decode(image / 255, curve) @ adapted(xy).T @ np.linalg.inv(adapted(SPACES["srgb"][0])).T
    light = light.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@given(gamma=st.floats(0.3, 1.2), shift=st.floats(-0.04, 0.04), wide=st.sampled_from(list(SPACES)))
def test_gamma_and_chromaticities_are_what_the_definitions_say(gamma: float, shift: float, wide: str) -> None:
    xy = tuple((x + shift / 2, y - shift / 3) if y > 0.1 else (x, y) for x, y in SPACES[wide][0])
    picture = np.asarray(scene())
    wanted = exact(picture, xy, 1 / (round(gamma * 100_000) / 100_000))
    got = read(png(8, 2, picture, gama(gamma), chrm(xy)))
    near = abs(gamma / 0.45455 - 1) < 0.055 and np.abs(np.array(xy) - SPACES["srgb"][0]).max() < 0.011
    if near:  # taken for sRGB as it is: of light, at most a twentieth; a black beside a full blue may be 57 levels from there
        assert np.abs(decode(got / 255, "srgb") - decode(wanted / 255, "srgb")).max() <= 0.05
    else:
        assert np.abs(got - wanted).max() <= 1.6


def test_what_stands_nearer_to_the_pixels_wins() -> None:
    picture = np.asarray(scene())
    p3, wrong = chrm(SPACES["p3"][0]), gama(1.0)
    assert np.array_equal(read(png(8, 2, picture, (b"sRGB", b"\0"), wrong, p3)), picture)
    got = read(png(8, 2, picture, iccp(PROFILES["permuted"]), wrong, p3))
    assert np.abs(got - cms(scene(), PROFILES["permuted"])).max() <= 1
    # sRGB as encoders write it in numbers: not a bit is changed
    assert np.array_equal(read(png(8, 2, picture, gama(0.45455), chrm(SPACES["srgb"][0]))), picture)
    assert np.array_equal(read(png(8, 2, picture, gama(0.45455))), picture)
    # an unreadable profile counts as none, so that the numbers beside it count
    assert np.abs(read(png(8, 2, picture, (b"iCCP", b"x\0\0junk"), wrong)) - exact(picture, SPACES["srgb"][0], 1.0)).max() <= 1.6
    # chromaticities alone: the curve of sRGB
    assert np.abs(read(png(8, 2, picture, p3)) - exact(picture, SPACES["p3"][0], "srgb")).max() <= 1.6
    # code points come before all others: Display P3, and HDR's curves, which no profile of this kind can express
    assert (
        np.abs(read(png(8, 2, picture, (b"cICP", b"\x0c\x0d\0\1"), wrong)) - exact(picture, SPACES["p3"][0], "srgb")).max() <= 1.6
    )
    assert np.array_equal(read(png(8, 2, picture, (b"cICP", b"\x09\x10\0\1"))), picture)


def test_gamma_of_grey_and_of_open_images() -> None:
    grey = np.asarray(scene("L"))
    content = png(8, 0, grey, gama(1.0), chrm(SPACES["p3"][0]))
    wanted = exact(grey[..., None].repeat(3, -1), SPACES["srgb"][0], 1.0)
    assert np.abs(read(content) - wanted).max() <= 1.6
    assert np.array_equal(np.asarray(pictures.to_rgb(as_stored(content))), read(content))


@pytest.mark.parametrize(
    "chunk",
    [
        (b"gAMA", b""),
        (b"gAMA", bytes(4)),
        (b"gAMA", b"\xff" * 4),
        (b"cHRM", bytes(32)),
        (b"cHRM", b"\xff" * 32),
        (b"cHRM", struct.pack(">8I", *[31270, 32900] * 4)),
        (b"cHRM", b"short"),
        (b"cICP", b""),
        (b"sRGB", b""),
    ],
)
def test_absurd_numbers_change_nothing(chunk: tuple[bytes, bytes]) -> None:
    assert np.array_equal(read(png(8, 2, np.asarray(scene()), chunk)), np.asarray(scene()))


def test_a_profile_in_a_bmp_of_version_5(tmp_path: Path) -> None:
    picture, profile = np.asarray(scene()), PROFILES["permuted"]
    pixels = picture[::-1, :, ::-1].tobytes()
    head = struct.pack("<IiiHHIIiiII", 124, 64, 48, 1, 24, 0, len(pixels), 0, 0, 0, 0) + bytes(16) + b"DEBM"
    head = head.ljust(112, b"\0") + struct.pack("<II", 124 + len(pixels), len(profile)) + bytes(4)
    (tmp_path / "p.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 0, 0, 0, 138) + head + pixels + profile)
    got = np.asarray(pictures.read_image(tmp_path / "p.bmp")).astype(int)
    assert np.abs(got - cms(scene(), profile)).max() <= 1
