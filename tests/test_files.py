import os

import pytest

from skmixmate._files import check_destination, written_whole


def write(path, content=b"new"):
    with written_whole(path) as file:
        file.write(content)


def test_a_file_is_made_or_replaced(tmp_path):
    path = tmp_path / "file"
    for content in (b"first", b"second"):
        write(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_goes_wrong_leaves_the_earlier_file_alone(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), written_whole(path) as file:  # noqa: PT012
        file.write(b"half of the n")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_name_that_cannot_be_taken_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no"):
        write(tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_permissions_are_those_of_any_new_file(tmp_path):
    write(tmp_path / "file")
    (tmp_path / "other").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_what_a_link_leads_to_is_replaced(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_paths_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"file cannot.*no such folder"):
        check_destination(tmp_path / "nowhere" / "file")
    with pytest.raises(FileExistsError, match=r"null cannot.*no ordinary file"):
        check_destination("/dev/null")
    with pytest.raises(FileExistsError, match=r"no ordinary file"):
        check_destination(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=r"read-only"):
        check_destination(tmp_path / "file")
