"""nginx as `portico config` has it, and what a test changes in that."""

from portico.servers import nginx


def change_nginx(monkeypatch, change):
    """Have each nginx that is launched read something else.

    Args:
        monkeypatch: The test's.
        change: Given the configuration's text and the site; gives the other one.
    """
    plain = nginx.render_standalone

    def render(site, directory, *, user=""):
        files = plain(site, directory, user=user)
        text = change(files["nginx.conf"], site)
        assert text != files["nginx.conf"]
        return files | {"nginx.conf": text}

    monkeypatch.setattr(nginx, "render_standalone", render)


def add_to_nginx(monkeypatch, line):
    """The same with one line more in ``http { }``; ``{via}`` stands for the protocol's name."""

    def change(text, site):
        at = "    access_log off;\n"
        return text.replace(at, f"{at}    {line.format(via=site.via)}\n")

    change_nginx(monkeypatch, change)


def forbid_second_tries(monkeypatch):
    """The same, but that it never asks a second time: what is lost, a visitor sees."""
    add_to_nginx(monkeypatch, "{via}_next_upstream off;")
