"""Error pages: small, valid, and silent about what failed unless asked."""

import pytest

from portico.core.pages import error_page, traceback_text

CODES = ["400", "403", "404", "411", "413", "431", "500", "502", "503", "504", "418"]


@pytest.mark.parametrize("code", CODES)
def test_page_is_html_with_its_status(code):
    page = error_page(f"{code} A Reason").decode("utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert page.endswith("</html>\n")
    assert f"<title>{code} A Reason</title>" in page
    assert f"<h1>{code} A Reason</h1>" in page
    assert "<p>T" in page
    assert "{" not in page.partition("</style>")[2]
    assert len(page) < 2000


def test_page_escapes_its_status():
    assert b"<script>" not in error_page("500 <script>")


def raised(error):
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def test_page_shows_no_error_unless_given_one():
    assert b"<pre>" not in error_page("500 Internal Server Error")
    page = error_page("500 Internal Server Error", raised(ValueError("<b>\ud800{0}")))
    assert b"<pre>Traceback (most recent call last)" in page
    assert b"ValueError: &lt;b&gt;\\ud800{0}" in page


def test_traceback_shows_causes():
    error = raised(KeyError("outer"))
    error.__cause__ = raised(ValueError("inner"))
    text = traceback_text(error)
    assert "direct cause" in text
    assert "ValueError: inner" in text
    assert "KeyError: 'outer'" in text
