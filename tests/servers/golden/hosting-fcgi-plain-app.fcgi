#!/home/me/venv/bin/python
import sys

sys.path[:0] = ['/home/me/mysite']

import portico

portico.run('mysite.wsgi')
