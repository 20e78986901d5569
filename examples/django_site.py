"""A Django site in one file: a form, an upload, a redirect, a streamed answer, an error.

Behind the built-in front, then behind Apache:

    pip install django
    portico up examples/django_site.py
    portico up examples/django_site.py --server apache --via ajp
"""

import hashlib
import os
import time

from django.conf import settings
from django.core.management.utils import get_random_secret_key

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["localhost", "127.0.0.1", "[::1]"],
        DEBUG=False,
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
        ],
        ROOT_URLCONF=__name__,
        # A site with sessions keeps its key, and gives all of its processes the same one.
        SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY") or get_random_secret_key(),
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    )

from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.template import engines
from django.urls import path
from django.views.decorators.http import require_POST

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Django behind Portico</title>
<h1>Django behind Portico</h1>
<form method="post" action="{% url 'greet' %}">{% csrf_token %}
  <label>Your name <input name="name" required></label> <button>Greet me</button>
</form>
<form method="post" action="{% url 'upload' %}" enctype="multipart/form-data">{% csrf_token %}
  <label>A file <input type="file" name="file" required></label> <button>Send it</button>
</form>
<p><a href="{% url 'stream' %}">A streamed answer</a>, <a href="{% url 'error' %}">an error</a></p>
</html>
"""


def render(request, text, **context):
    template = engines["django"].from_string(text)
    return HttpResponse(template.render(context, request))


def index(request):
    return render(request, PAGE)


@require_POST
def greet(request):
    # The answer to a form is a redirect, so that reloading does not send it again.
    response = redirect("hello", name=request.POST.get("name") or "nobody")
    response.status_code = 303
    return response


def hello(request, name):
    return render(request, "<!doctype html><p>Hello, {{ name }}!</p>\n", name=name)


@require_POST
def upload(request):
    file = request.FILES["file"]
    digest = hashlib.sha256()
    for block in file.chunks():
        digest.update(block)
    text = f"{file.name}: {file.size} octets, SHA-256 {digest.hexdigest()}\n"
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


def stream(_request):
    response = StreamingHttpResponse(lines(), content_type="text/plain; charset=utf-8")
    response["X-Accel-Buffering"] = "no"
    return response


def lines():
    for number in range(1, 11):
        yield f"line {number} of 10\n"
        time.sleep(0.1)


def error(_request):
    raise RuntimeError("asked for by /error")


urlpatterns = [
    path("", index, name="index"),
    path("greet", greet, name="greet"),
    path("hello/<str:name>", hello, name="hello"),
    path("upload", upload, name="upload"),
    path("stream", stream, name="stream"),
    path("error", error, name="error"),
]

application = get_wsgi_application()
