import io
import struct
import zipfile

import numpy as np
import pytest

from skmixmate.files.archives import StoredArray, open_archive, read_member


def archive_of(*arrays, **options):
    """Return an archive of arrays in .npy format, named 0, 1 and so on."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for i, array in enumerate(arrays):
            member = io.BytesIO()
            np.save(member, array)
            archive.writestr(str(i), member.getvalue())
    return file


def with_header(header, content=b"\0" * 16):
    file = io.BytesIO()
    start = b"\x93NUMPY\1\0" + struct.pack("<H", len(header))
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("0", start + header + content)
    return open_archive(file)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(2, 3)),
        np.arange(6, dtype=">i4"),
        np.arange(6, dtype=">f8").reshape(3, 2),
        np.array(3.5),
        np.zeros((0, 4)),
        np.array([True, False]),
        np.zeros(300_000),  # read in chunks
    ],
)
def test_arrays_are_read_in_native_byte_order(array):
    stored = StoredArray(open_archive(archive_of(array)), "0")
    assert stored.array.shape == array.shape
    stored.fill()
    np.testing.assert_array_equal(stored.array, array)
    assert stored.array.dtype == array.dtype.newbyteorder("=")
    assert stored.array.flags.writeable


def directory_of(file):
    content = file.getvalue()
    length, start = struct.unpack("<II", content[-10:-2])
    return content[:start], content[start : start + length]


def test_a_directory_with_too_many_entries_is_not_read():
    members, directory = directory_of(archive_of(np.zeros(9)))
    n_entries = 100_000
    directory *= n_entries
    numbers = (44, 45, 45, 0, 0, n_entries, n_entries, len(directory), len(members))
    end = struct.pack("<IQHHIIQQQQ", 0x06064B50, *numbers)
    end += struct.pack("<IIQI", 0x07064B50, 0, len(members) + len(directory), 1)
    end += struct.pack("<IHHHHIIH", 0x06054B50, *[0] * 2, *[2**16 - 1] * 2, 0, 0, 0)
    with pytest.raises(zipfile.BadZipFile, match="its directory has 4700000 bytes"):
        open_archive(io.BytesIO(members + directory + end))


def test_overlapping_members_are_rejected():
    members, directory = directory_of(archive_of(np.zeros(900)))
    directories = [directory[:-1] + bytes([c]) for c in b"0123456789"]
    directory = b"".join(directories)
    numbers = (0, 0, 10, 10, len(directory), len(members), 0)
    end = struct.pack("<IHHHHIIH", 0x06054B50, *numbers)
    with pytest.raises(zipfile.BadZipFile, match=r"73280 bytes together, but the file"):
        open_archive(io.BytesIO(members + directory + end))


def test_compressed_and_truncated_archives_are_rejected():
    with pytest.raises(zipfile.BadZipFile, match="compressed"):
        open_archive(archive_of(np.zeros(9), compression=zipfile.ZIP_DEFLATED))
    content = archive_of(np.zeros(9)).getvalue()
    for damaged, message in (
        (b"", "no directory"),
        (content[:-1], "no directory"),
        (content + b"more", "no directory"),
        (b"before" + content, "not where it should be"),
    ):
        with pytest.raises(zipfile.BadZipFile, match=message):
            open_archive(io.BytesIO(damaged))


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, b"\1", "encrypted"),
        (20, b"\xff\xff", "two different sizes"),
        (46, b"\0", "cut off"),
    ],
)
def test_damaged_directories_are_rejected(offset, value, message):
    members, directory = directory_of(archive_of(np.zeros(9)))
    end = archive_of(np.zeros(9)).getvalue()[len(members) + len(directory) :]
    directory = directory[:offset] + value + directory[offset + len(value) :]
    with pytest.raises(zipfile.BadZipFile, match=message):
        open_archive(io.BytesIO(members + directory + end))


@pytest.mark.parametrize(
    "header",
    [
        b"-" * 9000 + b"1",
        b"(" * 5000 + b"\n",
        b"{'descr': (), 'fortran_order': False, 'shape': (2,), }\n",
        b"{'descr': ('<f8',), 'fortran_order': False, 'shape': (2,), }\n",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (-2,), }\n",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }\n" % 10**30,
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,), }\n",
        b"{'descr': '<f3', 'fortran_order': False, 'shape': (2,), }\n",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }\n",
        b"",
    ],
)
def test_headers_that_numpy_does_not_write_are_rejected(header):
    with pytest.raises(ValueError, match=r"header|bytes for|dtype|data type"):
        StoredArray(with_header(header), "0")


def test_members_over_the_limit_are_not_read():
    archive = open_archive(archive_of(np.zeros(9)))
    assert len(read_member(archive, "0", 200)) == 200
    with pytest.raises(zipfile.BadZipFile, match=r"'0' has 200 bytes.*at most 199"):
        read_member(archive, "0", 199)


def test_a_damaged_member_has_a_wrong_checksum():
    file = archive_of(np.zeros(9))
    file.getbuffer()[150] ^= 1
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        StoredArray(open_archive(file), "0").fill()
