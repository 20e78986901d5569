"""A site of bottle, served by its flup adapter: ``bottle_site.py PORT``."""

import sys

import bottle

site = bottle.Bottle()


@site.get("/")
def index():
    return "<h1>bottle</h1>"


@site.get("/hello/<name>")
def hello(name):
    bottle.response.set_cookie("seen", "yes", path="/")
    return bottle.template("Hello {{name}}, {{query}}", name=name, query=bottle.request.query.q)


@site.post("/form")
def form():
    return {name: bottle.request.forms.getunicode(name) for name in sorted(bottle.request.forms)}


@site.get("/away")
def away():
    bottle.redirect("/hello/you")


@site.get("/fails")
def fails():
    raise ValueError("on purpose")


@site.get("/stream")
def stream():
    bottle.response.content_type = "text/plain"
    for number in range(200):
        yield f"line {number}\n"


bottle.run(site, server="flup", host="127.0.0.1", port=int(sys.argv[1]), quiet=True)
