"""A Flask site in one file: a form, an upload, a redirect, a streamed answer, an error.

Behind the built-in front, then behind nginx:

    pip install flask
    portico up examples/flask_site.py
    portico up examples/flask_site.py --server nginx --via fastcgi
"""

import hashlib
import time

from flask import Flask, Response, redirect, render_template_string, request, url_for

app = Flask(__name__)

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Flask behind Portico</title>
<h1>Flask behind Portico</h1>
<form method="post" action="{{ url_for('greet') }}">
  <label>Your name <input name="name" required></label> <button>Greet me</button>
</form>
<form method="post" action="{{ url_for('upload') }}" enctype="multipart/form-data">
  <label>A file <input type="file" name="file" required></label> <button>Send it</button>
</form>
<p><a href="{{ url_for('stream') }}">A streamed answer</a>,
<a href="{{ url_for('error') }}">an error</a></p>
</html>
"""


@app.get("/")
def index():
    return render_template_string(PAGE)


@app.post("/greet")
def greet():
    # The answer to a form is a redirect, so that reloading does not send it again.
    return redirect(url_for("hello", name=request.form["name"]), 303)


@app.get("/hello/<name>")
def hello(name):
    return render_template_string("<!doctype html><p>Hello, {{ name }}!</p>\n", name=name)


@app.post("/upload")
def upload():
    file = request.files["file"]
    digest = hashlib.file_digest(file.stream, "sha256").hexdigest()
    text = f"{file.filename}: {file.stream.tell()} octets, SHA-256 {digest}\n"
    return Response(text, mimetype="text/plain")


@app.get("/stream")
def stream():
    return Response(lines(), mimetype="text/plain", headers={"X-Accel-Buffering": "no"})


def lines():
    for number in range(1, 11):
        yield f"line {number} of 10\n"
        time.sleep(0.1)


@app.get("/error")
def error():
    raise RuntimeError("asked for by /error")
