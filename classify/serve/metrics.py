"""Figures of a server, as Prometheus reads them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from classify.serve.service import Service

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counts and durations of requests, and the number of waiting texts.

    Parameters
    ----------
    service : Service
    """

    def __init__(self, service: Service) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "classify_requests",
            "Requests that were answered.",
            ["path", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "classify_request_seconds",
            "Seconds from the first byte of a request to the last byte of its "
            "response.",
            ["path"],
            registry=registry,
        )
        self._texts = Counter(
            "classify_texts", "Texts that were answered.", registry=registry
        )
        for name, text, value in (
            (
                "waiting_texts",
                "Texts waiting to be scored.",
                lambda: float(service.n_waiting),
            ),
            ("ready", "1 if the engine can answer.", lambda: float(service.is_ready)),
        ):
            Gauge(f"classify_{name}", text, registry=registry).set_function(value)

    def count(self, path: str, status: int, seconds: float, n_texts: int) -> None:
        """Count a request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
        if status == 200:
            self._texts.inc(n_texts)

    def text(self) -> bytes:
        """Return all figures."""
        return generate_latest(self._registry)
