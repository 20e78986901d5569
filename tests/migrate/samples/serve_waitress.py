import os

from mysite.wsgi import application
from waitress import serve

serve(
    application,
    host="0.0.0.0",
    port=int(os.environ.get("PORT", "8080")),
    threads=8,
    trusted_proxy="127.0.0.1",
)
