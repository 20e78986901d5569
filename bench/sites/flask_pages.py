"""A small site in Flask: one page of some 8 KiB, from a template with a table."""

import os

from flask import Flask, make_response, render_template

SERVED_BY = os.environ.get("BENCH_SERVER", "nobody")
LINES = [
    {"number": number, "name": f"Item <{number}> & co.", "octets": number * 37 % 1000}
    for number in range(84)
]

application = Flask(__name__)


@application.get("/flask")
@application.get("/<_server>/flask")
def show(_server=""):
    """The page; the first word of the path is the web server's."""
    response = make_response(render_template("flask.html", title="Lines", lines=LINES))
    response.headers["X-Served-By"] = SERVED_BY
    response.headers["Cache-Control"] = "private, max-age=60"
    return response
