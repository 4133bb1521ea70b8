import os
import stat

import pytest

from skmixmate.files.atomic import atomic_write, check_writable, open_ordinary


def write(path, content=b"new"):
    with atomic_write(path) as file:
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
    with pytest.raises(error), atomic_write(path) as file:  # noqa: PT012
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


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o400])
def test_a_file_that_is_replaced_hands_on_its_mode(mode, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    with atomic_write(path) as file:
        # Until then it is private, whatever the mode will be.
        assert mode_of(file.name) == 0o600
        file.write(b"new")
    assert mode_of(path) == mode
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "chown"), reason="groups are of POSIX")
def test_another_group_gets_no_more_than_anybody(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o664)
    monkeypatch.setattr(os, "chown", refuse)
    write(path)
    assert mode_of(path) == 0o644


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_the_owner_stays_where_that_is_allowed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 65534, 65534)
    path.chmod(0o640)
    write(path)
    found = path.stat()
    assert (found.st_uid, found.st_gid, mode_of(path)) == (65534, 65534, 0o640)


@pytest.mark.parametrize("name", ["open", "fsync"])
def test_folders_that_cannot_be_synced(name, tmp_path, monkeypatch):
    function = getattr(os, name)

    def refuse(target, *args):
        is_open = isinstance(target, int)
        if stat.S_ISDIR((os.fstat if is_open else os.lstat)(target).st_mode):
            raise OSError(22, "Invalid argument")
        return function(target, *args)

    path = tmp_path / "file"
    path.write_bytes(b"old")
    if name == "open":  # the temporary file is not there yet

        def refuse(target, flags, *args):
            if target == str(tmp_path):
                raise PermissionError
            return function(target, flags, *args)

    monkeypatch.setattr(os, name, refuse)
    write(path)
    assert path.read_bytes() == b"new"


def test_long_names(tmp_path):
    write(tmp_path / ("a" * 255))
    with pytest.raises(OSError, match="too long"):
        check_writable(tmp_path / ("a" * 256))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match=r"' is not an ordinary file, but a pipe"):
            open_ordinary(path)
    with pytest.raises(IsADirectoryError):
        open_ordinary(tmp_path)


def test_what_a_link_leads_to_is_replaced(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_paths_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"file cannot.*no such folder"):
        check_writable(tmp_path / "nowhere" / "file")
    with pytest.raises(FileExistsError, match=r"null cannot.*no ordinary file"):
        check_writable("/dev/null")
    with pytest.raises(FileExistsError, match=r"no ordinary file"):
        check_writable(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^'.*x1b\[2J/file' cannot") as error:
        check_writable(tmp_path / "\x1b[2J" / "file")
    assert str(error.value).isprintable()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=r"read-only"):
        check_writable(tmp_path / "file")
