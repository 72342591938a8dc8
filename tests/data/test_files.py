"""Finding, opening and naming raw files."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fedjax_anomaly.data.files import combined_digest, default_cache_dir, file_digest, find_raw_file, read_raw_file

CONTENTS = b"1,tcp,normal\n2,udp,neptune\n" * 50


def zip_of(*members: str) -> Callable[[bytes], bytes]:
    def compress(contents: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for member in members:
                archive.writestr(member, contents)
        return buffer.getvalue()

    return compress


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zip": zip_of("folder/", "folder/raw"),
}


def test_the_cache_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir() == tmp_path / "xdg" / "fedjax_anomaly"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "fedjax_anomaly"


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_compressed_file_reads_as_the_plain_one(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(CONTENTS)
    (tmp_path / f"raw{suffix}").write_bytes(COMPRESS[suffix](CONTENTS))
    assert read_raw_file(tmp_path / f"raw{suffix}") == read_raw_file(tmp_path / "raw") == CONTENTS


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_truncated_archive_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"raw{suffix}"
    path.write_bytes(COMPRESS[suffix](CONTENTS)[:-10])
    with pytest.raises(ValueError, match=rf"^\S+raw\{suffix} cannot be decompressed \(.+\); get it anew"):
        read_raw_file(path)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_what_is_no_archive_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"raw{suffix}"
    path.write_bytes(b"<html>Not Found</html>")
    with pytest.raises(ValueError, match="cannot be decompressed"):
        read_raw_file(path)


def test_a_zip_of_two_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "raw.zip"
    path.write_bytes(zip_of("a", "b")(CONTENTS))
    with pytest.raises(ValueError, match="it holds 2 files, expected 1"):
        read_raw_file(path)


def test_a_file_is_looked_for_in_its_own_folder_first(tmp_path: Path) -> None:
    (tmp_path / "nsl_kdd").mkdir()
    (tmp_path / "KDDTest+.txt").touch()
    assert find_raw_file(tmp_path, "nsl_kdd", ["KDDTest+.txt"], "home") == tmp_path / "KDDTest+.txt"
    (tmp_path / "nsl_kdd" / "KDDTest+.txt.zip").touch()
    assert find_raw_file(tmp_path, "nsl_kdd", ["KDDTest+.txt"], "home") == tmp_path / "nsl_kdd" / "KDDTest+.txt.zip"


def test_a_file_is_found_under_its_other_names(tmp_path: Path) -> None:
    (tmp_path / "other.gz").touch()
    assert find_raw_file(tmp_path, "folder", ["own", "other"], "home") == tmp_path / "other.gz"
    (tmp_path / "own.xz").touch()
    assert find_raw_file(tmp_path, "folder", ["own", "other"], "home") == tmp_path / "own.xz"


def test_a_missing_file_is_named_with_the_folders_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        find_raw_file(tmp_path, "nsl_kdd", ["KDDTrain+.txt"], "https://publisher")
    for part in ("KDDTrain+.txt", ".gz, .xz, .bz2, .zip", f"{tmp_path}/nsl_kdd or {tmp_path};", "https://publisher"):
        assert part in str(error.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--data_dir=\S+/absent does not exist; put KDDTrain"):
        find_raw_file(tmp_path / "absent", "nsl_kdd", ["KDDTrain+.txt"], "https://publisher")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "KDDTrain+.txt").touch()
    with pytest.raises(ValueError, match="is not a folder; give the folder that holds"):
        find_raw_file(tmp_path / "KDDTrain+.txt", "nsl_kdd", ["KDDTrain+.txt"], "https://publisher")


def test_the_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # The example of one block in FIPS 180-2, appendix B.1.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "abc") == expected


def test_the_combined_digest_depends_on_the_order() -> None:
    assert combined_digest(["a", "b"]) != combined_digest(["b", "a"])
    assert len(combined_digest(["a", "b"])) == 16
