"""The status of a service as OpenMetrics text.

Spec: OpenMetrics 1.0.0, text format.
"""

from __future__ import annotations

from typing import Any

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

#: Name, key in the totals, help.
_COUNTERS = (
    ("portico_requests", "requests", "Requests answered."),
    ("portico_errors", "errors", "Requests answered with a status of 500 or more."),
    ("portico_aborted", "aborted", "Requests given up by the client or the web server."),
    ("portico_response_octets", "octets", "Octets of response bodies."),
)

#: Name, key of a worker, help.
_GAUGES = (
    ("portico_worker_threads", "threads", "Threads that the worker has started."),
    ("portico_worker_busy_threads", "busy", "Threads in a request."),
    ("portico_worker_connections", "connections", "Open connections."),
    ("portico_worker_waiting_requests", "waiting", "Requests that wait for a thread."),
    ("portico_worker_resident_bytes", "rss", "Resident memory."),
    ("portico_worker_start_time_seconds", "started", "When it was started, Unix time."),
)


def render(found: dict[str, Any]) -> str:
    """Write down a snapshot of the scoreboard."""
    parent, total = found["parent"], found["total"]
    service = _labels(version=found["portico"], application=parent["application"])
    lines = [
        *_head("portico_service", "info", "What is served."),
        f"portico_service_info{service} 1",
        *_head("portico_generation", "gauge", "Number of the generation that serves."),
        f"portico_generation {parent['generation']}",
        *_head("portico_configured_workers", "gauge", "Workers that are to be."),
        f"portico_configured_workers {parent['configured']}",
    ]
    for name, key, text in _COUNTERS:
        lines += [*_head(name, "counter", text), f"{name}_total {total[key]}"]
    lines += _head("portico_requests_by_protocol", "counter", "Requests answered, by protocol.")
    for protocol, count in sorted(total["protocols"].items()):
        lines.append(f"portico_requests_by_protocol_total{_labels(protocol=protocol)} {count}")
    lines += _head("portico_repairs", "counter", "Repairs of SCRIPT_NAME and PATH_INFO, by name.")
    for repair, count in sorted(total["repairs"].items()):
        lines.append(f"portico_repairs_total{_labels(repair=repair)} {count}")
    lines += _head("portico_reloads", "counter", "Reloads, by their result.")
    for result, key in (("ok", "reloads"), ("failed", "failed_reloads")):
        lines.append(f"portico_reloads_total{_labels(result=result)} {parent[key]}")
    lines += [
        *_head("portico_worker_crashes", "counter", "Workers that ended though nobody wanted it."),
        f"portico_worker_crashes_total {parent['crashes']}",
    ]
    for name, key, text in _GAUGES:
        lines += _head(name, "gauge", text)
        lines += [
            f"{name}{_labels(worker=str(worker['slot']))} {worker[key]}"
            for worker in found["workers"]
        ]
    return "\n".join([*lines, "# EOF", ""])


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# TYPE {name} {kind}", f"# HELP {name} {text}"]


def _labels(**values: str) -> str:
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in values.items())
    return f"{{{pairs}}}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
