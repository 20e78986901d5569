"""The documentation says what is so: its commands, outputs, tables, links and examples."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import re
import subprocess
import sys
from importlib import import_module
from unittest import mock

import pytest

import docs_harness as docs
from portico import cli, codecs, errors, events
from portico.cli import request, up
from portico.client.exchange import BackendError
from portico.codecs import AUTO, PROTOCOLS, client_codec
from portico.config import resolve
from portico.core import environ
from portico.core.mount import NotMounted
from portico.errors import ConfigError
from portico.limits import Limits
from portico.servers import catalog, hosting
from portico.transports import bind

SOURCE = docs.ROOT / "src" / "portico"

NAMES = [str(path.relative_to(docs.ROOT)) for path in docs.PAGES]
TEXTS = {name: (docs.ROOT / name).read_text("utf-8") for name in NAMES}
PAGES = pytest.mark.parametrize("name", NAMES)

#: What argparse of Python 3.12 and earlier says twice: ``-X METHOD, --method METHOD``.
_TWICE = re.compile(r"(-\w) ('[^']*'|\S+), (--[\w-]+) \2")


def page(name):
    """The text of a page of docs/."""
    return TEXTS[f"docs/{name}.md"]


def rows(text, columns):
    """The cells of each row of the tables with so many columns, headings left out."""
    found = []
    for line in docs.without_blocks(text).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == columns:
            found.append(cells)
    heads = [at - 1 for at, cells in enumerate(found) if set(cells[0]) == {"-"}]
    return [cells for at, cells in enumerate(found) if at not in heads and at - 1 not in heads]


def code(text):
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def squeezed(text):
    """A help text as every version of argparse wraps it."""
    return _TWICE.sub(r"\1, \3 \2", " ".join(text.split()))


# -- all pages -----------------------------------------------------------------------------


def anchors(text):
    """The fragments that a page's headings have."""
    heads = re.findall(r"^#+ (.+)$", docs.without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@PAGES
def test_relative_links_lead_somewhere(name):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", docs.without_blocks(TEXTS[name])):
        if "://" in link:
            continue
        path, _, fragment = link.partition("#")
        target = docs.ROOT / name if not path else (docs.ROOT / name).parent / path
        if not target.exists() or (fragment and fragment not in anchors(target.read_text("utf-8"))):
            broken.append(link)
    assert not broken


@PAGES
def test_python_blocks_compile(name):
    for block in docs.read_blocks(TEXTS[name]):
        if block.language == "python":
            compile(block.text, f"{name}:{block.first}", "exec")


@PAGES
def test_commands_parse(name, capsys):
    for command in docs.shown_commands(TEXTS[name]):
        check_command(command)
    capsys.readouterr()


@PAGES
def test_commands_in_the_text_exist(name, capsys):
    for text in code(docs.without_blocks(TEXTS[name])):
        command = text.split()
        if command[0] != "portico" or len(command) == 1:
            continue
        if len(command) == 2 or "..." in command:
            assert command[1].startswith("-") or command[1] in cli.COMMANDS, text
        else:
            for words in docs.read_commands(text):
                check_command(words)
    capsys.readouterr()


def check_command(command):
    """Parse a command as far as that goes without doing it."""
    line = " ".join(command)
    name = command[1]
    if name.startswith("-") or "--help" in command:
        assert docs.run(command)[0] == 0, line
        return
    module = import_module(f"portico.cli.{name}")
    with mock.patch.object(module, "run", return_value=0) as ran:
        assert docs.run(command)[0] == 0, line
    (arguments,) = ran.call_args.args
    if name == "serve":
        settings, _ = resolve.resolve(arguments, {}, None)
        assert settings.bind or arguments.config, line
        for url in settings.bind:
            bind.check_exposed(bind.parse(url))
    elif name == "up":
        if arguments.server != up.BUILTIN:
            assert catalog.find_route(catalog.find_product(arguments.server), arguments.via or "")
    elif name == "request":
        assert request.split_url(arguments.url, arguments.option), line
    elif name == "decode":
        assert arguments.file, line
    elif name == "cgi":
        assert arguments.app, line
    elif name == "status":
        assert arguments.socket or arguments.config, line
    elif name == "migrate":
        assert arguments.file, line
    elif name == "check":
        resolve.resolve(arguments, {}, None)
    elif name == "init":
        assert arguments.kind in hosting.NAMES, line
    elif arguments.target == "systemd":
        assert not arguments.application or docs.run(command)[0] == 0, line
    else:
        product = catalog.find_product(arguments.target)
        (url,) = arguments.bind or [""]
        protocol = bind.parse(url).protocol if url else ""
        assert catalog.find_route(product, arguments.via, protocol), line


@PAGES
def test_blocks_hold_what_the_command_prints(name):
    for command, block in docs.marked_blocks(TEXTS[name], docs.PRINTED):
        status, printed = docs.run(command)
        assert status == 0
        if "--help" in command:
            assert squeezed(block.text) == squeezed(printed)
        else:
            assert block.text == printed


@PAGES
def test_generated_tables_are_up_to_date(name):
    """Otherwise: python tests/docs_harness.py."""
    assert docs.with_tables(TEXTS[name]) == TEXTS[name]


def test_every_page_is_in_the_index():
    linked = {
        (docs.ROOT / "docs" / link.partition("#")[0]).resolve()
        for link in re.findall(r"\]\(([^)\s]+)\)", page("index"))
        if "://" not in link
    }
    known = {path for path in docs.PAGES if path.is_relative_to(docs.ROOT / "docs")}
    decisions = {path for path in known if path.parent.name == "decisions"}
    missing = known - decisions - linked - {docs.ROOT / "docs" / "index.md"}
    assert not missing


@PAGES
def test_configuration_files_are_right(name, tmp_path):
    for block in docs.read_blocks(TEXTS[name]):
        if block.language == "yaml":
            file = tmp_path / "portico.yaml"
            file.write_text(block.text, "utf-8")
            assert resolve.gather(argparse.Namespace(), {}, str(file)).mistakes == []


# -- the tutorial --------------------------------------------------------------------------


def test_tutorial_works_as_written(tmp_path):
    text = page("tutorial/first-application")
    (source, *_) = (b.text for b in docs.read_blocks(text) if b.language == "python")
    (tmp_path / "hello.py").write_text(source)
    commands = docs.shown_commands(text)
    serve = next(words for words in commands if words[1] == "serve" and "hello.py" in words)
    address = bind.parse(serve[serve.index("--bind") + 1])
    free = f"{address.protocol}://127.0.0.1:0"
    portico = [sys.executable, "-m", "portico"]
    process = subprocess.Popen(
        [*portico, *serve[1:-1], free], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stderr.readline()
        port = re.search(r"127\.0\.0\.1:(\d+)", line)[1]
        answered = docs.marked_blocks(text, docs.ANSWERED)
        assert answered
        for command, block in answered:
            words = [word.replace(f":{address.port}/", f":{port}/") for word in command]
            done = subprocess.run(
                [*portico, *words[1:]], cwd=tmp_path, capture_output=True, timeout=30, check=True
            )
            assert done.stdout.decode().replace("\r\n", "\n") == block.text
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_systemd_page_shows_lines_of_what_is_printed():
    text = page("howto/systemd")
    command = next(words for words in docs.shown_commands(text) if "--socket" in words)
    printed = docs.run(command)[1]
    shown = [
        block.text
        for block in docs.read_blocks(text)
        if block.language == "ini" and "mysite-fastcgi.socket" in block.text
    ]
    assert len(shown) == 2
    assert shown[1] in printed
    assert set(shown[0].splitlines()) <= set(printed.splitlines())


# -- the reference -------------------------------------------------------------------------


def test_bind_options_are_all_described():
    described = {
        name: (code(default), transports.split(", "), protocols)
        for (name,), default, transports, protocols in (
            (code(cells[0]), cells[2], cells[3], cells[4])
            for cells in rows(page("reference/bind-urls"), 5)
        )
    }
    assert list(described) == list(bind._OPTIONS)
    for name, (default, transports, protocols) in described.items():
        option = bind._OPTIONS[name]
        assert tuple(transports) in {option.transports, ("all",)}, name
        assert (transports == ["all"]) == (option.transports == bind.TRANSPORTS), name
        assert protocols == (", ".join(option.protocols) or "all"), name
        value = bind._DEFAULTS[name]
        assert default == ([option.show(value)] if value or value is False else []), name


def test_bind_urls_are_good_or_refused_as_described():
    text = page("reference/bind-urls")
    refused = {code(url)[0]: words for url, words in rows(text, 2) if "://" in url and words}
    for url, words in refused.items():
        with pytest.raises(ConfigError) as caught:
            bind.check_exposed(bind.parse(url))
        assert words in str(caught.value)
    good = {
        url
        for url in code(docs.without_blocks(text))
        if re.fullmatch(r"[a-z]+(\+[a-z]+)?://\S*", url) and url not in refused
    }
    assert len(good) > 5
    for url in good:
        parsed = bind.parse(url)
        bind.check_exposed(parsed)
        assert parsed.protocol in {*PROTOCOLS, AUTO}, url


def test_environ_page_names_every_key_that_is_set():
    files = (
        "engine/gate.py", "engine/connection.py", "engine/accesslog.py", "cgi.py",
        "core/environ.py", "supervisor/worker.py",
    )  # fmt: skip
    text = "".join((SOURCE / file).read_text("utf-8") for file in files)
    keys = set(re.findall(r'"((?:wsgi|portico)\.[a-z_]+)"', text))
    described = {
        key
        for cells in rows(page("reference/environ"), 3)
        for key in code(cells[0])
        if key.startswith(("wsgi.", "portico."))
    }
    assert described == keys


def test_environ_page_names_what_is_dropped_and_filled_in():
    named = set(code(docs.without_blocks(page("reference/environ"))))
    assert named >= environ._DROPPED
    assert set(environ._AUTHORIZATION) <= named
    assert set(environ._DEFAULTS) <= named


def test_signals_page_names_every_signal_that_is_taken():
    tables = page("reference/signals").split("\n## ")
    named = [{name for cells in rows(text, 2) for name in code(cells[0])} for text in tables]
    parents = (SOURCE / "supervisor" / "parent.py").read_text("utf-8")
    taken = set(re.findall(r"signal\.(SIG\w+):", parents)) - {"SIGCHLD"}  # the system's alone
    assert named[1] == taken
    files = [SOURCE / "supervisor" / name for name in ("worker.py", "fork.py")]
    workers = "".join(file.read_text("utf-8") for file in files)
    assert named[2] == set(re.findall(r"\b(SIG(?!_|CHLD)[A-Z]+\d?)\b", workers))


def test_errors_page_names_every_exception():
    tree = {cls for _, cls in inspect.getmembers(errors, inspect.isclass)}
    known = {cls for cls in tree if issubclass(cls, errors.PorticoError)}
    named = {code(cells[0])[0] for cells in rows(page("reference/errors"), 3)}
    assert {cls.__name__ for cls in {*known, NotMounted, BackendError}} <= named


def test_codecs_page_names_every_event_and_method():
    named = set(re.findall(r"\w+", " ".join(code(docs.without_blocks(page("reference/codecs"))))))
    kinds = {cls.__name__ for cls in events.Event.__args__}
    assert kinds <= named
    for side in ("ServerCodec", "ClientCodec"):
        contract = getattr(codecs, side)
        members = {name for name in vars(contract) if not name.startswith("_")}
        assert members | set(contract.__annotations__) <= named


def test_codecs_example_serves_scgi():
    (source,) = (
        block.text
        for block in docs.read_blocks(page("reference/codecs"))
        if block.language == "python" and "import asyncio" in block.text
    )
    example = {"__name__": "example"}
    exec(compile(source, "codecs.md", "exec"), example)  # noqa: S102 - our own page

    async def ask(pieces):
        server = await asyncio.start_server(example["handle"], "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            await writer.wait_closed()
        return answer

    params = {"REQUEST_METHOD": "POST", "REQUEST_URI": "/x", "CONTENT_LENGTH": "11"}
    codec = client_codec("scgi", Limits())
    pieces = [codec.send_request(params, b"hello ", end=False), codec.send_body(b"world", end=True)]
    answer = asyncio.run(ask(pieces))
    assert answer.endswith(b"\r\n\r\nPOST /x with 11 octets of body\n")
    assert b"Status: 200 OK" in answer
    assert b"400 Bad Request" in asyncio.run(ask([b"5:A\0B\0C,"]))
    assert asyncio.run(ask([b"GET / HTTP/1.1\r\n\r\n"])) == b""


def test_conformance_page_has_every_protocol():
    heads = re.findall(r"^## (\w+)$", page("reference/conformance"), re.MULTILINE)
    assert {*PROTOCOLS.values(), "cgi"} <= {head.lower() for head in heads}


def test_environment_of_the_commands_is_documented():
    text = page("reference/cli")
    heads = re.findall(r"^## portico (\w+)$", text, re.MULTILINE)
    assert heads == list(cli.COMMANDS)


def test_contributing_names_targets_of_the_makefile():
    makefile = (docs.ROOT / "Makefile").read_text("ascii")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    named = {
        words.split()[1]
        for words in code(docs.without_blocks(page("contributing")))
        if words.startswith("make ")
    }
    assert named <= targets
    assert {"check", "test", "bench"} <= named
