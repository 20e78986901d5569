"""wsgi.file_wrapper: by the kernel where that gives the same octets."""

import gzip
import io
import socket
import tempfile

import pytest

from core_harness import PLAIN, Sink, answering, assert_failed, run
from portico.core.response import FileWrapper
from portico.errors import RequestAborted


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "sample.bin"
    path.write_bytes(bytes(range(256)) * 300)
    return path


def test_a_file_goes_through_send_file(sample):
    with sample.open("rb") as file:
        sink, _, response = run(answering(FileWrapper(file)))
        assert file.closed
    size = 256 * 300
    assert sink.calls == [("head", b"", False), ("file", 0, size), ("body", b"", True)]
    assert sink.header("Content-Length") == [str(size)]
    assert (sink.body, response.sent) == (sample.read_bytes(), size)


def test_a_file_starts_where_it_stands(sample):
    with sample.open("rb") as file:
        assert file.read(100) == sample.read_bytes()[:100]
        sink, _, _ = run(answering(FileWrapper(file)))
    assert sink.calls[1] == ("file", 100, 256 * 300 - 100)
    assert sink.body == sample.read_bytes()[100:]


def test_a_file_keeps_to_a_set_length(sample):
    with sample.open("rb") as file:
        sink, errors, _ = run(answering(FileWrapper(file), headers=[("Content-Length", "10")]))
    assert (sink.body, sink.ended, errors) == (sample.read_bytes()[:10], True, "")


def test_a_file_shorter_than_its_length_is_cut(sample):
    headers = [("Content-Length", "76801")]
    with sample.open("rb") as file:
        sink, errors, _ = run(answering(FileWrapper(file), headers=headers))
    assert sink.aborted
    assert "76800 of the 76801" in errors


def test_an_empty_file_is_an_empty_body(tmp_path):
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb") as file:
        sink, _, _ = run(answering(FileWrapper(file)))
    assert sink.calls == [("head", b"", True)]
    assert sink.header("Content-Length") == ["0"]


@pytest.mark.parametrize("method_status", [("HEAD", "200 OK"), ("GET", "304 Not Modified")])
def test_a_file_is_not_sent_where_no_body_may_be(sample, method_status):
    method, status = method_status
    with sample.open("rb") as file:
        sink, _, _ = run(answering(FileWrapper(file), status), method)
        assert file.closed
    assert sink.calls == [("head", b"", True)]


def test_what_is_no_regular_file_is_iterated(sample):
    data = sample.read_bytes()
    sink, _, _ = run(answering(FileWrapper(io.BytesIO(data), 1000)))
    assert [len(call[1]) for call in sink.calls] == [1000] * 76 + [800, 0]
    assert sink.body == data
    left, right = socket.socketpair()
    with left, right:
        right.sendall(b"from a socket")
        right.shutdown(socket.SHUT_WR)
        sink, _, _ = run(answering(FileWrapper(left.makefile("rb"))))
    assert sink.body == b"from a socket"


def test_an_unpacking_file_is_iterated(tmp_path):
    """GzipFile has the fileno of the packed file: sending that would send packed octets."""
    path = tmp_path / "packed.gz"
    path.write_bytes(gzip.compress(b"unpacked" * 1000))
    with gzip.open(path) as file:
        sink, _, _ = run(answering(FileWrapper(file)))
    assert sink.body == b"unpacked" * 1000


def test_a_file_with_a_read_of_its_own_is_iterated(sample):
    class Upper(io.FileIO):
        def read(self, size=-1):
            return super().read(size)[:3]

    with Upper(sample) as file:
        sink, _, _ = run(answering(FileWrapper(file, 76_800)))
    assert sink.body == bytes(range(3))


@pytest.mark.parametrize("buffering", [0, -1])
def test_raw_files_and_temporary_files_go_through_send_file(sample, buffering):
    with sample.open("rb", buffering=buffering) as file:
        sink, _, _ = run(answering(FileWrapper(file)))
    assert sink.calls[1][0] == "file"
    with tempfile.TemporaryFile() as file:
        file.write(b"just written")
        file.seek(5)
        sink, _, _ = run(answering(FileWrapper(file)))
    assert (sink.calls[1], sink.body) == (("file", 5, 7), b"written")


def test_a_text_file_is_an_error(sample):
    sample.write_text("text")
    with sample.open(encoding="ascii") as file:
        sink, errors, _ = run(answering(FileWrapper(file)))
    assert_failed(sink, errors, "str")


def test_a_wrapped_wrapper_is_an_ordinary_iterable(sample):
    with sample.open("rb") as file:
        sink, _, _ = run(answering(block[::-1] for block in FileWrapper(file, 256)))
    assert sink.body == bytes(reversed(range(256))) * 300


def test_a_file_after_write_follows_it(sample):
    def app(_environ, start_response):
        start_response("200 OK", list(PLAIN))(b"first ")
        return FileWrapper(sample.open("rb"))

    sink, _, _ = run(app)
    assert sink.body == b"first " + sample.read_bytes()


def test_a_wrapper_has_close_if_its_file_has():
    class Bare:
        def read(self, _size):
            return b""

    assert not hasattr(FileWrapper(Bare()), "close")
    file = io.BytesIO()
    FileWrapper(file).close()
    assert file.closed


def test_a_file_is_closed_when_the_frontend_goes_away(sample):
    file = sample.open("rb")
    with pytest.raises(RequestAborted):
        run(answering(FileWrapper(file)), sink=Sink(survives=1))
    assert file.closed


def test_a_closed_file_is_an_error(sample):
    file = sample.open("rb")
    file.close()
    sink, errors, _ = run(answering(FileWrapper(file)))
    assert_failed(sink, errors, "closed file")


def test_a_file_that_stands_behind_its_end_is_empty(sample):
    with sample.open("rb") as file:
        file.seek(1_000_000)
        sink, errors, _ = run(answering(FileWrapper(file)))
    assert (sink.body, sink.ended, errors) == (b"", True, "")


def test_a_device_is_iterated():
    with open("/dev/null", "rb") as file:  # noqa: PTH123 - no path of ours
        sink, errors, _ = run(answering(FileWrapper(file)))
    assert [call[0] for call in sink.calls] == ["head"]
    assert (sink.ended, errors) == (True, "")
