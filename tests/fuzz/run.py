"""Coverage-guided fuzzing: every target for some seconds, two at a time, and a table at the end.

    make fuzz FUZZ_SECONDS=60
    make fuzz FUZZ_TARGET=ajp-server

What a run finds lies in build/fuzz: `crashes` are inputs that broke an invariant, hung or took
too much memory; `corpus` are inputs that reached something new. `--keep` takes those of them
that add coverage into the corpus of the repository.

Exit status: 0 without a finding, 1 with one, 2 for wrong arguments or without atheris, 130 after
Ctrl-C.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
CORPUS = Path(__file__).with_name("corpus")
SCRATCH = TESTS.parent / "build" / "fuzz"
CRASHES = SCRATCH / "crashes"

NAMES = (
    *(f"{protocol}-server" for protocol in ("fastcgi", "scgi", "ajp", "uwsgi")),
    *(f"{protocol}-client" for protocol in ("fastcgi", "scgi", "ajp", "uwsgi")),
    "fastcgi-several",
    "head",
    "environ",
)

#: What makes one input a finding by itself: seconds, and megabytes of the whole process.
INPUT_SECONDS = 10
MEMORY_MB = 1024

#: Octets of the longest input that is tried.
MOST_BYTES = 8192

AT_A_TIME = 2

#: Words that a fuzzer does not guess: names that change what a request or a response means.
WORDS = (
    "CONTENT_LENGTH", "REQUEST_METHOD", "SCGI", "HTTP_HOST", "HTTP_COOKIE", "HTTP_PROXY",
    "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_AUTHORIZATION", "UWSGI_FILE", "HTTPS",
    "REDIRECT_HTTP_AUTHORIZATION", "SCRIPT_NAME", "PATH_INFO", "REQUEST_URI", "SCRIPT_FILENAME",
    "proxy:fcgi://h:1/", "SERVER_SOFTWARE", "nginx/", "Microsoft-IIS/", "APPL_MD_PATH",
    "/LM/W3SVC/1/ROOT/", "DOCUMENT_URI", "REMOTE_USER", "wsgi.input", "REQUEST_SCHEME", "chunked",
    "Status: ", "HTTP/1.1 200 OK", "Content-Length: ", "Location: ", "\r\n\r\n", "FCGI_MAX_CONNS",
    "FCGI_MPXS_CONNS", "AJP_REMOTE_PORT",
)  # fmt: skip


class Report:
    """What is known of one target's run, read from what libFuzzer printed.

    Attributes:
        findings: Names of the files in `CRASHES` that this run wrote.
    """

    def __init__(self, name: str, seconds: float, log: str, findings: list[str]) -> None:
        self.name = name
        self.findings = findings
        counts = re.findall(r"^#(\d+)\s", log, re.MULTILINE)
        final = re.search(r"stat::number_of_executed_units:\s*(\d+)", log)
        self.executions = int(final[1] if final else counts[-1] if counts else 0)
        self.rate = int(self.executions / seconds) if seconds else 0
        lines = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/(\S+)", log)
        self.edges, self.features, self.inputs, self.size = lines[-1] if lines else ("", "", "", "")

    def row(self) -> tuple[str, ...]:
        found = " ".join(self.findings) or "none"
        return (
            self.name, f"{self.executions:,}", f"{self.rate:,}", self.edges, self.features,
            f"{self.inputs} ({self.size})", found,
        )  # fmt: skip


def table(reports: list[Report]) -> str:
    """Lay the reports out in columns."""
    head = ("target", "executions", "exec/s", "edges", "features", "corpus", "findings")
    rows = [head, *(report.row() for report in reports)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if 0 < at < 5 else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


class Run:
    """One target in a process of its own."""

    def __init__(self, name: str, seconds: int) -> None:
        self.name = name
        self._seconds = seconds
        new = SCRATCH / "corpus" / name
        new.mkdir(parents=True, exist_ok=True)
        self._log = SCRATCH / f"{name}.log"
        self._before = set(self._artifacts())
        self._started = time.monotonic()
        arguments = [
            str(new),
            str(CORPUS / name),
            f"-max_total_time={seconds}",
            f"-artifact_prefix={CRASHES / name}-",
            f"-dict={dictionary()}",
            "-print_final_stats=1",
            *bounds(),
        ]
        with self._log.open("wb") as log:
            # In a session of its own, so that Ctrl-C reaches it from here alone, once.
            self._process = subprocess.Popen(
                child(name, arguments),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _artifacts(self) -> list[str]:
        return sorted(path.name for path in CRASHES.glob(f"{self.name}-*"))

    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """End the process: asked first, then not asked."""
        for ask in (signal.SIGINT, signal.SIGTERM):
            if self._process.poll() is None:
                self._process.send_signal(ask)
                try:
                    self._process.wait(INPUT_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        self._process.kill()
        self._process.wait()

    def report(self, *, interrupted: bool = False) -> Report:
        found = [name for name in self._artifacts() if name not in self._before]
        if self._process.returncode and not found and not interrupted:
            found = [f"exit status {self._process.returncode}: see {self._log}"]
        log = self._log.read_text("utf-8", "replace")
        return Report(self.name, time.monotonic() - self._started, log, found)


def child(name: str, arguments: list[str]) -> list[str]:
    return [sys.executable, __file__, "--child", name, "--", *arguments]


def bounds() -> list[str]:
    return [
        f"-max_len={MOST_BYTES}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={MEMORY_MB}",
    ]


def dictionary() -> Path:
    """Write `WORDS` in libFuzzer's form."""
    path = SCRATCH / "words.dict"
    lines = ["".join(f"\\x{octet:02X}" for octet in word.encode("latin-1")) for word in WORDS]
    path.write_text("".join(f'"{line}"\n' for line in lines), "ascii")
    return path


def fuzz(name: str, arguments: list[str]) -> None:
    """Run one target in this process, until libFuzzer ends it."""
    import atheris  # noqa: PLC0415 - tests read this module without it

    sys.path.insert(0, str(TESTS))
    with atheris.instrument_imports(include=["portico"]):
        from fuzz.targets import TARGETS  # noqa: PLC0415 - instrumented while it is imported

    # libFuzzer runs itself again for a merge, with a shell and these words.
    command = " ".join(map(shlex.quote, child(name, [])))
    atheris.Setup([command, *arguments], TARGETS[name])
    atheris.Fuzz()


def run_all(names: list[str], seconds: int) -> int:
    """Run *names*, two at a time, and print the table."""
    CRASHES.mkdir(parents=True, exist_ok=True)
    waiting = list(names)
    running: list[Run] = []
    reports: list[Report] = []
    interrupted = False
    print(f"{len(names)} targets, {seconds} s each, {AT_A_TIME} at a time", flush=True)
    try:
        while waiting or running:
            while waiting and len(running) < AT_A_TIME:
                running.append(Run(waiting.pop(0), seconds))
            time.sleep(0.1)
            for run in [run for run in running if run.ended()]:
                running.remove(run)
                reports.append(run.report())
                said = "a finding" if reports[-1].findings else "no finding"
                print(f"{run.name}: {reports[-1].executions:,} executions, {said}", flush=True)
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted; this is what there is", file=sys.stderr)
    for run in running:
        run.stop()
        reports.append(run.report(interrupted=True))
    print(table(reports))
    found = any(report.findings for report in reports)
    if found:
        print(f"the inputs, and how to run them again, are in {CRASHES}", file=sys.stderr)
    return 1 if found else 130 if interrupted else 0


def keep(names: list[str]) -> int:
    """Take what earlier runs found and what adds coverage into the repository's corpus."""
    for name in names:
        found = SCRATCH / "corpus" / name
        merged = SCRATCH / "merged" / name
        merged.mkdir(parents=True, exist_ok=True)
        for path in merged.iterdir():
            path.unlink()
        for path in (CORPUS / name).iterdir():
            (merged / path.name).write_bytes(path.read_bytes())
        known = {path.name for path in merged.iterdir()}
        merging = child(name, [str(merged), str(found), "-merge=1", *bounds()])
        subprocess.run(merging, check=True, capture_output=True)
        added = [path.read_bytes() for path in merged.iterdir() if path.name not in known]
        for data in added:
            digest = hashlib.sha256(data).hexdigest()[:12]
            (CORPUS / name / f"found-{digest}").write_bytes(data)
        print(f"{name}: {len(known)} inputs and {len(added)} new ones")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each target; default 60")
    parser.add_argument("--target", default="", help=f"one of {', '.join(NAMES)}; default all")
    parser.add_argument("--keep", action="store_true", help="extend the repository's corpus")
    parser.add_argument("--child", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.target and options.target not in NAMES:
        parser.error(f"no target {options.target!r}; there are {', '.join(NAMES)}")
    if options.seconds < 1:
        parser.error(f"{options.seconds} seconds are none; say 1 or more")
    if importlib.util.find_spec("atheris") is None:
        print(
            f"atheris is not installed for {sys.executable}; make fuzz does it, where pip has it"
            " for this Python",
            file=sys.stderr,
        )
        return 2
    if options.child:
        fuzz(options.child, options.arguments)
        return 0
    names = [options.target] if options.target else list(NAMES)
    return keep(names) if options.keep else run_all(names, options.seconds)


if __name__ == "__main__":
    sys.exit(main())
