import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
os.chdir("/srv/shop")

from django.core.servers.fastcgi import runfastcgi

runfastcgi(
    method="threaded",
    protocol="scgi",
    host="127.0.0.1",
    port=4001,
    maxchildren=3,
    daemonize="false",
)
