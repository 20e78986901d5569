#!/home/me/venv/bin/python
import sys

sys.path[:0] = ['/home/me/mysite']

import portico

portico.run("/home/me/my site/it's.py:make_app()", mount='/blog.v1', warm=True, threads=4)
