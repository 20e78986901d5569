#!/bin/sh
'''exec' '/home/me/my venv/bin/python' "$0" "$@"
' '''
import sys

sys.path[:0] = ['/home/me/mysite']

import portico

portico.run("/home/me/my site/it's.py:make_app()", mount='/blog.v1')
