#!/usr/bin/env python3
from wsgiref.handlers import CGIHandler
from hgweb import hgweb
application = hgweb("/srv/hg/config")
CGIHandler().run(application)
