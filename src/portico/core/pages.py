"""Error pages: plain for visitors, with the traceback where the operator asked for it."""

import html
import traceback

from portico.refusals import status_line

_SENTENCES = {
    "400": "The request could not be understood.",
    "403": "The request was refused.",
    "404": "There is nothing at this address.",
    "411": "The request needs a length.",
    "413": "The request is too large.",
    "431": "The request's headers are too large.",
    "500": "The application could not answer this request.",
    "502": "The application server gave no usable answer.",
    "503": "The application is busy. Please try again in a moment.",
    "504": "The application did not answer in time.",
}

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{status}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 15vh auto 3rem;
  padding: 0 1.5rem }}
h1 {{ font-size: 1.4rem; font-weight: 600 }}
pre {{ overflow-x: auto; padding: 1rem; border: 1px solid; border-radius: .4rem;
  font-size: .85rem }}
</style>
</head>
<body>
<h1>{status}</h1>
<p>{sentence}</p>
{detail}</body>
</html>
"""


def error_page(
    status: str, error: "BaseException | None" = None, *, reference: str = "", text: str = ""
) -> bytes:
    """Make a small HTML page in UTF-8.

    Args:
        status: Code and reason.
        error: Shown with its traceback; for the operator alone, never by default.
        reference: By which the operator finds the error in the log.
        text: Shown as it is; for the operator alone as well.
    """
    detail = ""
    if reference:
        detail = f"<p>In the log it is error <code>{html.escape(reference)}</code>.</p>\n"
    if error is not None:
        text = traceback_text(error)
    if text:
        detail += f"<pre>{html.escape(text)}</pre>\n"
    sentence = _SENTENCES.get(status[:3], "The request could not be answered.")
    page = _PAGE.format(status=html.escape(status), sentence=sentence, detail=detail)
    return page.encode("utf-8", "backslashreplace")


def refusal(code: int) -> "tuple[str, list[tuple[str, str]], bytes]":
    """Make the response to a request that is answered *code* without an application."""
    status = status_line(code)
    body = error_page(status)
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))]
    return status, headers, body


def traceback_text(error: BaseException) -> str:
    """Format *error* with its traceback and causes, as the interpreter would print it."""
    return "".join(traceback.format_exception(error))
