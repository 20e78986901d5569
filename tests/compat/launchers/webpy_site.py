"""A site of web.py, which sees from its arguments how to serve: ``webpy_site.py ADDRESS fcgi``."""

import web


class Index:
    def GET(self):
        return "<h1>web.py</h1>"


class Hello:
    def GET(self, name):
        web.header("Content-Type", "text/html; charset=utf-8")
        web.setcookie("seen", "yes")
        return f"Hello {name}, {web.input(q='').q}"


class Form:
    def POST(self):
        return repr(sorted(web.input().items()))


class Away:
    def GET(self):
        raise web.seeother("/hello/you")


class Stream:
    def GET(self):
        web.header("Content-Type", "text/plain")
        for number in range(200):
            yield f"line {number}\n"


urls = ("/", "Index", "/hello/(.*)", "Hello", "/form", "Form", "/away", "Away", "/stream", "Stream")

if __name__ == "__main__":
    web.config.debug = False
    web.application(urls, globals()).run()
