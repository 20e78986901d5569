"""The response on its way: streaming, write, close, exceptions (PEP 3333)."""

import io
from wsgiref.validate import validator

import pytest

from core_harness import PLAIN, Closing, Sink, answering, assert_failed, environ_for, run
from portico.core.input import RequestBody
from portico.core.response import run_request
from portico.errors import ApplicationError, RequestAborted

# The ordinary.


def test_one_block_leaves_in_one_piece_with_its_length():
    sink, errors, response = run(answering([b"hello"]))
    assert sink.calls == [("head", b"hello", True)]
    assert (sink.status, sink.headers) == ("200 OK", [*PLAIN, ("Content-Length", "5")])
    assert (errors, response.sent, response.status) == ("", 5, "200 OK")


def test_a_set_length_is_not_set_twice():
    sink, errors, _ = run(answering([b"hello"], headers=[("content-length", "5")]))
    assert sink.headers == [("content-length", "5")]
    assert errors == ""


@pytest.mark.parametrize("kind", [list, tuple])
def test_small_blocks_of_a_sequence_are_joined(kind):
    sink, _, _ = run(answering(kind([b"a", b"", b"bc"])))
    assert sink.calls == [("head", b"abc", True)]
    assert sink.header("Content-Length") == ["3"]


def test_large_blocks_of_a_list_are_not_joined():
    sink, _, _ = run(answering([b"a" * 40_000, b"b" * 40_000]))
    assert [call[0] for call in sink.calls] == ["head", "body", "body"]
    assert sink.header("Content-Length") == []
    assert len(sink.body) == 80_000


@pytest.mark.parametrize("result", [[], (), [b""], [b"", b""]])
def test_nothing_is_an_empty_body_of_known_length(result):
    sink, errors, _ = run(answering(result))
    assert sink.calls == [("head", b"", True)]
    assert sink.header("Content-Length") == ["0"]
    assert errors == ""


def test_an_iterator_that_yields_nothing_still_gives_a_head():
    sink, _, _ = run(answering(iter([])))
    assert sink.calls == [("head", b"", True)]
    assert sink.header("Content-Length") == ["0"]


def test_headers_keep_their_order_and_repeats():
    headers = [("Set-Cookie", "a=1"), ("X-A", "1"), ("Set-Cookie", "b=2"), ("Content-Length", "0")]
    sink, _, _ = run(answering([b""], headers=headers))
    assert sink.headers == headers


def test_the_applications_list_is_neither_kept_nor_changed():
    headers = list(PLAIN)

    def app(_environ, start_response):
        start_response("200 OK", headers)
        headers.append(("X-Late", "1"))
        return [b"x"]

    sink, _, _ = run(app)
    assert sink.headers == [*PLAIN, ("Content-Length", "1")]
    assert headers == [*PLAIN, ("X-Late", "1")]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("result", [[b"x"], [b"x", b"y"], [], iter([b"x", b"", b"y"])])
@pytest.mark.filterwarnings("error")
def test_the_standard_librarys_validator_is_content(method, result):
    blocks = list(result)

    @validator
    def app(environ, start_response):
        environ["wsgi.errors"].flush()
        environ["wsgi.input"].read(1)
        start_response("200 OK", list(PLAIN))
        return iter(blocks)

    sink, errors, _ = run(app, method)
    assert errors == ""
    assert sink.ended
    assert sink.body == (b"" if method == "HEAD" else b"".join(blocks))


# Streaming.


def test_each_block_is_handed_on_before_the_next_is_asked_for():
    sink = Sink()
    seen = []

    def blocks():
        for block in (b"a", b"b", b"c"):
            seen.append(sink.body)
            yield block
        seen.append(sink.body)

    run(answering(blocks()), sink=sink)
    assert seen == [b"", b"a", b"ab", b"abc"]
    assert sink.calls == [
        ("head", b"a", False),
        ("body", b"b", False),
        ("body", b"c", False),
        ("body", b"", True),
    ]


def test_a_generator_of_one_block_gets_no_length():
    sink, _, _ = run(answering(block for block in [b"hello"]))
    assert sink.header("Content-Length") == []


def test_empty_blocks_are_no_reason_to_send_the_head():
    sink = Sink()
    seen = []

    def blocks():
        yield b""
        seen.append(list(sink.calls))
        yield b"a"
        seen.append(list(sink.calls))
        yield b""
        seen.append(list(sink.calls))

    run(answering(blocks()), sink=sink)
    assert seen == [[], [("head", b"a", False)], [("head", b"a", False)]]


def test_start_response_may_come_with_the_first_block():
    def app(_environ, start_response):
        start_response("201 Created", list(PLAIN))
        yield b"made"

    sink, _, _ = run(app)
    assert (sink.status, sink.body) == ("201 Created", b"made")


def test_start_response_may_come_after_empty_blocks():
    def app(_environ, start_response):
        yield b""
        start_response("201 Created", list(PLAIN))

    sink, _, _ = run(app)
    assert (sink.status, sink.body, sink.ended) == ("201 Created", b"", True)


def test_the_last_block_of_a_known_length_ends_the_response():
    sink, errors, _ = run(answering(iter([b"ab", b"cd"]), headers=[("Content-Length", "4")]))
    assert sink.calls == [("head", b"ab", False), ("body", b"cd", True)]
    assert errors == ""


def test_code_behind_the_last_block_still_runs():
    done = []

    def blocks():
        yield b"abcd"
        done.append(True)

    run(answering(blocks(), headers=[("Content-Length", "4")]))
    assert done == [True]


# write().


def test_write_precedes_the_iterable_and_is_sent_at_once():
    sink = Sink()
    seen = []

    def app(_environ, start_response):
        write = start_response("200 OK", list(PLAIN))
        write(b"")
        seen.append(list(sink.calls))
        write(b"one ")
        seen.append(sink.body)
        write(b"two ")
        seen.append(sink.body)
        return [b"three"]

    run(app, sink=sink)
    assert seen == [[], b"one ", b"one two "]
    assert (sink.body, sink.ended) == (b"one two three", True)


def test_write_alone_is_a_response():
    def app(_environ, start_response):
        start_response("200 OK", [*PLAIN, ("Content-Length", "3")])(b"abc")
        return []

    sink, errors, _ = run(app)
    assert (sink.body, sink.ended, errors) == (b"abc", True, "")


@pytest.mark.parametrize("data", ["text", 7, None, bytearray(b"x"), memoryview(b"x")])
def test_write_takes_bytes_only(data):
    def app(_environ, start_response):
        start_response("200 OK", list(PLAIN))(data)
        return []

    sink, errors, _ = run(app)
    assert_failed(sink, errors, "where bytes are due")


def test_write_after_the_request_raises():
    kept = []

    def app(_environ, start_response):
        kept.append(start_response("200 OK", list(PLAIN)))
        return [b"x"]

    sink, _, _ = run(app)
    for data in (b"late", b""):
        with pytest.raises(ApplicationError, match="ended"):
            kept[0](data)
    assert sink.body == b"x"


def test_write_after_a_failed_or_aborted_request_raises():
    kept = []

    def app(_environ, start_response):
        kept.append(start_response("200 OK", list(PLAIN)))
        kept[-1](b"x")
        raise ValueError

    run(app)
    with pytest.raises(RequestAborted):
        run(app, sink=Sink(survives=0))
    for write in kept:
        with pytest.raises(ApplicationError, match="ended"):
            write(b"late")


def test_writes_to_a_head_request_are_dropped_in_silence():
    def app(_environ, start_response):
        write = start_response("200 OK", list(PLAIN))
        write(b"one")
        write(b"two")
        return [b"three"]

    sink, errors, _ = run(app, "HEAD")
    assert (sink.status, sink.body, errors) == ("200 OK", b"", "")


def test_an_empty_write_after_the_whole_length_is_nothing():
    def app(_environ, start_response):
        write = start_response("200 OK", [("Content-Length", "3")])
        write(b"abc")
        write(b"")
        return []

    sink, errors, _ = run(app)
    assert (sink.body, errors) == (b"abc", "")


def test_writes_beyond_the_length_are_dropped_and_logged():
    def app(_environ, start_response):
        write = start_response("200 OK", [("Content-Length", "3")])
        write(b"abc")
        write(b"d")
        return [b"e"]

    sink, errors, _ = run(app)
    assert (sink.body, sink.aborted) == (b"abc", False)
    assert errors.count("more than its Content-Length of 3") == 1


# What is no iterable of bytes.


@pytest.mark.parametrize("result", ["text", ["text"], ("a", b"b"), iter(["text"]), ["a", "b"]])
def test_text_is_an_error(result):
    sink, errors, _ = run(answering(result))
    assert "str" in errors
    assert "Traceback" in errors
    assert sink.status.startswith("500")


@pytest.mark.parametrize(
    "result",
    [b"bare", None, 7, [7], [None], [[b"a"]], [bytearray(b"a")], [memoryview(b"a")], iter([7])],
)
def test_anything_but_blocks_of_bytes_is_an_error(result):
    sink, errors, _ = run(answering(result))
    assert sink.status.startswith("500")
    assert "Traceback" in errors


def test_text_after_the_head_cuts_the_response():
    sink, errors, _ = run(answering(iter([b"begun", "text"])))
    assert (sink.status, sink.body, sink.aborted) == ("200 OK", b"begun", True)
    assert "encode it" in errors


# close().


def test_close_is_called_once_on_the_object_itself():
    result = Closing([b"a", b"b"])
    sink, errors, _ = run(answering(result))
    assert (result.closed, sink.body, errors) == (1, b"ab", "")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_close_is_called_whatever_is_wrong(method):
    def failing():
        yield b"a"
        raise ValueError("in the middle")

    for make in (
        lambda: answering(Closing(failing())),
        lambda: answering(Closing(["text"])),
        lambda: answering(Closing([]), "204 No Content"),
        lambda: answering(Closing([b"ab"]), headers=[("Content-Length", "1")]),
        lambda: answering(Closing([b"ab"]), headers=[("Content-Length", "3")]),
    ):
        app = make()
        results = []

        def keeping(environ, start_response, app=app, results=results):
            results.append(app(environ, start_response))
            return results[0]

        run(keeping, method)
        assert results[0].closed == 1


def test_close_is_called_without_start_response():
    result = Closing([b"a"])
    sink, _, _ = run(lambda _environ, _start: result)
    assert (result.closed, sink.status) == (1, "500 Internal Server Error")


@pytest.mark.parametrize("survives", [0, 1, 2, 3])
def test_an_abort_stops_the_iteration_and_closes(survives):
    asked = []

    def blocks():
        for number in range(10):
            asked.append(number)
            yield b"x"

    result = Closing(blocks())
    sink = Sink(survives)
    environ = environ_for()
    with pytest.raises(RequestAborted):
        run_request(answering(result), environ, sink)
    assert (len(asked), result.closed) == (survives + 1, 1)
    assert environ["wsgi.errors"].getvalue() == ""


def test_an_abort_in_a_read_closes_and_is_no_traceback():
    def gone():
        raise RequestAborted("the frontend aborted the request")

    def app(environ, start_response):
        start_response("200 OK", list(PLAIN))
        environ["wsgi.input"].read()

    environ = environ_for("POST")
    environ["wsgi.input"] = RequestBody(b"begun", gone)
    sink = Sink()
    with pytest.raises(RequestAborted):
        run_request(app, environ, sink)
    assert environ["wsgi.errors"].getvalue() == ""
    assert sink.calls == []


def test_errors_in_close_are_logged_and_change_nothing():
    result = Closing([b"a", b"b"], error=ValueError("while closing"))
    sink, errors, _ = run(answering(result, headers=[("Content-Length", "2")]))
    assert (sink.body, sink.ended, result.closed) == (b"ab", True, 1)
    assert "while closing" in errors


def test_a_generators_cleanup_runs_on_abort():
    cleaned = []

    def blocks():
        try:
            while True:
                yield b"x"
        finally:
            cleaned.append(True)

    with pytest.raises(RequestAborted):
        run(answering(blocks()), sink=Sink(survives=3))
    assert cleaned == [True]


# Exceptions.


def test_an_exception_before_the_head_is_a_plain_500():
    def app(_environ, _start_response):
        raise ValueError("a secret <detail>")

    sink, errors, response = run(app)
    assert_failed(sink, errors, "ValueError: a secret <detail>")
    assert sink.header("Content-Type") == ["text/html; charset=utf-8"]
    assert sink.header("Content-Length") == [str(len(sink.body))]
    assert b"secret" not in sink.body
    assert response.status == "500 Internal Server Error"


def test_an_exception_after_start_response_replaces_the_head():
    def app(_environ, start_response):
        start_response("200 OK", [("X-A", "1"), ("Content-Length", "10")])
        raise ValueError

    sink, errors, _ = run(app)
    assert_failed(sink, errors, "ValueError")
    assert sink.header("X-A") == []


def test_an_exception_in_the_first_step_of_a_generator_is_a_500():
    def app(_environ, start_response):
        start_response("200 OK", list(PLAIN))
        raise ValueError
        yield b"never"

    assert_failed(*run(app)[:2], "ValueError")


def test_an_exception_after_the_head_cuts_the_response():
    def blocks():
        yield b"begun"
        raise ValueError("too late")

    sink, errors, _ = run(answering(blocks()))
    assert sink.calls == [("head", b"begun", False), ("abort",)]
    assert "ValueError: too late" in errors


def test_an_exception_after_the_whole_length_is_logged_alone():
    def blocks():
        yield b"whole"
        raise ValueError("too late to matter")

    sink, errors, _ = run(answering(blocks(), headers=[("Content-Length", "5")]))
    assert (sink.body, sink.ended, sink.aborted) == (b"whole", True, False)
    assert "too late to matter" in errors


def test_a_failed_head_request_gets_no_body():
    def app(_environ, _start_response):
        raise ValueError

    sink, _, _ = run(app, "HEAD")
    assert (sink.status, sink.body) == ("500 Internal Server Error", b"")


def test_the_debug_page_shows_the_traceback_escaped():
    def app(_environ, _start_response):
        raise ValueError("<script>\ud800")

    sink, _, _ = run(app, debug=True)
    assert b"Traceback (most recent call last)" in sink.body
    assert b"&lt;script&gt;" in sink.body
    assert b"<script>" not in sink.body
    assert sink.header("Content-Length") == [str(len(sink.body))]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_exits_are_answered_and_propagate(error):
    def app(_environ, _start_response):
        raise error

    sink = Sink()
    environ = environ_for()
    with pytest.raises(type(error)) as caught:
        run_request(app, environ, sink)
    assert caught.value is error
    assert (sink.status, sink.ended) == ("500 Internal Server Error", True)


class BrokenErrors(io.StringIO):
    def write(self, _text):
        raise OSError("no space left")


@pytest.mark.parametrize("errors", [BrokenErrors(), None])
def test_broken_wsgi_errors_fail_nothing(errors):
    def app(environ, _start_response):
        environ["wsgi.errors"] = None
        raise ValueError

    environ = environ_for()
    environ["wsgi.errors"] = errors
    sink = Sink()
    run_request(app, environ, sink)
    assert (sink.status, sink.ended) == ("500 Internal Server Error", True)


def test_closed_wsgi_errors_fail_nothing():
    def app(environ, _start_response):
        environ["wsgi.errors"].close()
        raise ValueError

    sink = Sink()
    run_request(app, environ_for(), sink)
    assert sink.status == "500 Internal Server Error"


def test_an_exception_that_cannot_be_printed_is_answered():
    class UnprintableError(Exception):
        def __str__(self):
            raise ValueError("not even this")

    def app(_environ, _start_response):
        raise UnprintableError

    sink, errors, _ = run(app)
    assert_failed(sink, errors, "UnprintableError")


def test_the_environ_may_be_emptied():
    def app(environ, start_response):
        environ.clear()
        start_response("200 OK", list(PLAIN))
        return [b"x"]

    sink = Sink()
    run_request(app, environ_for(), sink)
    assert (sink.body, sink.ended) == (b"x", True)
