"""Lines out of pipes and files, however they are cut into chunks, rotated or truncated."""

import os
import threading

import pytest

from fedjax_anomaly.live.sources import FollowedFile, PipeSource


def read_all(source, most=3):
    """Records until the source ends or, where it is followed, has nothing more."""
    records = []
    while (part := source.read(most, 0.15)) is not None:
        assert len(part) <= most
        if not part:
            break
        records += part
    return records


def numbers(records):
    return [record.fields["n"] for record in records]


def write(path, first, last, mode="w"):
    with path.open(mode) as file:
        file.write("".join(f'{{"n": {n}}}\n' for n in range(first, last)))


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    os.close(read)


def test_a_pipe_cut_anywhere_gives_its_lines(pipe):
    source = PipeSource(pipe[0])
    text = '{"n": 0}\n\n{"n": 1, "s": "é"}\r\nnothing\n[1]\n{"n": 2}'.encode()

    def cut_up():
        for i in range(len(text)):
            os.write(pipe[1], text[i : i + 1])
        os.close(pipe[1])

    writer = threading.Thread(target=cut_up)
    writer.start()
    records = []
    while (part := source.read(2, 1.0)) is not None:
        records += part
    writer.join()
    assert [record.fields and record.fields["n"] for record in records] == [0, 1, None, None, 2]
    assert records[1].fields["s"] == "é"
    assert [record.raw for record in records[2:4]] == ["nothing", "[1]"]
    assert all(record.error.startswith("not ") for record in records[2:4])
    assert records[-1].position == len(text)


def test_a_pipe_without_events_is_waited_for_no_longer_than_asked(pipe):
    assert PipeSource(pipe[0]).read(1, 0.01) == []
    os.close(pipe[1])


def test_a_pipe_is_not_read_ahead_without_bound(pipe):
    """Where two lines come for each that is taken, the writer is soon made to wait."""
    source, written = PipeSource(pipe[0]), 0
    os.set_blocking(pipe[1], False)
    line = b'{"n": 0, "s": "' + b"x" * 1000 + b'"}\n'
    for _ in range(4096):
        try:
            written += os.write(pipe[1], 2 * line)
        except BlockingIOError:
            break
        source.read(1, 0.0)
    os.close(pipe[1])
    assert written < 2**20


def test_a_line_without_end_is_cut_and_the_next_one_is_whole(tmp_path):
    (tmp_path / "in").write_bytes(b'{"n": 0}\n{"s": "' + b"x" * 3 * 2**20 + b'"}\n{"n": 1}\n')
    records = read_all(FollowedFile(tmp_path / "in", follow=False))
    assert [record.fields and record.fields["n"] for record in records] == [0, None, 1]
    assert len(records[1].raw) == 2**20


def test_csv_with_its_header_and_after_a_restart(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text('n,s\n0,"a,b"\n1\n2,"open\n3,c\n')
    source = FollowedFile(path, follow=False)
    records = read_all(source)
    assert [record.fields for record in records] == [{"n": "0", "s": "a,b"}, None, None, {"n": "3", "s": "c"}]
    bookmark = FollowedFile(path).bookmark(records[2].position)
    again = FollowedFile(path, follow=False)
    again.seek(bookmark)
    assert [record.fields for record in read_all(again)] == [{"n": "3", "s": "c"}]


def test_half_a_line_at_the_end_of_a_followed_file_is_waited_for(tmp_path):
    path = tmp_path / "in"
    path.write_text('{"n": 0}\n{"n":')
    source = FollowedFile(path)
    assert numbers(read_all(source)) == [0]
    with path.open("a") as file:
        file.write(" 1}\n")
    assert numbers(read_all(source)) == [1]
    source.close()
    assert source.read(1, 0.0) is None


def test_a_rotated_file_is_read_to_its_end_and_then_the_next(tmp_path):
    path = tmp_path / "in"
    write(path, 0, 3)
    source = FollowedFile(path)
    assert numbers(source.read(2, 0.1)) == [0, 1]
    write(path, 3, 5, "a")
    path.rename(tmp_path / "in.1")
    write(path, 5, 7)
    records = read_all(source)
    assert numbers(records) == [2, 3, 4, 5, 6]
    # Every place can be gone back to by another process, in the rotated file too.
    for i, record in enumerate(records):
        again = FollowedFile(path)
        again.seek(source.bookmark(record.position))
        rest = read_all(again)
        assert numbers(rest) == [2, 3, 4, 5, 6][i + 1 :]
        assert [each.position for each in rest] == [each.position for each in records[i + 1 :]]
        again.close()
    source.close()


def test_files_that_were_rotated_twice_while_nobody_read_are_read_in_order(tmp_path):
    path = tmp_path / "in"
    write(path, 0, 2)
    source = FollowedFile(path)
    bookmark = source.bookmark(source.read(1, 0.1)[0].position)
    source.close()
    path.rename(tmp_path / "in.2")
    write(path, 2, 4)
    os.utime(path, (2e9, 2e9))
    path.rename(tmp_path / "in.1")
    write(path, 4, 6)
    os.utime(path, (2.1e9, 2.1e9))
    again = FollowedFile(path)
    again.seek(bookmark)
    assert numbers(read_all(again)) == [1, 2, 3, 4, 5]
    again.close()


def test_a_file_that_was_cut_begins_anew(tmp_path):
    path = tmp_path / "in"
    write(path, 0, 3)
    source = FollowedFile(path)
    first = read_all(source)
    write(path, 3, 5)
    records = read_all(source)
    assert numbers(records) == [3, 4]
    assert records[0].position > first[-1].position
    source.close()


def test_a_file_that_is_gone_is_told_and_the_new_one_is_read(tmp_path):
    path = tmp_path / "in"
    write(path, 0, 3)
    source = FollowedFile(path)
    bookmark = source.bookmark(source.read(3, 0.1)[1].position)
    source.close()
    path.rename(tmp_path / "elsewhere")
    write(path, 3, 4)
    again = FollowedFile(path, follow=False)
    with pytest.warns(UserWarning, match="is another file than when it was last read"):
        again.seek(bookmark)
    assert numbers(read_all(again)) == [3]
    again.close()
