"""A site of Django, served by `runfcgi` of Django 1.8: ``django_site.py option=value...``.

What Django 1.8 had and today's Django has not is put back first.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import django
import django.utils
from django.conf import settings
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

HERE = Path(__file__).parent

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    DEFAULT_CHARSET="utf-8",
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for a test",  # noqa: S106 - of no use elsewhere
    WSGI_APPLICATION=None,
)
django.setup()


def index(_request):
    print("the index was asked for", file=sys.stderr)
    return HttpResponse("<h1>Django</h1>")


def hello(request, name):
    response = HttpResponse(f"Hello {name}, {request.GET.get('q', '')}")
    response.set_cookie("seen", "yes")
    return response


@csrf_exempt
def form(request):
    return JsonResponse(dict(sorted(request.POST.items())))


def away(_request):
    return HttpResponseRedirect("/hello/you/")


def fails(_request):
    raise ValueError("on purpose")


def stream(_request):
    return StreamingHttpResponse(f"line {number}\n" for number in range(200))


urlpatterns = [
    path("", index),
    path("hello/<str:name>/", hello),
    path("form", form),
    path("away", away),
    path("fails", fails),
    path("stream", stream),
]


def load(name, file):
    """Load a file of Django 1.8 under the name that it had there."""
    spec = importlib.util.spec_from_file_location(name, HERE / "django18" / file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


six = sys.modules["django.utils.six"] = django.utils.six = ModuleType("django.utils.six")
six.PY3 = True
django.utils.daemonize = load("django.utils.daemonize", "daemonize.py")

if __name__ == "__main__":
    # views are looked up by the module's name
    sys.modules.setdefault(__name__, sys.modules["__main__"])
    sys.exit(load("django.core.servers.fastcgi", "fastcgi.py").runfastcgi(sys.argv[1:]) is False)
