"""Many clients at a `classify serve`, and the same engine without a server.

    python benchmarks/serve_load.py --clients 200 --seconds 60

Each client sends one text, waits for the answer, and sends the next. Nothing may be
lost: every request gets a status, and every answer is compared with the engine's own.
"""

import argparse
import asyncio
import collections
import contextlib
import csv
import os
import platform
import signal
import socket
import subprocess
import sys
import time

import httpx
import numpy as np

import classify
from classify import ZeroShotClassifier
from classify.demo import tickets_csv

LABELS = ["billing", "shipping", "technical problem", "account access", "refund"]
COMMAND = [sys.executable, "-c", "from classify.cli import main; main()"]


def tickets():
    with tickets_csv().open(newline="", encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


def texts_of(client):
    """Yield texts that differ from those of all other clients."""
    found = tickets()
    for number in range(10**9):
        yield f"{found[(client + number) % len(found)]} ({client}.{number})"


def alone(model, n_texts, clients):
    """Return seconds of single calls, and texts a second of one call with all texts.

    The latter are those that clients send first: prompts that begin alike are read
    together, so that other texts would be faster or slower.
    """
    clf = ZeroShotClassifier(LABELS, model=model)
    sent = [texts_of(client) for client in range(clients)]
    some = [next(sent[at % clients]) for at in range(n_texts)]
    texts = texts_of(10**6)
    clf.predict_proba([next(texts) for _ in range(8)])
    seconds = []
    for _ in range(50):
        started = time.perf_counter()
        clf.predict_proba([next(texts)])
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    clf.predict_proba(some)
    return clf, seconds, n_texts / (time.perf_counter() - started)


async def load(url, clients, seconds):
    """Return the seconds and status of each request, and some answers by their text."""
    until = time.perf_counter() + seconds
    limits = httpx.Limits(max_connections=clients)
    timed, statuses, answers = [], collections.Counter(), {}

    async def one(http, client):
        for text in texts_of(client):
            started = time.perf_counter()
            if started > until:
                return
            response = await http.post("/v1/classify", json={"texts": [text]})
            timed.append(time.perf_counter() - started)
            statuses[response.status_code] += 1
            if response.status_code == 200 and len(answers) < 500:
                [answers[text]] = response.json()["results"]

    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120) as http:
        await asyncio.gather(*(one(http, each) for each in range(clients)))
    return timed, statuses, answers


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as some:
        return some.getsockname()[1]


@contextlib.contextmanager
def served(model):
    port = free_port()
    options = ["--labels", ",".join(LABELS), "--model", model, "--port", str(port)]
    process = subprocess.Popen([*COMMAND, "serve", *options, "--quiet"])
    url = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{url}/ready")
                break
            time.sleep(0.2)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def shown(name, seconds, rate):
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    print(f"{name:<28}{rate:>10.1f}{p50:>10.1f}{p99:>10.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--texts", type=int, default=500, help="of the engine alone")
    options = parser.parse_args()
    clf, seconds, rate = alone(options.model, options.texts, options.clients)
    with served(options.model) as url:
        timed, statuses, answers = asyncio.run(
            load(url, options.clients, options.seconds)
        )
    print(
        f"classify {classify.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} CPUs, model {options.model}, {len(LABELS)} labels"
    )
    print(f"{'':<28}{'texts/s':>10}{'p50 ms':>10}{'p99 ms':>10}")
    shown("engine alone, one by one", seconds, 1 / np.mean(seconds))
    print(f"{'engine alone, all at once':<28}{rate:>10.1f}")
    shown(
        f"{options.clients} clients, {options.seconds:g} s",
        timed,
        len(timed) / options.seconds,
    )
    proba = clf.predict_proba(list(answers))
    found = [
        [each["probabilities"][n] for n in clf.classes_] for each in answers.values()
    ]
    print(f"Statuses: {dict(statuses)}; lost: {len(timed) - statuses[200]}")
    print(
        f"Largest difference from the engine alone: {np.abs(proba - found).max():.1e}"
    )


if __name__ == "__main__":
    main()
