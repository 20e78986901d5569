"""A small site in Django: one page of some 8 KiB, from a template with a table."""

import os
from pathlib import Path

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.shortcuts import render
from django.urls import path

SERVED_BY = os.environ.get("BENCH_SERVER", "nobody")
LINES = [
    {"number": number, "name": f"Item <{number}> & co.", "octets": number * 37 % 1000}
    for number in range(84)
]

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    ROOT_URLCONF=__name__,
    SECRET_KEY="a benchmark keeps no secret",  # noqa: S106 - as it says
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "DIRS": [Path(__file__).with_name("templates")],
        }
    ],
)
django.setup()


def show(request, _server=""):
    """The page; the first word of the path is the web server's."""
    response = render(request, "django.html", {"title": "Lines", "lines": LINES})
    response["X-Served-By"] = SERVED_BY
    response["Cache-Control"] = "private, max-age=60"
    return response


urlpatterns = [path("django", show), path("<str:_server>/django", show)]
application = WSGIHandler()
