"""`classify serve`: a classifier behind HTTP, until it is stopped."""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

from classify.cli.console import Notes
from classify.cli.loading import asked_questions, load_classifiers
from classify.config import Task
from classify.config.decisions import Rules
from classify.engines.hosts import is_loopback
from classify.errors import missing_dependency
from classify.serve import ServeSettings

__all__ = ["serve_task"]

_PACKAGES = ("fastapi", "uvicorn", "prometheus_client")
_EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 compared with, not listened on


def serve_task(
    task: Task, rules: Mapping[str, Rules], settings: ServeSettings, notes: Notes
) -> None:
    """Load the model, and answer requests until SIGTERM or Ctrl-C."""
    if any(find_spec(name) is None for name in _PACKAGES):
        raise missing_dependency(
            "classify serve needs FastAPI, uvicorn and prometheus-client", "serve"
        )
    from classify.serve.app import make_app
    from classify.serve.running import listen, run

    if settings.client_key() is None and not _is_local(settings.host):
        notes.warn(
            f"Anyone who can reach this machine on port {settings.port} can use the "
            "model: require a key with --client-key-env."
        )
    listening = listen(settings.host, settings.port)
    classifiers = load_classifiers(task, notes, rules)
    # Later it would load one that died again.
    engine = next(iter(classifiers.values())).load_engine()
    app = make_app(
        settings=settings,
        questions=asked_questions(classifiers, rules),
        text_column=task.text_column,
        labels_column=task.labels_column,
    )
    with _request_log(notes):
        try:
            run(
                app,
                listening,
                timeout=settings.timeout,
                started=lambda url: notes.note(
                    f"Listening on {url}; documentation at {url}/docs. Stop with "
                    "Ctrl-C."
                ),
            )
        finally:
            engine.close()
    notes.note("Stopped.")


def _is_local(host: str) -> bool:
    """Return whether only this machine reaches an address.

    Examples
    --------
    >>> [_is_local(each) for each in ("localhost", "::1", "0.0.0.0", "10.0.0.7")]
    [True, True, False, False]
    """
    named = f"[{host}]" if ":" in host else host
    return host not in _EVERYWHERE and is_loopback(f"http://{named}")


@contextmanager
def _request_log(notes: Notes) -> Iterator[None]:
    """Write a line for each request to stderr."""
    from classify.serve.guard import REQUESTS

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    REQUESTS.addHandler(handler)
    REQUESTS.setLevel(logging.WARNING if notes.quiet else logging.INFO)
    REQUESTS.propagate = False
    try:
        yield
    finally:
        REQUESTS.removeHandler(handler)
        REQUESTS.propagate = True
