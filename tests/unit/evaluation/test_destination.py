"""Where results go: never into the data, by whatever path it is reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchbcos._core.errors import InputError
from torchbcos.evaluation.destination import check_folder, check_name, keep_out_of


def test_nothing_is_written_into_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "my photos"
    (data / "cat").mkdir(parents=True)
    (tmp_path / "link").symlink_to(data, target_is_directory=True)
    monkeypatch.chdir(data)
    for inside in (
        data,
        data / "evaluation",
        data / "cat" / "x",
        Path("evaluation"),
        tmp_path / "link" / "out",
        data / "a" / ".." / "b",
    ):
        with pytest.raises(InputError, match="would be taken for a class"):
            keep_out_of(data, None, inside)
    with pytest.raises(InputError, match="would be taken for a class"):
        keep_out_of(".", "evaluation")
    keep_out_of(data, None, tmp_path / "my photos 2", Path(".."), data / ".." / "evaluation")


def test_a_file_has_no_inside(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("file,label\n")
    keep_out_of(table, tmp_path / "evaluation", table)
    assert table.read_text() == "file,label\n"
    with pytest.raises(InputError, match="would be taken for a class"):  # the folder around it has one
        keep_out_of(tmp_path, tmp_path / "evaluation")


def test_a_file_becomes_no_folder(tmp_path: Path) -> None:
    check_folder(tmp_path)
    check_folder(tmp_path / "new" / "deep")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        check_folder(tmp_path / "file")


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "a\\b", "../x", "x" * 300, "a\nb", "a\u202eb"])
def test_a_name_begins_file_names(name: str) -> None:
    with pytest.raises(InputError, match="beginning of file names"):
        check_name(name)
    check_name("compare 1")
