"""Bodies that must not be, and lengths that are held to."""

import pytest

from core_harness import PLAIN, Closing, answering, run

# Bodies that must not be.


def test_head_gets_the_headers_of_get_and_no_body():
    sink, _, _ = run(answering([b"hello"]), "HEAD")
    assert sink.calls == [("head", b"", True)]
    assert sink.header("Content-Length") == ["5"]


def test_head_keeps_a_length_that_the_application_set():
    for result in ([b"hello"], [], [b""], iter([]), iter([b"hello"]), [b"a", b"b"]):
        sink, errors, _ = run(answering(result, headers=[("Content-Length", "5")]), "HEAD")
        assert (sink.header("Content-Length"), sink.body) == (["5"], b"")
        assert (sink.ended, sink.aborted, errors) == (True, False, "")


@pytest.mark.parametrize("result", [[], [b""], (), iter([]), iter([b""]), iter([b"x"])])
def test_head_claims_no_length_that_nobody_told(result):
    """RFC 9110 §8.6: only what a GET would have sent; an empty answer to HEAD says nothing."""
    sink, errors, _ = run(answering(result), "HEAD")
    assert sink.headers == PLAIN
    assert (sink.ended, errors) == (True, "")


def test_head_does_not_wait_for_the_whole_body():
    asked = []

    def blocks():
        for number in range(3):
            asked.append(number)
            yield b"block"

    result = Closing(blocks())
    sink, _, _ = run(answering(result), "HEAD")
    assert (asked, result.closed, sink.body) == ([0], 1, b"")


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_204_and_304_carry_no_body(status, method):
    for result in ([b"dropped"], [b"a", b"b"], iter([b"dropped", b"more"]), [], iter([])):
        sink, errors, response = run(answering(result, status), method)
        assert sink.calls == [("head", b"", True)]
        assert (sink.headers, errors, response.sent) == (PLAIN, "", 0)


def test_204_loses_a_length_and_304_keeps_it():
    headers = [("Content-Length", "5"), ("ETag", '"a"')]
    sink, _, _ = run(answering([], "204 No Content", headers))
    assert sink.headers == [("ETag", '"a"')]
    sink, _, _ = run(answering([], "304 Not Modified", headers))
    assert sink.headers == headers


@pytest.mark.parametrize("result", [[b"dropped"], [], iter([b"a", b"b"]), iter([])])
@pytest.mark.parametrize("headers", [[], [("Content-Length", "7")], [("content-length", "0")]])
def test_205_is_empty_and_says_so(result, headers):
    blocks = list(result)
    sink, errors, _ = run(answering(iter(blocks), "205 Reset Content", headers))
    assert sink.calls == [("head", b"", True)]
    assert (sink.headers, errors) == ([("Content-Length", "0")], "")
    sink, _, _ = run(answering(blocks, "205 Reset Content", headers))
    assert sink.headers == [("Content-Length", "0")]


# Content-Length held to.


@pytest.mark.parametrize("result", [[b"hello world"], [b"hello", b" world"]])
def test_too_much_in_a_list_is_cut_and_logged(result):
    sink, errors, response = run(answering(result, headers=[("Content-Length", "5")]))
    assert sink.calls == [("head", b"hello", True)]
    assert "more than its Content-Length of 5" in errors
    assert response.sent == 5


def test_too_much_in_a_stream_is_cut_and_logged_once():
    blocks = iter([b"hel", b"lo wo", b"rld", b"!"])
    sink, errors, _ = run(answering(blocks, headers=[("Content-Length", "5")]))
    assert sink.calls == [("head", b"hel", False), ("body", b"lo", True)]
    assert errors.count("more than its Content-Length") == 1


def test_an_endless_stream_ends_with_its_length():
    def blocks():
        while True:
            yield b"x" * 10

    result = Closing(blocks())
    sink, _, _ = run(answering(result, headers=[("Content-Length", "25")]))
    assert (sink.body, sink.ended, result.closed) == (b"x" * 25, True, 1)


def test_a_length_of_zero_drops_a_body():
    for result in ([b"x"], iter([b"x"])):
        sink, errors, _ = run(answering(result, headers=[("Content-Length", "0")]))
        assert sink.calls == [("head", b"", True)]
        assert "more than its Content-Length of 0" in errors


@pytest.mark.parametrize(
    "result", [[b"abc"], [b"a", b"bc"], iter([b"a", b"bc"]), [], [b""], iter([])]
)
def test_too_little_is_cut_off_so_that_it_shows(result):
    body = b"abc" if (result := list(result)) and any(result) else b""
    for given in (list(result), iter(result)):
        sink, errors, _ = run(answering(given, headers=[("Content-Length", "5")]))
        assert (sink.status, sink.body) == ("200 OK", body)
        assert sink.aborted
        assert not sink.ended
        assert f"sent {len(body)} of the 5 bytes" in errors
