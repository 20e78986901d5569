"""The smallest application.

In a browser, with nothing else installed:

    portico up examples/hello.py

The last lines let a web server start this very file, as CGI or as FastCGI: make it executable,
or name it ``hello.cgi`` or ``hello.fcgi`` where the host asks for that.
"""

import portico


def application(_environ, start_response):
    body = b"Hello from behind the portico.\n"
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]


if __name__ == "__main__":
    portico.run(application)
