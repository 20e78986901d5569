"""How the service does, as metrics.

Each metric stands in `METRICS`; a label's values are few: protocols, repairs, slots of workers.

Spec: OpenMetrics 1.0.0, text format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    #: Labels and value of each sample of one metric.
    Samples = Iterable[tuple[dict[str, str], float]]

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_PARENT_STATES = ("starting", "serving", "reloading", "stopping")
_WORKER_STATES = ("starting", "idle", "busy", "retiring")


class Metric(NamedTuple):
    """One metric.

    Attributes:
        name: Without what the text format appends to a counter's or an info's.
        kind: OpenMetrics' word for what it is.
        text: What it tells, one sentence.
        samples: Takes them out of a snapshot of the scoreboard.
    """

    name: str
    kind: str
    text: str
    samples: Callable[[dict[str, Any]], Samples]


def _parent(key: str) -> Callable[[dict[str, Any]], Samples]:
    return lambda found: [({}, found["parent"][key])]


def _total(key: str) -> Callable[[dict[str, Any]], Samples]:
    return lambda found: [({}, found["total"][key])]


def _tally(key: str, label: str) -> Callable[[dict[str, Any]], Samples]:
    return lambda found: [({label: name}, n) for name, n in sorted(found["total"][key].items())]


def _each(key: str) -> Callable[[dict[str, Any]], Samples]:
    return lambda found: [({"worker": str(one["slot"])}, one[key]) for one in found["workers"]]


def _service(found: dict[str, Any]) -> Samples:
    yield {"version": found["portico"], "application": found["parent"]["application"]}, 1


def _state(found: dict[str, Any]) -> Samples:
    for state in _PARENT_STATES:
        yield {"portico_state": state}, found["parent"]["state"] == state


def _workers(found: dict[str, Any]) -> Samples:
    states = [worker["state"] for worker in found["workers"]]
    for state in _WORKER_STATES:
        yield {"state": state}, states.count(state)


def _reloads(found: dict[str, Any]) -> Samples:
    yield {"result": "ok"}, found["parent"]["reloads"]
    yield {"result": "failed"}, found["parent"]["failed_reloads"]


def _reload_failed(found: dict[str, Any]) -> Samples:
    yield {}, bool(found["parent"]["last_failure"])


METRICS = (
    Metric("portico_service", "info", "The version of Portico and what it serves.", _service),
    Metric("portico_state", "stateset", "What the service is doing.", _state),
    Metric("portico_start_time_seconds", "gauge", "Start, Unix time.", _parent("started")),
    Metric("portico_generation", "gauge", "Generation of workers.", _parent("generation")),
    Metric("portico_configured_workers", "gauge", "Workers wanted.", _parent("configured")),
    Metric("portico_workers", "gauge", "Workers there are, by state.", _workers),
    Metric("portico_requests", "counter", "Requests answered.", _total("requests")),
    Metric(
        "portico_errors", "counter", "Requests answered with status 500 or more.", _total("errors")
    ),
    Metric("portico_aborted", "counter", "Requests that clients gave up.", _total("aborted")),
    Metric("portico_response_octets", "counter", "Octets of response bodies.", _total("octets")),
    Metric(
        "portico_requests_by_protocol",
        "counter",
        "Requests answered, by the web server's protocol.",
        _tally("protocols", "protocol"),
    ),
    Metric(
        "portico_repairs",
        "counter",
        "Repairs of what web servers make of paths.",
        _tally("repairs", "repair"),
    ),
    Metric("portico_reloads", "counter", "Reloads, by result.", _reloads),
    Metric(
        "portico_reload_failed", "gauge", "1 if the last reload has failed, else 0.", _reload_failed
    ),
    Metric(
        "portico_worker_crashes",
        "counter",
        "Workers that ended though nobody wanted it.",
        _parent("crashes"),
    ),
    Metric("portico_worker_threads", "gauge", "Threads of a worker.", _each("threads")),
    Metric("portico_worker_busy_threads", "gauge", "Threads that serve.", _each("busy")),
    Metric("portico_worker_connections", "gauge", "Open connections.", _each("connections")),
    Metric(
        "portico_worker_waiting_requests", "gauge", "Requests without a thread.", _each("waiting")
    ),
    Metric("portico_worker_resident_bytes", "gauge", "Resident memory.", _each("rss")),
    Metric("portico_worker_start_time_seconds", "gauge", "Start, Unix time.", _each("started")),
)

#: What a sample's name has behind the metric's.
_SUFFIXES = {"counter": "_total", "info": "_info"}

_UNITS = ("seconds", "bytes", "octets")


def render(found: dict[str, Any]) -> str:
    """Write a snapshot of the scoreboard down as metrics."""
    lines: list[str] = []
    for name, kind, text, samples in METRICS:
        lines.append(f"# TYPE {name} {kind}")
        unit = name.rpartition("_")[2]
        if unit in _UNITS:
            lines.append(f"# UNIT {name} {unit}")
        lines.append(f"# HELP {name} {text}")
        full = name + _SUFFIXES.get(kind, "")
        lines += [f"{full}{_labels(labels)} {_number(n)}" for labels, n in samples(found)]
    return "\n".join([*lines, "# EOF", ""])


def _labels(labels: dict[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value) if isinstance(value, bool) else value)
