import gunicorn.app.base
from shop import app


class Standalone(gunicorn.app.base.BaseApplication):
    def __init__(self, app, options=None):
        self.options = options or {}
        super().__init__()


if __name__ == "__main__":
    options = {"bind": "%s:%s" % ("127.0.0.1", "8080"), "workers": 3, "colour": 1}
    Standalone(app, options).run()
