"""Ctrl-C in the process of the tests: at a moment of their choice, or if they hang."""

import contextlib
import os
import signal
import sys
import threading
import time

import pytest


@contextlib.contextmanager
def interrupted_inside(function):
    """Send SIGINT to this process as soon as its main thread is in a function.

    Parameters
    ----------
    function : str
        Its name.
    """
    main, over = threading.main_thread().ident, threading.Event()

    def interrupt():
        while not over.is_set():
            if function in _functions_of(main):
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.001)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def not_for_ever(seconds=300.0):
    """Interrupt what waits for something that never comes.

    Parameters
    ----------
    seconds : float
        Many times as many as it takes on a busy machine.
    """
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        yield
    except KeyboardInterrupt:
        pytest.fail(f"It still waits after {seconds:g} seconds.")
    finally:
        timer.cancel()


def _functions_of(thread):
    frame = sys._current_frames()[thread]
    while frame is not None:
        yield frame.f_code.co_name
        frame = frame.f_back
