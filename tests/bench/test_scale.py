"""What `bench/scale.py` sends, how it judges, what it writes; and one small run of it."""

import json
import os
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from portico.codecs import server_codec
from portico.events import BodyEnded, BodyReceived, RequestReceived
from portico.limits import Limits

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
DEADLINE_SECONDS = 60


class Modules:
    """The modules of bench/, which are on the path during a test alone."""

    def __getattr__(self, name):
        return import_module(name)


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)
    yield Modules()
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(BENCH)):
            del sys.modules[name]


def cell(part, series, x, figures, wrong=""):
    spread = {key: [value, value * 0.9, value * 1.1] for key, value in figures.items()}
    return {
        "part": part, "series": series, "x": x, "wrong": wrong,
        "first": {} if wrong else dict(figures), "figures": {} if wrong else spread,
    }  # fmt: skip


def results(*cells):
    return {
        "machine": {"processor": "Some", "cores": 2, "kernel": "Linux 6", "python": "CPython 3"},
        "portico": "0.1",
        "date": "2026-11-25",
        "rounds": 5,
        "seconds": 1.0,
        "cells": list(cells),
    }


def line(bench, part, key):
    return next(one for one in bench._scale_lines.LINES if (one.part, one.key) == (part, key))


# -- lines and verdicts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "ratio", "holds"), [(10.0, 1.0, True), (11.9, 1.19, True), (12.1, 1.21, False)]
)
def test_flat_line_is_that_of_the_first_point(bench, last, ratio, holds):
    points = [(1, 10.0, 9.0, 11.0), (2, 9.0, 9.0, 9.0), (4, last, last, last)]
    found = bench._scale_lines.verdict(line(bench, "workers", "cpu_us"), "SCGI", points)
    assert (found.series, found.x, found.holds) == ("SCGI", 4, holds)
    assert found.ratio == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("last", "ratio", "holds"),
    [(83.0, 1.0, True), (40.0, 40 / 83, True), (99.0, 99 / 83, True), (101.0, 101 / 83, False)],
)
def test_straight_line_goes_through_the_first_two_points(bench, last, ratio, holds):
    points = [(1024, 20.0, 0, 0), (8192, 27.0, 0, 0), (65_536, last, 0, 0)]
    found = bench._scale_lines.verdict(line(bench, "heads", "cpu_us"), "AJP", points)
    assert (found.x, found.holds) == (65_536, holds)
    assert found.ratio == pytest.approx(ratio)


def test_straight_line_never_falls(bench):
    points = [(1024, 20.0, 0, 0), (8192, 19.0, 0, 0), (65_536, 20.0, 0, 0)]
    found = bench._scale_lines.verdict(line(bench, "heads", "cpu_us"), "AJP", points)
    assert found.ratio == 1.0


def test_points_before_the_line_begins_are_not_judged(bench):
    bodies = line(bench, "bodies", "cpu_us_a_mib")
    points = [(1024, 30_000.0, 0, 0), (1 << 20, 200.0, 0, 0), (1 << 30, 210.0, 0, 0)]
    assert bench._scale_lines.verdict(bodies, "SCGI", points).ratio == 1.05


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_points_have_no_verdict(bench, count):
    points = [(1024, 20.0, 0, 0), (8192, 27.0, 0, 0)][:count]
    assert bench._scale_lines.verdict(line(bench, "heads", "cpu_us"), "AJP", points) is None


def test_bound_counts_workers_the_load_and_the_cores(bench):
    figures = {"cpu_us": 30.0, "generator_us": 10.0}
    found = results(cell("workers", "SCGI", 1, figures))
    bound = bench._scale_lines.bound
    assert bound(found, "SCGI", 1) == pytest.approx(1e6 / 30)
    assert bound(found, "SCGI", 2) == pytest.approx(1e6 * 2 / 40)
    assert bound(found, "FastCGI", 1) == 0


# -- tables, charts, the page --------------------------------------------------------------------


def heads(last=83.0, wrong=""):
    return results(
        cell("heads", "AJP", 1024, {"cpu_us": 20.0}),
        cell("heads", "AJP", 8192, {"cpu_us": 27.0}),
        cell("heads", "AJP", 65_536, {"cpu_us": last}, wrong),
    )


def test_text_has_figures_with_spread_and_verdicts(bench):
    text = bench._scale_report.text(heads())
    assert "1 KiB" in text
    assert "20 (18-22)" in text
    assert "1.00 times, at 64 KiB" in text
    assert "does not hold" not in text
    assert "does not hold" in bench._scale_report.text(heads(200.0))


def test_cell_without_a_figure_says_why_and_has_no_verdict(bench):
    text = bench._scale_report.text(heads(wrong="not the page"))
    assert "no figure: heads, AJP, 64 KiB: not the page" in text
    assert "83" not in text
    assert "times" not in text


def test_memory_of_a_few_connections_is_not_told(bench):
    figures = {"cpu_us": 17.0, "rate": 50_000.0, "pss_mib": 20.0, "octets_a_connection": -70.0}
    many = figures | {"octets_a_connection": 900.0}
    series = "FastCGI, kept"
    text = bench._scale_report.text(
        results(cell("connections", series, 10, figures), cell("connections", series, 1000, many))
    )
    assert "too few to tell" in text
    assert "-70" not in text
    assert "900 (810-990)" in text


def test_markdown_has_a_cell_for_each_column(bench):
    (rows, lines) = bench._scale_report.tables(heads(), "heads")
    for table in (rows, lines):
        rendered = bench._scale_report.markdown(table).splitlines()
        assert len({row.count("|") for row in rendered}) == 1
        assert len(rendered) == len(table) + 1


def test_page_is_replaced_between_its_markers_alone(bench):
    old = "before\n<!-- scale: heads -->\nold\n<!-- end of scale -->\nbehind\n"
    new = bench._scale_report.page(old, heads())
    assert new.startswith("before\n<!-- scale: heads -->\n\n| µs of CPU a request | 1 KiB |")
    assert new.endswith("<!-- end of scale -->\nbehind\n")
    assert "\nold\n" not in new
    assert bench._scale_report.page(new, heads()) == new


def test_charts_are_written_for_the_parts_that_ran(bench, tmp_path):
    bench._scale_report.draw(heads(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["scale-heads.svg"]
    assert ">AJP</text>" in (tmp_path / "scale-heads.svg").read_text()


def test_committed_page_text_and_charts_are_of_the_committed_results(bench):
    report, scale = bench._scale_report, bench.scale
    found = json.loads((BENCH / "results" / "scale.json").read_text())
    page = scale.PAGE.read_text("utf-8")
    assert report.page(page, found) == page, "bench/scale.py --write-docs"
    assert (BENCH / "results" / "scale.txt").read_text("utf-8") == report.text(found)
    told = "".join(report.machine_text(found).split())
    for part in scale.PARTS:
        assert f"<!-- scale: {part} -->" in page
        for name in report.charts(part):
            drawn = "".join((BENCH / "results" / f"{name}.svg").read_text("utf-8").split())
            for piece in (told[:30], found["portico"].split()[0], found["date"]):
                assert piece in drawn


# -- what is sent --------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("octets", [1024, 8192, 65_536])
@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "ajp", "uwsgi"])
def test_head_has_exactly_so_many_octets_and_is_decoded_whole(bench, protocol, octets, many):
    request = bench._scale_parts.head_of(protocol, octets, many=many)
    assert len(request) == octets
    options = {"packet_size": 65_536} if protocol == "ajp" else {}
    (event,) = server_codec(protocol, Limits(), **options).receive_data(request)
    assert event.complete
    assert event.environ["PATH_INFO"] == "/"
    fields = [name for name in event.environ if name.startswith("HTTP_X_FIELD_")]
    assert len(fields) * 60 <= octets
    assert bool(fields) == many
    if octets == 65_536:
        assert len(fields) > 700 if many else len(event.environ["HTTP_COOKIE"]) > 60_000


@pytest.mark.parametrize("size", [1, 1024, 40_000, 1 << 20, (2 << 20) + 5])
@pytest.mark.parametrize("protocol", ["fastcgi", "scgi"])
def test_upload_is_the_body_that_its_length_says(bench, protocol, size):
    environ = bench._scale_parts.request_environ("/upload")
    upload = bench._scale_load.upload(protocol, environ, size)
    codec = server_codec(protocol, Limits())
    body, ended = b"", False
    for event in codec.receive_data(upload.head + upload.piece * upload.times + upload.end):
        if isinstance(event, RequestReceived):
            assert event.environ["CONTENT_LENGTH"] == str(size)
            body, ended = event.body, event.complete
        elif isinstance(event, BodyReceived):
            body += event.data
        elif isinstance(event, BodyEnded):
            ended = True
    assert ended
    assert body == (bytes(range(256)) * (size // 256 + 1))[:size]


class Dribble:
    """A socket whose octets come in so many at a time."""

    def __init__(self, octets, step):
        self._pieces = [octets[at : at + step] for at in range(0, len(octets), step)]
        self.sent = b""

    def sendall(self, data):
        self.sent += data

    def recv_into(self, buffer):
        piece = self._pieces.pop(0) if self._pieces else b""
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize("step", [1, 2, 7, 8, 9, 65_536, 200_000])
def test_octets_of_fastcgi_are_counted_however_they_come(bench, step):
    codec = server_codec("fastcgi", Limits())
    request = bench._scale_load.encode("fastcgi", bench._scale_parts.request_environ("/"))
    codec.receive_data(request)
    sock = Dribble(codec.send_response(1, "200 OK", [("X", "y")], b"\6" * 70_000), step)
    count = bench._scale_load.download(sock, "fastcgi", request)
    assert count == 70_000 + len(b"Status: 200 OK\r\nX: y\r\n\r\n")
    assert sock.sent == request


def test_answer_that_breaks_off_is_wrong(bench):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(DEADLINE_SECONDS)
        theirs.sendall(b"\1\6\0\1\0\5\0\0abc")
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(bench._scale_load.WrongAnswer, match="closed after 5 octets"):
            bench._scale_load.download(ours, "fastcgi", b"")


def test_other_answer_than_the_known_one_is_wrong(bench):
    for sent in (b"bad answer", b"good", b"good answer, and more"):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(sent)
            theirs.close()
            with pytest.raises(bench._scale_load.WrongAnswer, match="octets, not the 11 expected"):
                bench._scale_load.compare(ours.fileno(), b"good answer")


# -- runs ----------------------------------------------------------------------------------------


def test_wrong_cell_has_no_figure_and_the_status_is_1(bench, monkeypatch, capsys, tmp_path):
    scale = bench.scale
    fine = iter([5.0, 6.0, 7.0, 8.0])

    def wrong(_):
        raise bench._scale_load.WrongAnswer("it said no")

    def part(_stack, _directory):
        figures = lambda _: {"cpu_us": next(fine)}  # noqa: E731
        yield scale.Cell("heads", "AJP", 1024, figures, lambda: None)
        yield scale.Cell("heads", "AJP", 8192, wrong, lambda: None)

    monkeypatch.setitem(scale.PARTS, "heads", part)
    arguments = ["--parts", "heads", "--rounds", "3", "--results", str(tmp_path / "new")]
    monkeypatch.setattr(sys, "argv", ["scale.py", *arguments])
    assert scale.main() == 1
    out, progress = capsys.readouterr()
    assert "no figure: heads, AJP, 8 KiB: it said no" in out
    assert "round 3 of 3" in progress
    found = json.loads((tmp_path / "new" / "scale.json").read_text())
    assert [one["figures"] for one in found["cells"]] == [{"cpu_us": [7.0, 6.0, 8.0]}, {}]


@pytest.mark.parametrize(
    ("arguments", "where"),
    [([], True), (["--quick"], False), (["--parts", "heads"], False)],
)
def test_only_a_whole_run_writes_where_results_belong(bench, monkeypatch, arguments, where):
    monkeypatch.setattr(sys, "argv", ["scale.py", *arguments])
    assert (bench.scale.arguments().results == BENCH / "results") == where


@pytest.mark.parametrize("arguments", [["--parts", "nothing"], ["--seconds", "-1"]])
def test_bad_options_are_refused(bench, monkeypatch, capsys, arguments):
    monkeypatch.setattr(sys, "argv", ["scale.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        bench.scale.arguments()
    assert ended.value.code == 2
    assert "scale.py: error:" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["workers", pytest.param("heads", marks=pytest.mark.slow)])
def test_a_small_run_has_a_figure_for_each_cell(part, tmp_path):
    run = subprocess.run(
        [sys.executable, str(BENCH / "scale.py"), "--parts", part, "--rounds", "1",
         "--seconds", "0.02", "--results", str(tmp_path), "--json"],
        capture_output=True, text=True, timeout=DEADLINE_SECONDS, env=dict(os.environ), check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found == json.loads((tmp_path / "scale.json").read_text())
    assert {one["part"] for one in found["cells"]} == {part}
    for one in found["cells"]:
        assert not one["wrong"]
        median, low, high = one["figures"]["cpu_us"]
        assert 0 < low <= median <= high
    assert (tmp_path / f"scale-{part}.svg").exists()
    assert "farthest above it" in (tmp_path / "scale.txt").read_text()
