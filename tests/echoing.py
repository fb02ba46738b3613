"""Child processes that repeat one line; a module of its own, for each imports it."""

import multiprocessing
import os
import signal
import sys
import time

ECHO = [
    *(sys.executable, "-c"),
    "import time; print('up', flush=True); print(input(), flush=True); time.sleep(999)",
]


def echo_with_a_lock(told):
    """As vLLM's engine process does: with a handler, and a lock of its own."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(3))
    multiprocessing.get_context("spawn").Lock()
    told.send("up")
    told.send(told.recv())
    time.sleep(999)
