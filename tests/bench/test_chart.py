"""Charts are valid SVG, say what they are given, and come out the same each time."""

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

BENCH = str(Path(__file__).parents[2] / "bench")
SVG = "{http://www.w3.org/2000/svg}"

GROUPS = {
    "FastCGI": {"Portico": (17.25, 16.0, 18.0), "a <peer> & co": (171.0, 160.0, 190.0)},
    "SCGI": {"Portico": (15.0, 14.0, 16.0)},
}
SERIES = {
    "FastCGI": [(5000.0, 18.0, 17.0, 19.0), (10.0, 17.0, 16.0, 18.0)],
    "SCGI": [(10.0, 14.0, 13.0, 15.0)],
}


@pytest.fixture
def chart(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    import chart  # noqa: PLC0415  # its place is on the path in here alone

    yield chart
    sys.modules.pop("chart", None)


def draw_bars(chart, path):
    chart.bars(path, title="Hello", unit="us of CPU", groups=GROUPS, note="on this machine")


def draw_lines(chart, path, **options):
    chart.lines(path, title="Growth", x_label="connections", y_label="us", series=SERIES, **options)


def texts(path):
    root = ET.parse(path).getroot()  # noqa: S314  # our own file
    assert root.tag == SVG + "svg"
    return ["".join(text.itertext()).strip() for text in root.iter(SVG + "text")]


def test_bars_say_groups_series_figures_unit_and_note(chart, tmp_path):
    draw_bars(chart, tmp_path / "bars.svg")
    said = texts(tmp_path / "bars.svg")
    for text in ("Hello", "us of CPU", "FastCGI", "SCGI", "a <peer> & co", "17.2", "171"):
        assert text in said
    assert said.count("Portico") == 2
    assert "on this machine" in said


def test_a_series_has_one_colour_in_all_groups(chart, tmp_path):
    draw_bars(chart, tmp_path / "bars.svg")
    drawn = (tmp_path / "bars.svg").read_text()
    first, second = "fill: #0072b2", "fill: #e69f00"
    assert (drawn.count(first), drawn.count(second)) == (2, 1)


def test_lines_say_series_labels_and_the_line_it_should_be(chart, tmp_path):
    draw_lines(chart, tmp_path / "with.svg", ideal=lambda _: 17.0, log_x=True)
    draw_lines(chart, tmp_path / "without.svg", ticks=lambda x: f"{x:g} open", log_x=True)
    said = texts(tmp_path / "with.svg")
    for text in ("Growth", "connections", "us", "FastCGI", "SCGI", "10", "5,000"):
        assert text in said
    assert "the line it should be" in said
    assert "the line it should be" not in texts(tmp_path / "without.svg")
    assert "5000 open" in texts(tmp_path / "without.svg")


def test_each_series_may_have_a_line_of_its_own(chart, tmp_path):
    lines = {"FastCGI": lambda _: 17.0, "SCGI": lambda _: 14.0}
    draw_lines(chart, tmp_path / "lines.svg", ideal=lines)
    assert texts(tmp_path / "lines.svg").count("the line it should be") == 1
    dashed = [
        path for path in (tmp_path / "lines.svg").read_text().split("<path") if "dasharray" in path
    ]
    assert [colour for path in dashed for colour in ("#0072b2", "#e69f00") if colour in path] == [
        "#0072b2",
        "#e69f00",
    ]


def test_logarithmic_y_is_written_out(chart, tmp_path):
    draw_lines(chart, tmp_path / "lines.svg", log_y=True)
    assert {"10", "20"} <= set(texts(tmp_path / "lines.svg"))


@pytest.mark.parametrize("draw", [draw_bars, draw_lines])
def test_same_figures_give_the_same_octets(chart, tmp_path, draw):
    draw(chart, tmp_path / "one.svg")
    draw(chart, tmp_path / "two.svg")
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    assert "<dc:date>" not in drawn


def test_background_is_white(chart, tmp_path):
    draw_bars(chart, tmp_path / "bars.svg")
    assert "fill: #ffffff" in (tmp_path / "bars.svg").read_text()


def test_no_figures_at_all_is_still_a_picture(chart, tmp_path):
    chart.bars(tmp_path / "bars.svg", title="Nothing", unit="us", groups={"FastCGI": {}})
    chart.lines(
        tmp_path / "lines.svg",
        title="Nothing",
        x_label="x",
        y_label="y",
        series={"FastCGI": []},
        ideal=lambda x: x,
        log_x=True,
    )
    assert "Nothing" in texts(tmp_path / "bars.svg")
    assert "Nothing" in texts(tmp_path / "lines.svg")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (17.25, "17.2"),
        (171.4, "171"),
        (10_000.0, "10,000"),
        (0.01234, "0.0123"),
        (2.0, "2"),
    ],
)
def test_numbers_have_three_digits_that_count(chart, value, text):
    assert chart.number(value) == text
