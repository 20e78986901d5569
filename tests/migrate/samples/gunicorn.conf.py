"""gunicorn of a Flask application, behind nginx."""

import multiprocessing
import os

NAME = "columns"
PORT = os.environ.get("PORT", "8000")

wsgi_app = f"{NAME}:create_app()"
bind = ["127.0.0.1:" + PORT, f"unix:/run/columns/{NAME}.sock"]
backlog = 512
workers = multiprocessing.cpu_count() * 2 + 1
worker_class = "gthread"
threads = 4
timeout = 60
graceful_timeout = 20
keepalive = 5
max_requests, max_requests_jitter = 1000, 100
preload_app = True
chdir = f"/srv/{NAME}"
user = "www-data"
group = "www-data"
umask = 0o007
raw_env = ["FLASK_ENV=production", "SECRET_KEY=not shown in the report"]
accesslog = "-"
errorlog = "/var/log/columns/" + "error.log"
loglevel = "warning"
access_log_format = '%(h)s "%(r)s" %(s)s'
forwarded_allow_ips = "*"
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
limit_request_line = 8190
certfile = None
proc_name = NAME
statsd_host = os.environ["STATSD"]


def post_fork(server, worker):
    server.log.info("worker %s", worker.pid)


if os.environ.get("DEBUG"):
    reload = True
