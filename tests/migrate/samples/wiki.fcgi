#!/usr/bin/python3
from flup.server.fcgi import WSGIServer

from wiki import make_app

application = make_app("/srv/wiki/data")

if __name__ == "__main__":
    WSGIServer(application, multithreaded=False, umask=0o007, debug=False).run()
