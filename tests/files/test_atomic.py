import os
import stat

import pytest

from skmixmate.files.atomic import atomic_write, check_writable, open_regular


def write(path, content=b"new"):
    with atomic_write(path) as file:
        file.write(content)


def test_creates_or_replaces_a_file(tmp_path):
    path = tmp_path / "file"
    for content in (b"first", b"second"):
        write(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_writing_keeps_the_existing_file(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:  # noqa: PT012
        file.write(b"half of the n")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_while_replacing_removes_the_temporary_file(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no"):
        write(tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_a_new_file_has_default_permissions(tmp_path):
    write(tmp_path / "file")
    (tmp_path / "other").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o400])
def test_the_mode_of_a_replaced_file_is_kept(mode, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    with atomic_write(path) as file:
        # While it is written nobody else can read it.
        assert mode_of(file.name) == 0o600
        file.write(b"new")
    assert mode_of(path) == mode
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "chown"), reason="groups are of POSIX")
def test_another_group_gets_the_rights_of_all_users_at_most(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o664)
    monkeypatch.setattr(os, "chown", refuse)
    write(path)
    assert mode_of(path) == 0o644


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_root_keeps_owner_and_group_of_a_replaced_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 65534, 65534)
    path.chmod(0o640)
    write(path)
    status = path.stat()
    assert (status.st_uid, status.st_gid, mode_of(path)) == (65534, 65534, 0o640)


@pytest.mark.parametrize("name", ["open", "fsync"])
def test_folders_that_cannot_be_synced_are_no_error(name, tmp_path, monkeypatch):
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


def test_names_that_are_too_long_raise_before_writing(tmp_path):
    write(tmp_path / ("a" * 255))
    with pytest.raises(OSError, match="too long"):
        check_writable(tmp_path / ("a" * 256))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_and_devices_raise_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match=r"' is not a regular file, but a pipe"):
            open_regular(path)
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


def test_the_target_of_a_link_is_replaced(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_check_writable_names_the_path_and_the_problem(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"file cannot.*no such folder"):
        check_writable(tmp_path / "nowhere" / "file")
    with pytest.raises(FileExistsError, match=r"null cannot.*not a regular file"):
        check_writable("/dev/null")
    with pytest.raises(FileExistsError, match=r"not a regular file"):
        check_writable(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^'.*x1b\[2J/file' cannot") as error:
        check_writable(tmp_path / "\x1b[2J" / "file")
    assert str(error.value).isprintable()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=r"read-only"):
        check_writable(tmp_path / "file")
