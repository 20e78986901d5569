"""Instructions that a request costs in codec and core, and the budget that CI holds them to.

Counted by valgrind, of requests that go through codec and core in one process, without sockets
and without a clock; and of a CGI script, from its first import of Portico to the end of its answer.
What the engine adds is in `bench/instructions.py`.

  python bench/core.py [PROTOCOL ...]           count, and compare with what is on record
  python bench/core.py --record [PYTHON ...]    write down what this Python, or these, count
  python bench/core.py [PROTOCOL ...] --against CHECKOUT    compare with another Portico
  python bench/core.py [PROTOCOL ...] --functions [--against CHECKOUT]    by function

By function there are two tables: calls, bytecodes and calls of C of each function in Python, and
instructions of each function in C. With another checkout, what has changed alone. Needs valgrind.
"""

from __future__ import annotations

import argparse
import json
import marshal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import budget
import callgrind
from portico.codecs import PROTOCOLS, client_codec, server_codec
from portico.events import BodyWanted, RequestReceived
from portico.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src"
DRIVER = str(HERE / "core_requests.py")
FUNCTIONS = str(HERE / "core_functions.py")
START = str(HERE / "core_start.py")

#: A program that stands for the Python that runs it; no protocol.
REFERENCE = "reference"

READ_BYTES = 65_536

NAMES = (*dict.fromkeys(PROTOCOLS.values()), "cgi")

#: Requests before the counting, in which CPython adapts its code to them, and those counted.
BEFORE, COUNTED = 100, 100

#: A browser's request as nginx 1.22 passes it on: 26 parameters, about 900 octets.
GET = {
    "QUERY_STRING": "page=2&sort=name",
    "REQUEST_METHOD": "GET",
    "CONTENT_TYPE": "",
    "CONTENT_LENGTH": "",
    "SCRIPT_NAME": "/app",
    "REQUEST_URI": "/app/articles/list?page=2&sort=name",
    "DOCUMENT_URI": "/app/articles/list",
    "DOCUMENT_ROOT": "/srv/www",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REQUEST_SCHEME": "http",
    "GATEWAY_INTERFACE": "CGI/1.1",
    "SERVER_SOFTWARE": "nginx/1.22.1",
    "REMOTE_ADDR": "192.0.2.7",
    "REMOTE_PORT": "53294",
    "SERVER_ADDR": "192.0.2.1",
    "SERVER_PORT": "80",
    "SERVER_NAME": "www.example.test",
    "REDIRECT_STATUS": "200",
    "PATH_INFO": "/articles/list",
    "HTTP_HOST": "www.example.test",
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "HTTP_ACCEPT": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "HTTP_ACCEPT_LANGUAGE": "en-GB,en;q=0.7,de;q=0.3",
    "HTTP_ACCEPT_ENCODING": "gzip, deflate, br",
    "HTTP_COOKIE": "session=6f1ed002ab5595859014ebf0951522d9; theme=dark",
    "HTTP_REFERER": "https://www.example.test/app/articles/list?page=1",
}

#: 16 KiB of a form, and 30 parameters.
FORM = b"text=" + b"a+line+of+a+form;" * 963 + b"&end="
POST = {
    **GET,
    "REQUEST_METHOD": "POST",
    "CONTENT_TYPE": "application/x-www-form-urlencoded",
    "CONTENT_LENGTH": str(len(FORM)),
    "HTTP_ORIGIN": "https://www.example.test",
    "HTTP_CACHE_CONTROL": "max-age=0",
    "HTTP_SEC_FETCH_SITE": "same-origin",
    "HTTP_UPGRADE_INSECURE_REQUESTS": "1",
}


def environ_for(protocol: str, environ: dict[str, str]) -> dict[str, str]:
    """Give *environ* as a web server sends it by *protocol*."""
    if protocol == "scgi":  # which demands a length
        return {**environ, "CONTENT_LENGTH": environ["CONTENT_LENGTH"] or "0"}
    return environ


def deliveries(protocol: str, environ: dict[str, str], body: bytes) -> list[bytes]:
    """Give what a web server sends, in the pieces that one read each brings."""
    options = {"keep_open": True} if protocol in {"fastcgi", "ajp"} else {}
    client = client_codec(protocol, Limits(), **options)
    server = server_codec(protocol, Limits())
    environ = environ_for(protocol, environ)
    if not client.body_on_demand or not body:
        return [client.send_request(environ, body)]
    # AJP: the first packet of body comes of its own accord, each further one when asked for
    sent = [client.send_request(environ, body)]
    event = server.receive_data(sent[0])[0]
    if type(event) is not RequestReceived:
        raise SystemExit("the server codec did not understand its own client codec")
    while True:
        server.want_body(event.request_id, READ_BYTES)
        wanted = client.receive_data(server.data_to_send())
        if not any(type(wish) is BodyWanted for wish in wanted):
            return sent
        sent.append(client.send_body(b""))
        server.receive_data(sent[-1])


def plan(protocol: str, directory: str) -> dict[str, Any]:
    """Give what the script under valgrind reads: the cases of *protocol*."""
    cases = []
    for kind, environ, body, application, answer in (
        ("get", GET, b"", "hello", b"This is a small page.\n"),
        ("post", POST, FORM, "page", b"This is one line of a page."),
    ):
        case: dict[str, Any] = {
            "name": f"{protocol} {kind}",
            "application": application,
            "answer": answer,
        }
        if protocol == "cgi":
            case["environ"], case["body"] = environ, body
        elif protocol != REFERENCE:
            case["deliveries"] = deliveries(protocol, environ, body)
        cases.append(case)
    return {
        "protocol": protocol,
        "before": BEFORE,
        "counted": COUNTED,
        "cases": [{"name": REFERENCE, "answer": b"name: value 1"}]
        if protocol == REFERENCE
        else cases,
        "body": f"{directory}/body",
        "answers": f"{directory}/answers",
    }


def count(
    protocols: Sequence[str], source: Path = SOURCE, python: str = sys.executable
) -> dict[str, callgrind.Part]:
    """Give what one request costs in each case of *protocols*.

    Args:
        protocols: Names, `REFERENCE` among them perhaps.
        source: Directory that Portico is imported from.
        python: The interpreter.

    Raises:
        CountingError: valgrind failed, or a request did.
    """
    jobs: list[tuple[Any, str]] = [(_count, name) for name in protocols]
    if "cgi" in protocols:
        jobs.append((_count_start, "cgi start"))
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda job: job[0](job[1], source, python), jobs)
        return {name: part for cases in found for name, part in cases.items()}


def _count(protocol: str, source: Path, python: str) -> dict[str, callgrind.Part]:
    with tempfile.TemporaryDirectory(prefix="portico-core-") as directory:
        names, path = _write_plan(protocol, directory)
        parts = callgrind.parts([DRIVER, path], callgrind.environment(source), python=python)
    # what is between the marks of two cases is the preparation of the second
    return {
        name: callgrind.Part(
            round(part.instructions / COUNTED),
            {function: round(own / COUNTED) for function, own in part.by_function.items()},
        )
        for name, part in zip(names, parts[::2], strict=True)
    }


def _write_plan(protocol: str, directory: str) -> tuple[list[str], str]:
    """Write the plan down for a script; gives the cases' names and its path."""
    todo = plan(protocol, directory)
    path = Path(directory, "plan")
    path.write_bytes(marshal.dumps(todo, 4))  # which each Python since 3.4 reads
    return [case["name"] for case in todo["cases"]], str(path)


def _count_start(name: str, source: Path, python: str) -> dict[str, callgrind.Part]:
    environment = {**callgrind.environment(source), **GET}
    # without valgrind first: Python compiles what it imports once, and keeps it
    done = subprocess.run(
        [python, "-S", START], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode or "Status: 200 OK" not in done.stdout:
        raise callgrind.CountingError(f"{START}: {done.stdout}{done.stderr}")
    return {name: callgrind.parts([START], environment, python=python)[0]}


def counts(python: str = sys.executable, protocols: Sequence[str] = NAMES) -> budget.Counts:
    """Count the cases of *protocols* and the reference, as they go on record."""
    asked = subprocess.run(
        [python, "-c", "import budget; print(budget.this_python())"],
        cwd=HERE, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    found = {
        name: part.instructions
        for name, part in count([REFERENCE, *protocols], python=python).items()
    }
    return budget.Counts(asked.stdout.strip(), found.pop(REFERENCE), found)


def functions(protocol: str, source: Path) -> dict[str, dict[str, list[float]]]:
    """Give calls, bytecodes and calls of C, by case and function in Python, of one request."""
    with tempfile.TemporaryDirectory(prefix="portico-core-") as directory:
        _, path = _write_plan(protocol, directory)
        done = subprocess.run(
            [sys.executable, "-S", FUNCTIONS, path],
            env=callgrind.environment(source), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
    if done.returncode:
        raise callgrind.CountingError(done.stderr)
    found: dict[str, dict[str, list[float]]] = json.loads(done.stdout)
    return found


def show_functions(protocols: Sequence[str], there: Path | None) -> None:
    """Print what one request runs, by function; with another checkout what differs from it."""
    in_c = count(protocols)
    in_c_there = count(protocols, there) if there else {}
    for protocol in protocols:
        in_python = functions(protocol, SOURCE)
        in_python_there = functions(protocol, there) if there else {}
        for case, here in in_python.items():
            _print_head(f"{case}, in Python", "calls", "bytecodes", "calls of C")
            _print_rows(here, in_python_there.get(case), by=1)
            _print_head(f"{case}, in C", "instructions")
            _print_rows(_rows(in_c[case]), _rows(in_c_there[case]) if there else None, by=0)


def _rows(part: callgrind.Part) -> dict[str, list[float]]:
    return {name: [own] for name, own in part.by_function.items()}


#: Rows of a table; the rest together is little.
_MOST_ROWS = 25


def _print_head(what: str, *columns: str) -> None:
    print(f"\n{what:60}" + "".join(f"{column:>16}" for column in columns))


def _print_rows(
    here: Mapping[str, Sequence[float]], there: Mapping[str, Sequence[float]] | None, *, by: int
) -> None:
    """Print a table of functions, the largest first, or the largest differences."""
    if there is None:
        rows = {name: [f"{number:,.0f}" for number in row] for name, row in here.items()}
        weight = {name: row[by] for name, row in here.items()}
    else:
        none = [0.0] * len(next(iter(here.values())))
        rows, weight = {}, {}
        for name in {**here, **there}:
            now, before = here.get(name, none), there.get(name, none)
            rows[name] = [
                f"{new:,.0f} {new - old:+,.0f}" if new != old else f"{new:,.0f} ="
                for new, old in zip(now, before, strict=True)
            ]
            weight[name] = abs(now[by] - before[by])
    largest = sorted(rows, key=lambda name: -weight[name])[:_MOST_ROWS]
    for name in largest:
        if weight[name]:
            print(f"  {name[-58:]:58}" + "".join(f"{text:>16}" for text in rows[name]))


def show_counts(protocols: Sequence[str], there: Path | None) -> bool:
    """Print the counts beside those of another checkout, or those on record; whether all pass."""
    if there is not None:
        here, other = count(protocols), count(protocols, there)
        for case, part in here.items():
            before = other[case].instructions
            print(
                f"{case:14}{part.instructions:10,d} instructions a request, {before:10,d} there,"
                f" ratio {part.instructions / before:.3f}"
            )
        return True
    records = budget.load()
    seen = counts(protocols=protocols)
    print(f"{seen.python}, reference {seen.reference:,}")
    if budget.on_record(seen, records) is None:
        print(budget.not_on_record(seen, records))
    faults = []
    for case, instructions in seen.cases.items():
        verdict = budget.judge(case, seen, records)
        print(f"{case:14}{instructions:10,d} instructions a request, ratio {verdict.ratio:.3f}")
        faults += [verdict.fault] if verdict.fault else []
    print("\n".join(faults))
    return not faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="PROTOCOL", help=", ".join(NAMES))
    parser.add_argument("--against", metavar="CHECKOUT", help="another Portico to compare with")
    parser.add_argument("--functions", action="store_true", help="what runs, by function")
    parser.add_argument("--json", action="store_true", help="print the counts for a program")
    parser.add_argument("--record", action="store_true", help="of the PYTHONs, instead of names")
    options = parser.parse_args()
    if callgrind.missing():
        parser.error("valgrind must be installed (Debian: apt-get install valgrind)")
    try:
        return run(options, parser)
    except callgrind.CountingError as error:
        sys.exit(str(error))


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Do what was asked for; gives the exit status."""
    there = Path(options.against).resolve() / "src" if options.against else None
    if there and not there.is_dir():
        parser.error(f"no checkout of Portico: {there} is no directory")
    if options.record:
        for python in options.names or [sys.executable]:
            seen = counts(python)
            budget.store(seen)
            print(f"{seen.python}, reference {seen.reference:,}: on record", flush=True)
        return 0
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no protocol: {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    names = options.names or NAMES
    if options.functions:
        show_functions(names, there)
    elif options.json:
        print(json.dumps(counts(protocols=names)._asdict()))
    elif not show_counts(names, there):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
