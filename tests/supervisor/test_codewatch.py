"""``--reload``: changed code is loaded by itself, and a mistake in it is not the end."""

import subprocess
import sys

from cli_harness import WAIT, Command, eventually, one_sentence
from portico import cli

APPLICATION = """\
import shop_texts

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [shop_texts.GREETING]
"""


def test_changed_code_is_loaded_by_itself(tmp_path):
    (tmp_path / "site.py").write_text(APPLICATION)
    texts = tmp_path / "shop_texts.py"
    texts.write_text("GREETING = b'first'\n")
    bind = f"scgi+unix://{tmp_path}/app.sock"

    def answer():
        done = subprocess.run(
            [sys.executable, "-m", "portico", "request", f"{bind}:/"],
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        return done.stdout

    with Command(
        "serve", "site.py", "--bind", bind, "--reload", cwd=tmp_path, env={"PYTHONPATH": ""}
    ) as command:
        command.await_text("serving", "err")
        assert answer() == "first"
        texts.write_text("GREETING = b'the second'\n")
        command.await_text("shop_texts.py has changed", "err")
        eventually(lambda: answer() == "the second", "the second version")
        texts.write_text("GREETING = = b'a mistake'\n")
        command.await_text("not reloaded: (?:.|\n)*SyntaxError", "err")
        assert answer() == "the second"
        (tmp_path / "unrelated.txt").write_text("nothing")
        texts.write_text("GREETING = b'the third one'\n")
        eventually(lambda: answer() == "the third one", "the third version")


def test_without_a_parent_nothing_can_be_reloaded(capsys):
    arguments = ["serve", "site:app", "--bind", "scgi://127.0.0.1:0", "--reload", "--workers", "0"]
    assert cli.main(arguments) == 2
    assert "reload needs a parent process" in one_sentence(capsys.readouterr().err)
