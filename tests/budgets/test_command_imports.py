"""What a command loads when it is run: its own rooms, and none before they are needed."""

import os
import subprocess
import sys
from pathlib import Path

import portico

SOURCE = str(Path(portico.__file__).parent.parent)

COMMAND = """\
import sys
sys.path.insert(0, {source!r})
from portico.cli import main
main({arguments!r})
sys.stderr.write("\\n" + "|".join(sys.modules))
"""


def loaded_by(*arguments, stdin=b""):
    """The modules in an interpreter that has run a command and loads nothing of its own accord."""
    code = COMMAND.format(source=SOURCE, arguments=list(arguments))
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-s", "-c", code],
        input=stdin,
        capture_output=True,
        env={"PATH": os.environ["PATH"]},
        timeout=20,
        check=True,
    )
    return set(done.stderr.decode().splitlines()[-1].split("|"))


def test_a_request_loads_no_dissector_unasked(tmp_path):
    url = f"scgi+unix://{tmp_path}/none:/"
    assert not {name for name in loaded_by("request", url) if name.startswith("portico.trace")}
    assert "portico.trace.scgi" in loaded_by("request", url, "--records")


def test_decoding_loads_what_explains_and_no_sockets():
    loaded = loaded_by("decode", "-", stdin=b"24:CONTENT_LENGTH\x000\0SCGI\x001\0,")
    assert "portico.trace.scgi" in loaded
    assert "portico.trace.ajp" not in loaded
    own = {name.split(".")[1] for name in loaded if name.startswith("portico.")}
    assert not own & {"client", "engine", "config", "servers", "core"}
    assert not loaded & {"socket", "select", "threading", "subprocess", "yaml", "logging"}
