"""The command as a whole: help, wrong command lines, exit statuses, pipes that close."""

import os
import subprocess
import sys
import types

import pytest

from cli_harness import WAIT, one_sentence
from portico import __version__, cli
from portico.errors import ConfigError, ProtocolError, TransportError


def portico(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "portico", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
        **options,
    )


def shell(line):
    """Run a line of bash in which PORTICO is the command; the first one's status counts."""
    line = line.replace("PORTICO", f"{sys.executable} -m portico")
    return subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )


@pytest.fixture
def stub(monkeypatch):
    """Give `portico config` another body."""

    def replace(run):
        module = types.ModuleType("portico.cli.config", "Stands in.")
        module.add_arguments = lambda _: None
        module.run = run
        monkeypatch.setitem(sys.modules, "portico.cli.config", module)

    return replace


def raising(error):
    def run(_):
        raise error

    return run


# -- help ----------------------------------------------------------------------------------


def test_without_arguments_it_shows_the_commands(capsys):
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    for name, line in cli.COMMANDS.items():
        assert f"{name} " in err
        assert line in err


def test_help_shows_the_commands(capsys):
    assert cli.main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for name, line in cli.COMMANDS.items():
        assert f"{name} " in out
        assert line in out


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command, capsys):
    assert cli.main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"usage: portico {command} ")
    assert max(map(len, out.splitlines())) <= 100


def test_version_is_the_packages(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"portico {__version__}\n"


def test_help_of_all_imports_no_command():
    code = (
        "import sys; from portico.cli import main; main(['--help'])\n"
        "print(sorted(m for m in sys.modules if m.startswith(('portico.cli.', 'portico.engine'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


# -- what is wrong is said in one sentence ---------------------------------------------------

WRONG = [
    pytest.param(["nope"], "there is no command 'nope'", id="unknown-command"),
    pytest.param(["srve"], "did you mean serve?", id="misspelt-command"),
    pytest.param(["s\u00e9rve\x1b"], r"'s\xe9rve\x1b'", id="command-with-escapes"),
    pytest.param(["--nope"], "--nope (see: portico --help)", id="unknown-option"),
    pytest.param(["--nope", "up"], "--nope", id="option-before-command"),
    pytest.param(["up", "a", "b"], "portico up: unrecognized arguments: b", id="too-much"),
    pytest.param(["up", "--serv", "nginx"], "--serv", id="abbreviation"),
    pytest.param(["up", "--server"], "portico up: --server: expected one", id="no-value"),
    pytest.param(["up", "--port", "x"], "'x' is no port from 0 to 65535", id="word-as-port"),
    pytest.param(["up", "--port", "65536"], "'65536' is no port", id="port-too-high"),
    pytest.param(["up", "--port", "-1"], "'-1' is no port", id="negative-port"),
    pytest.param(["up", "--threads", "many"], "threads is 'many', must be", id="up-threads-word"),
    pytest.param(["up", "--threads", "0"], "threads", id="up-threads-zero"),
    pytest.param(["up", "--mount", "app"], "mount: 'app' does not begin", id="up-mount"),
    pytest.param(["serve"], "no application is named: portico serve APP, or app", id="no-app"),
    pytest.param(["serve", "os:sep"], "nothing to listen on; add --bind", id="no-bind"),
    pytest.param(["serve", "os:sep", "--threads", "no"], "(command line, --threads)", id="threads"),
    pytest.param(["request"], "required: URL", id="no-url"),
    pytest.param(["config"], "required: TARGET", id="no-target"),
    pytest.param(["config", "nginxx"], "known are nginx, apache, lighttpd", id="unknown-target"),
    pytest.param(["config", "nginx", "--timeout", "x"], "--timeout", id="config-timeout"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG)
def test_wrong_command_line_gets_one_sentence(arguments, words, capsys):
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in one_sentence(err)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_refusal_of_a_command_line_names_the_help(command, capsys):
    assert cli.main([command, "--nope"]) == 2
    sentence = one_sentence(capsys.readouterr().err)
    assert sentence.startswith(f"portico {command}: ")
    assert sentence.endswith(f" (see: portico {command} --help)")


# -- exit status -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [(ConfigError, 2), (TransportError, 1), (ProtocolError, 1)],
)
def test_errors_have_their_status(error, status, stub, capsys):
    stub(raising(error("it is wrong")))
    assert cli.main(["config"]) == status
    assert capsys.readouterr() == ("", "portico: it is wrong\n")


def test_ctrl_c_ends_quietly(stub, capsys):
    stub(raising(KeyboardInterrupt()))
    assert cli.main(["config"]) == 130
    assert capsys.readouterr() == ("", "")


def test_status_of_the_command_is_passed_on(stub):
    stub(lambda _: 1)
    assert cli.main(["config"]) == 1


def test_bug_is_not_hidden(stub):
    stub(raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main(["config"])


# -- pipes and closed descriptors --------------------------------------------------------------


@pytest.mark.parametrize("arguments", ["config nginx", "--help", "serve --help", "--version"])
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_reader_that_leaves_is_no_error(arguments, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "portico", *arguments.split()],
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            timeout=WAIT,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_head_gets_its_line():
    done = shell("PORTICO config nginx | head -1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# The application: portico serve")


def test_standard_output_may_be_closed():
    done = shell("PORTICO config nginx >&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_all_standard_descriptors_may_be_closed():
    """What is opened next must not become standard output: the status shows the way."""
    done = shell("PORTICO request scgi://127.0.0.1:1/ <&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_module_runs_as_the_command_does():
    done = portico("--version")
    assert (done.returncode, done.stdout) == (0, f"portico {__version__}\n")
