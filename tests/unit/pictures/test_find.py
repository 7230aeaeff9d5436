"""Finding pictures: files, folders, patterns, and places for output that never collide."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError, MissingFileError
from torchbcos.pictures import Form, find, find_images, walk
from torchbcos.pictures.find import _place


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = ["a10.jpg", "a9.JPG", "notes.txt", ".hidden.png", "sub/b.png", "sub/deep/ü ö.webp", ".git/c.png", "x/b.png"]
    for name in [*names, "a[1].jpg", "a1.jpg", "q/odd.dat", "none/readme.md"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(paths: object) -> list[str]:
    return [found.relative.as_posix() for found in find_images(paths)]  # type: ignore[arg-type]


def test_a_folder_is_walked_in_natural_order(tree: Path) -> None:
    expected = ["a1.jpg", "a9.JPG", "a10.jpg", "a[1].jpg", "sub/b.png", "sub/deep/ü ö.webp", "x/b.png"]
    assert names(tree) == names(".") == names(str(tree) + "/") == expected
    assert all(found.path.is_file() for found in find_images(tree))


def test_a_named_file_is_taken_whatever_its_suffix(tree: Path) -> None:
    assert names("notes.txt") == ["notes.txt"]
    assert names([Path("q/odd.dat"), tree / ".hidden.png"]) == ["q/odd.dat", ".hidden.png"]
    assert find_images("sub/b.png")[0].path == Path("sub/b.png")


def test_a_file_named_like_a_pattern_is_found_first(tree: Path) -> None:
    assert names("a[1].jpg") == ["a[1].jpg"]
    (tree / "a[1].jpg").unlink()
    assert names("a[1].jpg") == ["a1.jpg"]
    (tree / "d[1]").mkdir()
    (tree / "d[1]" / "p.png").touch()
    assert names("d[1]/*.png") == ["p.png"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a1.jpg", "a10.jpg", "a[1].jpg"]),
        ("a?.*", ["a1.jpg", "a9.JPG"]),
        ("*/b.png", ["sub/b.png", "x/b.png"]),
        ("**/*.png", ["sub/b.png", "x/b.png"]),
        ("**/**/b.png", ["sub/b.png", "x/b.png"]),
        ("sub/**", ["b.png", "deep/ü ö.webp"]),
        ("s*", ["sub/b.png", "sub/deep/ü ö.webp"]),
        ("sub/*", ["b.png", "deep/ü ö.webp"]),
        ("**/*.dat", ["q/odd.dat"]),
        (".git/*.png", ["c.png"]),
        ("[.]h*", None),
        ("q/*", None),
    ],
)
def test_patterns(tree: Path, pattern: str, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(MissingFileError, match=re.escape(f"No picture matches {pattern!r}.")):
            find_images(pattern)
        return
    assert names(pattern) == expected
    assert names(str(tree / pattern)) == expected


def test_the_same_name_below_two_roots_gets_two_places(tree: Path) -> None:
    assert names(["sub", "x"]) == ["sub/b.png", "sub/deep/ü ö.webp", "x/b.png"]
    assert names(["sub/b.png", "x/b.png"]) == ["sub/b.png", "x/b.png"]
    assert names(["sub", tree / "sub" / "b.png", "sub/../sub"]) == ["b.png", "deep/ü ö.webp"]


def test_places_stay_apart_when_suffixes_are_replaced_or_case_is_ignored(tree: Path) -> None:
    for name in ("p.png", "p.jpg", "P.gif", "p-png.bmp", "p.x.png", "p.x.jpg"):
        (tree / "none" / name).touch()
    places = [found.relative.with_suffix("").as_posix().casefold() for found in find_images("none")]
    assert len(places) == len(set(places)) == 6
    assert names("none")[0] == "P.gif"


@settings(deadline=None, max_examples=100)
@given(st.lists(st.from_regex(r"\A[ab](/[ab-]{1,2}){0,2}(\.(png|PNG|jpg|2))?\Z"), min_size=1, max_size=12, unique=True))
def test_no_two_places_are_alike(relatives: list[str]) -> None:
    pictures = {os.path.abspath(os.path.join("/r", name)): Path("/r", name) for name in relatives}
    found = _place(pictures, ["/r"])
    keys = [str(f.relative.with_suffix("")).casefold() for f in found]
    assert len(keys) == len(set(keys)) == len(pictures)
    assert not any(f.relative.is_absolute() or ".." in f.relative.parts for f in found)


def test_links_in_circles_end_and_each_folder_is_walked_once(tree: Path) -> None:
    (tree / "sub" / "up").symlink_to(tree)
    (tree / "sub" / "self").symlink_to(".")
    (tree / "x" / "again").symlink_to(tree / "sub")
    (tree / "0first").symlink_to(tree / "sub")
    (tree / "x" / "gone.png").symlink_to("nowhere.png")
    expected = ["a1.jpg", "a9.JPG", "a10.jpg", "a[1].jpg", "sub/b.png", "sub/deep/ü ö.webp", "x/b.png"]
    assert names(tree) == expected
    assert names("**/*.png") == ["sub/b.png", "x/b.png"]
    with pytest.raises(MissingFileError, match=r"'x/gone\.png' is a link to something that does not exist"):
        find_images("x/gone.png")


def test_links_that_lead_out_are_followed(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "far.png").touch()
    (tree / "none" / "link").symlink_to(other)
    assert names("none") == ["link/far.png"]


@pytest.mark.parametrize(
    ("paths", "error", "text"),
    [
        ("none", InputError, "The folder 'none' holds no pictures; files ending in .bmp, "),
        ("a8.jpg", MissingFileError, "'a8.jpg' does not exist. Did you mean 'a"),
        ("subb/b.png", MissingFileError, "'subb/b.png' does not exist. There is no folder 'subb' either."),
        ("*.tiff", MissingFileError, "No picture matches '*.tiff'."),
        ("nowhere/*.png", MissingFileError, "No picture matches 'nowhere/*.png'. There is no folder 'nowhere' either."),
        ("https://example.org/a.jpg", MissingFileError, "Addresses are not read"),
        ([], InputError, "No path was given"),
        ("", InputError, "'' is no path"),
        ("a\0.jpg", InputError, "is no path"),
        (3, ArgumentTypeError, "A path must be a str or a pathlib.Path, got int."),
        (b"sub", ArgumentTypeError, "got bytes."),
        (["sub", None], ArgumentTypeError, "got NoneType."),
        ("x" * 5000, MissingFileError, "does not exist."),
    ],
)
def test_what_is_not_there(tree: Path, paths: object, error: type[BcosError], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)) as caught:
        find_images(paths)  # type: ignore[arg-type]
    assert len(str(caught.value)) <= 500


def test_errors_can_be_collected_while_the_rest_is_found(tree: Path) -> None:
    errors: list[BcosError] = []
    found = find_images(["missing.jpg", "sub", "none", "x/b.png"], errors=errors)
    assert [f.relative.as_posix() for f in found] == ["sub/b.png", "sub/deep/ü ö.webp", "x/b.png"]
    assert [type(error) for error in errors] == [MissingFileError, InputError]
    assert find_images("missing.jpg", errors=[]) == []


def test_a_folder_that_may_not_be_read(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(_: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(InputError, match="The folder 'sub' cannot be read: Permission denied"):
        find_images("sub")


def test_a_walk_tells_files_apart_whatever_their_names(tree: Path) -> None:
    os.link(tree / "a1.jpg", tree / "x" / "hard.jpg")
    (tree / "x" / "link.PNG").symlink_to(tree / "a1.jpg")
    (tree / "0out").symlink_to(tree / "sub" / "deep")
    found = {os.path.relpath(file.path, tree): file for file in walk(tree, (".jpg", ".png", ".webp", ".md"))}
    assert sorted(found) == ["a1.jpg", "a10.jpg", "a9.JPG", "a[1].jpg", "none/readme.md", "sub/b.png", "sub/deep/ü ö.webp",
                             "x/b.png", "x/hard.jpg", "x/link.PNG"]  # fmt: skip
    assert len({file.key for file in found.values()}) == len(found) - 2
    assert found["a1.jpg"].key == found["x/hard.jpg"].key == found["x/link.PNG"].key
    assert [name for name, file in found.items() if file.linked] == ["x/link.PNG"]
    assert [file.linked for file in walk(tree / "0out")] == [False]  # the folder that was asked for is no link on the way
    (tree / "none" / "out").symlink_to(tree / "x")
    assert all(file.linked for file in walk(tree / "none"))


# -- for classifiers of other inputs -----------------------------------------------------------------------------------

DICOM = bytes(128) + b"DICM"


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures beside arrays and scans; a series of two slices, whose names have no suffix; a folder of slices alone."""
    monkeypatch.setattr(find, "is_scan", lambda path: os.path.basename(path) in ("1.2.840", "ct"))
    for name in ("a.png", "a.npy", "b.nii.gz", "c.DCM", "x.txt", "ct/I10", "ct/I9", "ct/1.2.3", "ct/notes", "1.2.840/1.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(DICOM if "ct/" in name and "notes" not in name else b"")
    return tmp_path


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (None, ["a.png"]),
        (Form(3, 2), ["a.png"]),
        (Form(1, 2), ["1.2.840/1.dcm", "a.npy", "a-png.png", "b.nii", "c.DCM", "ct/1.2.3", "ct/I9", "ct/I10"]),
        (Form(4, 2), ["a.npy"]),
        (Form(2, 1), ["a.npy"]),
        (Form(1, 3), ["1.2.840.dcm", "a.npy", "b.nii", "c.DCM", "ct"]),
    ],
)
def test_what_is_looked_for_depends_on_the_classifier(mixed: Path, form: Form | None, expected: list[str]) -> None:
    assert [found.relative.as_posix() for found in find_images(mixed, form=form)] == expected
    for found in find_images(mixed, form=form):
        assert found.path.exists()


def test_rgb_classifiers_take_arrays_and_scans_where_there_is_no_picture(mixed: Path) -> None:
    (mixed / "a.png").unlink()
    found = [found.relative.as_posix() for found in find_images(mixed, form=Form(3, 2))]
    assert found == ["1.2.840/1.dcm", "a.npy", "b.nii", "c.DCM", "ct/1.2.3", "ct/I9", "ct/I10"]
    with pytest.raises(InputError, match=r"holds no pictures; files ending in \.bmp"):
        find_images(mixed)


def test_a_series_is_one_volume_however_it_is_named(mixed: Path) -> None:
    for path in (mixed / "ct", f"{mixed}/ct/", f"{mixed}/c?"):
        assert [(found.path.name, str(found.relative)) for found in find_images(path, form=Form(1, 3))] == [("ct", "ct")]
    with pytest.raises(InputError, match=r"ct' holds no signals; files ending in \.npy are looked for"):
        find_images(mixed / "ct", form=Form(1, 1))
    assert [str(found.relative) for found in find_images(mixed / "1.2.840", form=Form(1, 3))] == ["1.2.840.dcm"]
