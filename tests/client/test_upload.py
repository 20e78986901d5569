import io

import pytest

from portico.client.upload import Upload, content_length, parse_length
from portico.errors import LocalProtocolError, RequestAborted


class Dribble:
    """A file that gives one octet a read."""

    def __init__(self, data):
        self._file = io.BytesIO(data)

    def read(self, size):
        return self._file.read(min(size, 1))


def whole(upload, size=4):
    pieces = []
    while piece := upload.read(size):
        assert len(piece) <= size
        pieces.append(piece)
    assert upload.ended
    assert upload.read(size) == b""
    return b"".join(pieces)


SOURCES = [
    pytest.param(lambda data: data, id="bytes"),
    pytest.param(io.BytesIO, id="file"),
    pytest.param(Dribble, id="short-reads"),
    pytest.param(lambda data: iter([data[:3], b"", data[3:]]), id="blocks"),
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("known", [True, False])
def test_every_source_is_read_whole_in_pieces(source, known):
    data = b"0123456789"
    upload = Upload(source(data), len(data) if known else None)
    assert whole(upload) == data
    assert upload.length == len(data)


@pytest.mark.parametrize("source", SOURCES)
def test_an_empty_body_of_unknown_length_is_found_to_be_empty(source):
    upload = Upload(source(b""), None)
    upload.probe()
    assert upload.length == 0
    assert upload.ended


@pytest.mark.parametrize("source", SOURCES)
def test_probing_loses_nothing(source):
    upload = Upload(source(b"0123456789"), None)
    upload.probe()
    assert not upload.ended
    assert whole(upload) == b"0123456789"


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("known", [True, False])
def test_the_first_piece_can_be_read_again(source, known):
    upload = Upload(source(b"0123456789"), 10 if known else None)
    first = upload.read(4)
    assert upload.rewind()
    assert upload.read(4) == first
    assert first + whole(upload) == b"0123456789"


def test_a_file_read_beyond_its_first_piece_cannot_be_read_again():
    upload = Upload(io.BytesIO(b"0123456789"), 10)
    upload.read(4)
    upload.read(4)
    assert not upload.rewind()


def test_bytes_can_be_read_again_however_far_they_were_read():
    upload = Upload(b"0123456789", None)
    assert whole(upload) == b"0123456789"
    assert upload.rewind()
    assert whole(upload) == b"0123456789"


def test_nothing_is_read_beyond_the_length():
    file = io.BytesIO(b"bodynext")
    assert whole(Upload(file, 4), size=100) == b"body"
    assert file.tell() == 4


def test_a_body_shorter_than_its_length_is_no_body():
    upload = Upload(io.BytesIO(b"bo"), 4)
    assert upload.read() == b"bo"
    with pytest.raises(RequestAborted, match="2 octets before"):
        upload.read()


def test_bytes_that_disagree_with_the_length_are_refused_at_once():
    with pytest.raises(LocalProtocolError, match="says 5"):
        Upload(b"body", 5)


def test_read1_gives_what_is_there():
    class Slow(io.BytesIO):
        def read(self, _size=-1):
            raise AssertionError("would wait for all of it")

        def read1(self, size=-1):
            return super().read1(min(size, 2))

    assert Upload(Slow(b"body"), 4).read() == b"bo"


@pytest.mark.parametrize(
    ("text", "length"),
    [("0", 0), ("12", 12), ("9" * 18, 10**18 - 1)]
    + [(bad, None) for bad in ("", "+1", "-1", " 1", "1_0", "1.0", "٣", "9" * 19, "0x1")],
)
def test_lengths_are_digits_and_nothing_else(text, length):
    assert parse_length(text) == length


def test_no_content_length_and_an_empty_one_are_the_same():
    assert content_length({}) is None
    assert content_length({"CONTENT_LENGTH": ""}) is None
    with pytest.raises(LocalProtocolError, match="'1,1'"):
        content_length({"CONTENT_LENGTH": "1,1"})
