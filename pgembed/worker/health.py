"""Health and metrics over HTTP: for a load balancer, systemd's friends, and Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from pgembed.errors import InputError
from pgembed.worker.counters import Counters


class _Metrics(Collector):
    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        counters = self._counters
        totals = {
            "requests": (counters.requests, "Query texts answered"),
            "documents": (counters.documents, "Source rows brought up to date"),
            "chunks": (counters.chunks, "Chunks written"),
            "failures": (counters.failures, "Source rows that could not be embedded"),
        }
        for name, (value, meaning) in totals.items():
            yield CounterMetricFamily(f"pgembed_worker_{name}", meaning, value=value)
        rate = counters.throughput()
        yield GaugeMetricFamily(
            "pgembed_worker_documents_per_second", "Over the last minute", value=rate
        )
        yield GaugeMetricFamily(
            "pgembed_worker_healthy", "1 while every loop is alive", value=int(counters.healthy())
        )


def serve(counters: Counters, host: str, port: int) -> ThreadingHTTPServer:
    """Answer ``/health`` (200, or 503 when a loop is stuck) and ``/metrics``, in a thread.

    Raises:
        InputError: the port cannot be listened at.
    """
    registry = CollectorRegistry()
    registry.register(_Metrics(counters))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer one request."""
            if self.path == "/health":
                healthy = counters.healthy()
                state = {
                    "healthy": healthy,
                    "silent_seconds": counters.silences(),
                    "last_error": counters.last_error,
                }
                self._send(200 if healthy else 503, "application/json", json.dumps(state).encode())
            elif self.path == "/metrics":
                self._send(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            else:
                self._send(404, "text/plain", b"there are /health and /metrics\n")

        def _send(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a probe a second would fill the log."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise InputError(f"cannot listen at {host}:{port}: {error.strerror}") from error
    Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
