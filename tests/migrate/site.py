"""A site as it runs behind nginx and uWSGI: its application, options, and nginx's stock lines."""

#: Shows what it is asked, and where it runs.
APP = """\
import json
import os
from beside import NAME


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    path = environ["PATH_INFO"]
    status = {"/missing": "404 Not Found", "/redirect": "302 Found"}.get(path, "200 OK")
    headers = [("Content-Type", "application/json"), ("X-Two", "1"), ("X-Two", "2")]
    if path == "/redirect":
        headers.append(("Location", "/elsewhere"))
    start_response(status, headers)
    shown = {
        "environ": {
            name: value
            for name, value in sorted(environ.items())
            if type(value) is str and name.isupper()
        },
        "scheme": environ["wsgi.url_scheme"],
        "body": len(body),
        "directory": os.path.basename(os.getcwd()),
        "variable": os.environ["COLUMNS_TITLE"],
        "imported": NAME,
        "file": os.path.basename(__file__),
        "multiprocess": environ["wsgi.multiprocess"],
        "multithread": environ["wsgi.multithread"],
    }
    return [json.dumps(shown).encode()]
"""

INI = """\
[uwsgi]
plugins = python3
base = {home}
chdir = %(base)/code
pythonpath = %(base)/lib
module = columns
callable = app
env = COLUMNS_TITLE=Columns of "1 : 2" # and more
socket = %(base)/%n.sock
chmod-socket = 666
master = true
processes = 2
threads = 3
harakiri = 30
post-buffering = 8192
buffer-size = 16384
vacuum = true
die-on-term = true
need-app = true
pidfile = %(base)/%n.pid
disable-logging = true
"""

#: As nginx ships its uwsgi_params.
STOCK = """\
uwsgi_param QUERY_STRING $query_string;
        uwsgi_param REQUEST_METHOD $request_method;
        uwsgi_param CONTENT_TYPE $content_type;
        uwsgi_param CONTENT_LENGTH $content_length;
        uwsgi_param REQUEST_URI $request_uri;
        uwsgi_param PATH_INFO $document_uri;
        uwsgi_param DOCUMENT_ROOT $document_root;
        uwsgi_param SERVER_PROTOCOL $server_protocol;
        uwsgi_param REQUEST_SCHEME $scheme;
        uwsgi_param HTTPS $https if_not_empty;
        uwsgi_param REMOTE_ADDR $remote_addr;
        uwsgi_param REMOTE_PORT $remote_port;
        uwsgi_param SERVER_PORT $server_port;
        uwsgi_param SERVER_NAME $server_name;"""
