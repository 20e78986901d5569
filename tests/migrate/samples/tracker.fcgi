#!/srv/venv/bin/python3
import os
import sys

sys.path.insert(0, "/srv/tracker/lib")
os.environ["TRAC_ENV"] = "/srv/tracker/env"

from flup.server.fcgi import WSGIServer
from tracker.web import dispatch

if __name__ == "__main__":
    WSGIServer(dispatch, bindAddress=("127.0.0.1", 9100), maxThreads=20, minSpare=2, color="red").run()
