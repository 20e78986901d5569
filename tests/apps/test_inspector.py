from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from html import unescape
from html.parser import HTMLParser
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from portico.apps import _inspector_exercises as exercises
from portico.apps import _inspector_page as page
from portico.apps.inspector import MASK, Inspector, application

URLENCODED = "application/x-www-form-urlencoded"


class Strict(io.BytesIO):
    """An input of a server that does not simulate the end: nothing may be read beyond it."""

    def __init__(self, octets):
        super().__init__(octets)
        self.left = len(octets)
        self.largest = 0

    def read(self, size=-1):
        assert 0 <= size <= self.left
        self.largest = max(self.largest, size)
        block = super().read(size)
        self.left -= len(block)
        return block


class Answer:
    def __init__(self):
        self.status = ""
        self.headers = {}
        self.body = b""

    def start(self, status, headers, exc_info=None):
        assert exc_info is None
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        assert len(self.headers) == len(headers)
        return self.refused_write

    def take(self, blocks):
        for block in blocks:
            self.body += block

    def refused_write(self, _octets):
        raise AssertionError("write() is for old applications")

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


def environ_of(target="/", *, body=None, **more):
    path, _, query = target.partition("?")
    environ = {"SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query}
    setup_testing_defaults(environ)
    # A server sets more than the defaults; the defaults' own REQUEST_METHOD stays GET.
    environ["SERVER_PROTOCOL"] = "HTTP/1.1"
    if body is not None:
        environ["REQUEST_METHOD"] = "POST"
        environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input"] = Strict(body)
    environ.update(more)
    return environ


def call(environ, app=application):
    """Call *app* under the validator, as a server would, and close what it returned."""
    answer = Answer()
    blocks = validator(app)(environ, answer.start)
    try:
        answer.take(blocks)
    finally:
        blocks.close()
    return answer


def get(target="/", **more):
    return call(environ_of(target, **more))


def post(body, target="/?format=json", **more):
    return call(environ_of(target, body=body, **more))


class Page(HTMLParser):
    """Checks that every element is closed in order, and collects the visible text and the rows."""

    VOID = frozenset({"meta", "link", "br", "input", "wbr"})

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.ids = []
        self.labels = []
        self.links = []
        self.tags = []
        self.words = []
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.labels += [attrs["for"]] if tag == "label" else []
        self.links += [attrs[name] for name in ("href", "action", "src") if name in attrs]
        assert "style" not in attrs
        assert not [name for name in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


PORTICO = {
    "SERVER_SOFTWARE": "nginx/1.22.1",
    "REMOTE_ADDR": "192.0.2.7",
    "REMOTE_PORT": "53222",
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11; rv:140.0) Gecko/20100101 Firefox/140.0",
    "portico.protocol": "fastcgi",
    "portico.bind": "fastcgi+unix:///run/app.sock",
    "portico.version": "1.2.3",
}


# The forms


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        pytest.param("", "text/html; charset=utf-8", id="none"),
        pytest.param("*/*", "text/html; charset=utf-8", id="curl"),
        pytest.param(
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/html; charset=utf-8",
            id="browser",
        ),
        pytest.param("application/json", "application/json", id="json"),
        pytest.param("application/json, text/plain, */*", "application/json", id="json-first"),
        pytest.param("application/json, text/html", "text/html; charset=utf-8", id="tie"),
        pytest.param("text/html;q=0.5, application/json", "application/json", id="json-preferred"),
        pytest.param("application/*;q=0.9, text/*;q=0.1", "application/json", id="ranges"),
        pytest.param("text/*, text/html;q=0", "text/plain; charset=utf-8", id="html-refused"),
        pytest.param("Text/Plain", "text/plain; charset=utf-8", id="text-any-case"),
        pytest.param("image/png", "text/html; charset=utf-8", id="nothing-we-have"),
        pytest.param(";;q=,,a/b;q=x", "text/html; charset=utf-8", id="nonsense"),
    ],
)
def test_accept_decides_the_form(accept, form):
    answer = get(HTTP_ACCEPT=accept)
    assert answer.status == "200 OK"
    assert answer.headers["content-type"] == form
    assert answer.headers["vary"] == "Accept"


@pytest.mark.parametrize(("name", "form"), [("html", "html"), ("json", "json"), ("text", "plain")])
def test_format_overrules_accept(name, form):
    answer = get(f"/any/path?format={name}", HTTP_ACCEPT="image/png, text/html;q=0.1")
    assert form in answer.headers["content-type"]


@pytest.mark.parametrize("query", ["format=xml", "format=", "format=json&format=json"])
def test_unknown_format_is_refused_with_a_sentence(query):
    answer = get(f"/?{query}")
    assert answer.status == "400 Bad Request"
    assert answer.text.startswith("The parameter format is ")


def test_too_many_fields_are_refused():
    assert get("/?" + "&" * 5000 + "a=b&" * 1001).status == "400 Bad Request"


@pytest.mark.parametrize("form", ["html", "json", "text"])
def test_head_announces_what_get_would_send(form):
    head = get(f"/?format={form}", REQUEST_METHOD="HEAD")
    assert head.body == b""
    assert int(head.headers["content-length"]) > 500


def test_nothing_is_cached():
    assert get().headers["cache-control"] == "no-store"


# The route


def test_route_names_every_stop():
    route = get("/hello?format=json", **PORTICO, SCRIPT_NAME="/app").json["route"]
    thread = threading.current_thread().name
    assert route == [
        {"part": "client", "name": "Firefox", "details": ["192.0.2.7:53222", "HTTP/1.1"]},
        {"part": "front", "name": "nginx", "details": ["1.22.1"]},
        {"part": "protocol", "name": "FastCGI", "details": ["fastcgi+unix:///run/app.sock"]},
        {"part": "process", "name": str(os.getpid()), "details": [f"thread {thread}"]},
        {"part": "application", "name": "Inspector", "details": ["mounted at /app"]},
    ]


@pytest.mark.parametrize(
    ("protocol", "name"),
    [
        ("fastcgi", "FastCGI"),
        ("scgi", "SCGI"),
        ("ajp", "AJP/1.3"),
        ("uwsgi", "uwsgi"),
        ("cgi", "CGI"),
    ],
)
def test_route_knows_every_protocol(protocol, name):
    route = get("/?format=json", **{"portico.protocol": protocol}).json["route"]
    assert route[2] == {"part": "protocol", "name": name, "details": ["standard input and output"]}


def test_route_without_portico_says_so():
    report = get("/?format=json").json
    assert report["route"][2]["name"] == "no gateway"
    assert "No portico.* keys" in report["notes"][0]


def test_route_leaves_the_options_of_the_bind_url_out():
    more = {"portico.protocol": "ajp", "portico.bind": "ajp://127.0.0.1:8009?packet_size=65536"}
    assert get("/?format=json", **more).json["route"][2]["details"] == ["ajp://127.0.0.1:8009"]


def test_address_of_ipv6_keeps_its_port_apart():
    route = get("/?format=json", REMOTE_ADDR="2001:db8::1", REMOTE_PORT="80").json["route"]
    assert route[0]["details"] == ["[2001:db8::1]:80", "HTTP/1.1"]


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("curl/7.88.1", "curl"),
        ("Mozilla/5.0 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge"),
        ("Mozilla/5.0 Version/18 Safari/605", "Safari"),
        ("", "client"),
    ],
)
def test_client_is_named_after_its_user_agent(agent, name):
    assert get("/?format=json", HTTP_USER_AGENT=agent).json["route"][0]["name"] == name


# The environ


def test_environ_is_sorted_into_groups():
    more = {
        "HTTP_ACCEPT_LANGUAGE": "en",
        "HTTPS": "on",
        "SSL_PROTOCOL": "TLSv1.3",
        "DOCUMENT_ROOT": "/srv",
        "REDIRECT_STATUS": "200",
        "portico.connection": {"requests": 3},
        "wsgi.multithread": True,
    }
    groups = get("/a?format=json", **PORTICO, **more).json["environ"]
    assert list(groups) == list(page.HEADINGS)
    assert groups["request"]["REQUEST_METHOD"] == "GET"
    assert groups["mounting"] == {"SCRIPT_NAME": "", "PATH_INFO": "/a", "DOCUMENT_ROOT": "/srv"}
    assert groups["headers"]["HTTP_ACCEPT_LANGUAGE"] == "en"
    assert groups["server"]["REMOTE_ADDR"] == "192.0.2.7"
    assert groups["tls"] == {"HTTPS": "on", "SSL_PROTOCOL": "TLSv1.3"}
    assert groups["wsgi"]["wsgi.version"] == [1, 0]
    assert groups["wsgi"]["wsgi.multithread"] is True
    assert groups["portico"]["portico.connection[requests]"] == 3
    assert groups["other"] == {"REDIRECT_STATUS": "200"}


def test_every_key_is_shown_once():
    environ = environ_of("/?format=json", **PORTICO)
    names = set(environ)
    shown = [name for group in call(environ).json["environ"].values() for name in group]
    assert len(shown) == len(set(shown))
    assert set(shown) >= names


def test_objects_are_named_without_their_address():
    value = get("/?format=json").json["environ"]["wsgi"]["wsgi.errors"]
    assert value.startswith("<")
    assert "0x" not in value


def test_url_is_put_together_as_pep_3333_says():
    more = {"SCRIPT_NAME": "/app", "wsgi.url_scheme": "https", "HTTP_HOST": "example.org"}
    report = get("/ol\xc3\xa9?format=json", **more).json
    assert report["url"] == "https://example.org/app/ol%C3%A9?format=json"


def test_json_keeps_octets_as_latin_1():
    report = get("/ol\xc3\xa9?format=json").json
    assert report["environ"]["mounting"]["PATH_INFO"] == "/ol\xc3\xa9"


@pytest.mark.parametrize(
    ("native", "shown", "raw"),
    [
        pytest.param("plain", "plain", "", id="ascii"),
        pytest.param("ol\xc3\xa9", "ol\u00e9", "ol\\xc3\\xa9", id="utf-8"),
        pytest.param("ol\xe9", "ol\u00e9", "ol\\xe9", id="latin-1"),
        pytest.param("\u20ac", "\u20ac", "\\u20ac", id="no-native-string"),
        pytest.param("\x1b[31m\r\n", "\\x1b[31m\\r\\n", "", id="controls"),
        pytest.param("\xe2\x80\xaeevil", "\\u202eevil", "\\xe2\\x80\\xaeevil", id="bidi"),
    ],
)
def test_readable(native, shown, raw):
    assert page.readable(native) == (shown, raw)


def test_page_shows_text_decoded_and_raw_in_a_tooltip():
    text = get("/ol\xc3\xa9").text
    assert '<abbr title="in the environ: /ol\\xc3\\xa9">/ol\u00e9</abbr>' in text


# Secrets

SECRETS = {
    "HTTP_AUTHORIZATION": "Basic hunter2",
    "REDIRECT_HTTP_AUTHORIZATION": "Basic hunter2",
    "HTTP_COOKIE": "session=hunter2",
    "DB_PASSWORD": "hunter2",
    "my_secret_thing": "hunter2",
    "HTTP_X_API_KEY": "hunter2",
    "HTTP_X_AUTH_TOKEN": "hunter2",
    "DATABASE_URL": "postgres://app:hunter2@db/app",
    "HTTP_REFERER": "http://example.org/?a=b&user_password=hunter2&c=d",
    "portico.bind": "ajp://127.0.0.1:8009?secret=hunter2",
    "portico.connection": {"ajp_secret": "hunter2"},
    "portico.protocol": "ajp",
}


@pytest.mark.parametrize("form", ["html", "json", "text"])
def test_secrets_are_masked_in_every_form(form):
    answer = get(f"/?format={form}&password=hunter2", **SECRETS)
    assert answer.status == "200 OK"
    assert "hunter2" not in answer.text


def test_masked_names_are_listed_and_their_surroundings_kept():
    report = get("/?format=json&a=b", **SECRETS).json
    listed = {*SECRETS, "portico.connection[ajp_secret]"} - {"portico.connection"}
    assert set(report["masked"]) == listed - {"portico.protocol"}
    assert report["environ"]["headers"]["HTTP_COOKIE"] == MASK
    assert report["environ"]["headers"]["HTTP_REFERER"].endswith(f"user_password={MASK}&c=d")
    assert report["environ"]["other"]["DATABASE_URL"] == f"postgres://app:{MASK}@db/app"


def test_page_names_what_it_masked():
    assert "Masked, for they may be secret: HTTP_COOKIE." in get("/", HTTP_COOKIE="a=b").text
    assert "Masked" not in get("/").text


def test_no_query_reveals_but_the_mounter_may():
    environ = environ_of("/?format=json&reveal=1&mask=0", **SECRETS)
    assert "hunter2" not in call(dict(environ)).text
    report = call(environ, Inspector(reveal=True)).json
    assert report["masked"] == []
    assert report["environ"]["headers"]["HTTP_COOKIE"] == "session=hunter2"


# The page

HOSTILE = "\"'><script>alert(1)</script>&amp;"


def test_page_is_well_formed_and_fetches_nothing():
    answer = get("/hello", **PORTICO)
    seen = Page(answer.text)
    assert "script" not in seen.tags
    assert set(seen.labels) <= set(seen.ids)
    assert [link for link in seen.links if not link.startswith(("/", "?", "#", "data:"))] == []
    policy = answer.headers["content-security-policy"]
    style = answer.text.split("<style>")[1].split("</style>")[0]
    digest = hashlib.sha256(style.encode()).digest()
    assert f"'sha256-{page.base64.b64encode(digest).decode()}'" in policy
    assert "script" not in policy
    assert seen.text.count("FastCGI") == 2


def test_page_tells_the_way_in_one_sentence():
    text = Page(get("/hello", **PORTICO).text).text
    assert (
        f"GET http://127.0.0.1/hello came through nginx and FastCGI to process {os.getpid()},"
        in text
    )


@pytest.mark.parametrize(
    "name",
    [
        "PATH_INFO",
        "SCRIPT_NAME",
        "QUERY_STRING",
        "REQUEST_METHOD",
        "HTTP_HOST",
        "HTTP_USER_AGENT",
        "HTTP_X_<B>",
        "SERVER_SOFTWARE",
        "SERVER_PROTOCOL",
        "REMOTE_ADDR",
        "CONTENT_TYPE",
        "portico.bind",
        "portico.protocol",
        "portico.version",
        "something else",
    ],
)
def test_page_escapes_every_value(name):
    slash = "/" if name in {"PATH_INFO", "SCRIPT_NAME"} else ""
    environ = environ_of("/", **{"portico.protocol": "scgi", name: slash + HOSTILE})
    answer = Answer()
    # The validator would refuse some of these; they are the point.
    answer.body = b"".join(application(environ, answer.start))
    seen = Page(answer.text)
    assert "script" not in seen.tags
    assert "<script>" in unescape(answer.text)


def test_page_escapes_the_body():
    text = post(HOSTILE.encode(), "/").text
    assert "script" not in Page(text).tags
    assert "alert(1)" in text


@pytest.mark.parametrize(
    ("mounted", "action"),
    [("", "/"), ("/app", "/app/"), ("//evil", "/evil/"), ("/\xc3\xa9", "/%C3%A9/")],
)
def test_links_stay_below_the_mount_point(mounted, action):
    environ = environ_of("//evil.example/", SCRIPT_NAME=mounted)
    answer = Answer()
    answer.body = b"".join(application(environ, answer.start))
    links = Page(answer.text).links
    assert links.count(action) == 2
    assert not [link for link in links if link.startswith("//")]
    assert f"{action}-/error" in links


def test_footer_names_every_exercise_with_its_bounds():
    text = Page(get().text).text
    for name in exercises.EXERCISES:
        assert f"/-/{name}" in text
    for bound in ("30000", str(1 << 30), "60000", "599", str(1 << 24)):
        assert bound in text


def test_notes_appear_where_the_path_was_rewritten():
    wrong = get("/b?format=json", SCRIPT_NAME="/a", REQUEST_URI="/b?format=json", **PORTICO)
    right = get(
        "/b \xc3\xa9?format=json", SCRIPT_NAME="/a", REQUEST_URI="/a/b%20%C3%A9?x", **PORTICO
    )
    assert "REQUEST_URI" in wrong.json["notes"][0]
    assert right.json["notes"] == []
    assert "rewrote the path" in get("/b", REQUEST_URI="/c").text
    assert "rewrote the path" in get("/b?format=text", REQUEST_URI="/c").text


def test_text_never_acts_on_a_terminal():
    hostile = "\x1b]0;title\x07 \x9b2J"
    environ = environ_of(
        "/?format=text", HTTP_X=hostile, SERVER_SOFTWARE=hostile, body=b"\x1b[2J\n"
    )
    text = call(environ).text
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "\\x1b]0;title" in text


# The body


def test_body_is_measured_and_digested():
    body = "The quick brown fox \u2026".encode()
    report = post(body).json["body"]
    assert report == {
        "announced": len(body),
        "read": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "preview": body.decode(),
        "preview_kind": "text",
        "preview_bytes": len(body),
    }


def test_large_body_is_read_in_blocks_of_64_kib():
    body = bytes(range(256)) * 1000
    environ = environ_of("/?format=json", body=body)
    stream = environ["wsgi.input"]
    report = call(environ).json["body"]
    assert report["read"] == len(body)
    assert report["sha256"] == hashlib.sha256(body).hexdigest()
    assert stream.largest == 65_536
    assert report["preview_kind"] == "hex"
    assert report["preview"].startswith("0000  00 01 02 03")


def test_cut_preview_may_end_inside_a_character():
    body = ("x" + "\u20ac" * 1000).encode()
    report = post(body).json["body"]
    assert report["preview_kind"] == "text"
    assert report["preview"] == "x" + "\u20ac" * 341


def test_whole_body_that_ends_inside_a_character_is_no_text():
    assert post("\u20ac".encode()[:2]).json["body"]["preview_kind"] == "hex"


def test_body_without_length_is_read_where_the_input_ends_by_itself():
    more = {"wsgi.input": io.BytesIO(b"chunked"), "wsgi.input_terminated": True}
    report = get("/?format=json", REQUEST_METHOD="POST", **more).json["body"]
    assert (report["announced"], report["read"]) == (None, 7)


def test_body_without_length_is_not_touched_otherwise():
    report = get("/?format=json", **{"wsgi.input": Strict(b"")}).json["body"]
    assert (report["announced"], report["read"]) == (None, 0)


def test_body_shorter_than_announced_is_noted():
    environ = environ_of("/?format=json", body=b"short", CONTENT_LENGTH="9", **PORTICO)
    environ["wsgi.input"] = io.BytesIO(b"short")
    assert call(environ).json["notes"] == ["CONTENT_LENGTH announced 9 octets, the body had 5."]


@pytest.mark.parametrize("length", ["-1", "\u0663", "1" * 40, "x", ""])
def test_nonsense_length_announces_nothing(length):
    environ = environ_of("/?format=json", CONTENT_LENGTH=length)
    answer = Answer()
    answer.body = b"".join(application(environ, answer.start))
    assert answer.json["body"]["announced"] is None


def test_broken_upload_is_not_reported_as_a_body():
    class Broken(io.BytesIO):
        def read(self, _size=-1):
            raise ConnectionResetError("gone")

    environ = environ_of("/", body=b"x")
    environ["wsgi.input"] = Broken()
    with pytest.raises(ConnectionResetError):
        call(environ)


def test_page_explains_the_digest_of_a_form_with_a_file():
    text = Page(post(b"--x\r\n", "/", CONTENT_TYPE="multipart/form-data; boundary=x").text).text
    assert "curl -T" in text
    assert hashlib.sha256(b"--x\r\n").hexdigest() in text


def test_timings_are_measured():
    timings = post(b"x" * 100_000).json["timings"]
    assert 0 < timings["body_ms"] < timings["total_ms"]


# The exercises


def test_unknown_exercise_names_those_there_are():
    answer = get("/-/nothing")
    assert answer.status == "404 Not Found"
    assert "/-/download" in answer.text


@pytest.mark.parametrize(
    "target",
    [
        "sleep?ms=30001",
        "sleep?ms=-1",
        "sleep?ms=",
        "sleep?ms=1e3",
        "sleep?ms=%D9%A3",
        "sleep?ms=1&ms=1",
        "sleep?ms=" + "1" * 5000,
        f"download?bytes={(1 << 30) + 1}",
        "download?bytes=x",
        "stream?blocks=0",
        "stream?blocks=1001",
        "stream?ms=60001",
        "stream?blocks=7&ms=10000",
        "status?code=199",
        "status?code=600",
        "cut?bytes=0",
        "cut?bytes=16777217",
        "cut?announce=2",
    ],
)
def test_parameters_out_of_bounds_are_refused_with_a_sentence(target):
    answer = get(f"/-/{target}")
    assert answer.status == "400 Bad Request"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.endswith(".\n")


def test_sleep_says_how_long():
    assert get("/-/sleep?ms=1").text.startswith("Slept 1 ms in process ")


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 200_000])
def test_download_is_what_it_announces(size):
    answer = get(f"/-/download?bytes={size}")
    sha256 = hashlib.sha256(answer.body).hexdigest()
    assert len(answer.body) == size == int(answer.headers["content-length"])
    assert answer.headers["x-content-sha256"] == sha256
    assert answer.headers["etag"] == f'"{sha256}"'


def test_download_comes_in_blocks_of_which_no_two_are_alike():
    blocks = list(exercises.download_blocks(1_000_000))
    assert {len(block) for block in blocks[:-1]} == {65_536}
    assert len(set(blocks)) == len(blocks)


def test_download_knows_its_etag():
    etag = get("/-/download?bytes=10").headers["etag"]
    for asked in (etag, f'"x", W/{etag}', "*"):
        answer = get("/-/download?bytes=10", HTTP_IF_NONE_MATCH=asked)
        assert (answer.status, answer.body) == ("304 Not Modified", b"")
        assert answer.headers == {"etag": etag}
    assert get("/-/download?bytes=10", HTTP_IF_NONE_MATCH='"x"').status == "200 OK"


@pytest.mark.parametrize("target", ["download", "stream", "cut", "sleep?ms=0", "status?code=404"])
def test_head_of_an_exercise_has_no_body(target):
    answer = get(f"/-/{target}", REQUEST_METHOD="HEAD")
    assert answer.status
    assert answer.body == b""


def test_stream_yields_block_by_block(monkeypatch):
    slept = []
    monkeypatch.setattr(exercises.time, "sleep", slept.append)
    environ = environ_of("/-/stream?blocks=3&ms=200")
    blocks = iter(application(environ, Answer().start))
    assert next(blocks).startswith(b"id: 1\ndata: block 1 of 3")
    assert slept == []
    assert next(blocks).startswith(b"id: 2\n")
    assert slept == [0.2]
    assert len(list(blocks)) == 1


def test_stream_is_an_event_stream_for_who_asks():
    target = "/-/stream?blocks=1&ms=0"
    assert get(target).headers["content-type"] == "text/plain; charset=utf-8"
    events = get(target, HTTP_ACCEPT="text/event-stream")
    assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert events.body.endswith(b"\n\n")


def test_every_status_passes_the_validator():
    for code in range(200, 600):
        answer = get(f"/-/status?code={code}")
        assert answer.status.startswith(f"{code} ")
        assert bool(answer.body) == (code not in {204, 205, 304})


@pytest.mark.parametrize(
    ("code", "name", "value"),
    [
        (302, "location", "/app/"),
        (401, "www-authenticate", 'Basic realm="Portico inspector", charset="UTF-8"'),
        (405, "allow", "GET, HEAD"),
    ],
)
def test_status_brings_the_header_that_belongs_to_it(code, name, value):
    assert get(f"/-/status?code={code}", SCRIPT_NAME="/app").headers[name] == value


def test_error_raises_before_the_head():
    answer = Answer()
    with pytest.raises(RuntimeError, match="before the head"):
        application(environ_of("/-/error"), answer.start)
    assert answer.status == ""


@pytest.mark.parametrize(("announce", "length"), [(0, None), (1, "140000")])
def test_cut_raises_after_its_bytes(announce, length):
    answer = Answer()
    blocks = application(environ_of(f"/-/cut?bytes=70000&announce={announce}"), answer.start)
    with pytest.raises(RuntimeError, match="after 70000 octets"):
        answer.take(blocks)
    assert len(answer.body) == 70_000
    assert answer.status == "200 OK"
    assert answer.headers.get("content-length") == length
