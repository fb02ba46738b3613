"""When one of vLLM's processes is killed, the others notice.

The engine's process: vLLM 0.32 sees that it was killed and marks itself as dead, but
puts nothing into the queue from which `LLMEngine.step` takes answers: a caller that is
waiting there would wait forever.

The process that started vLLM: its engine would run forever, and hold GPU memory that
a restarted job needs.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

__all__ = ["announce_death", "dead_engine", "end_with_starter", "starting_here"]

# Not a name that begins with VLLM: those are copied to the machines of a cluster.
_STARTER = "CLASSIFY_VLLM_STARTER"
_POLL_SECONDS = 0.5
_SECONDS_TO_END = 10.0


def announce_death(engine_core: Any) -> None:
    """Make `step` raise ``EngineDeadError`` as soon as the engine's process ends.

    Parameters
    ----------
    engine_core : vllm.v1.engine.core_client.EngineCoreClient
        One that runs in this process cannot be killed alone, and is left as it is.
    """
    answers = getattr(engine_core, "outputs_queue", None)
    manager = getattr(getattr(engine_core, "resources", None), "engine_manager", None)
    sentinels = [each.sentinel for each in getattr(manager, "processes", ())]
    if answers is not None and sentinels:
        Thread(
            target=_announce,
            args=(sentinels, answers),
            name="classify-vllm-liveness",
            daemon=True,
        ).start()


def dead_engine() -> type[Exception]:
    """Return the exceptions that vLLM raises when its engine's process has ended."""
    from vllm.v1.engine.exceptions import EngineDeadError

    dead: type[Exception] = EngineDeadError
    return dead


@contextmanager
def starting_here() -> Iterator[None]:
    """Tell the processes that vLLM starts which one starts them."""
    before = os.environ.get(_STARTER)
    os.environ[_STARTER] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[_STARTER]
        if before is not None:
            os.environ[_STARTER] = before


def end_with_starter() -> None:
    """In a worker: end the engine when the process that started vLLM has ended.

    Only where the worker descends from it, as it does not on another machine of a
    cluster, and where there is Linux to say so.

    Raises
    ------
    SystemExit
        That process has ended before.
    """
    starter = int(os.environ.get(_STARTER, "0"))
    core = os.getpid()
    if not starter or core == starter or not _parent(core):
        return
    while (parent := _parent(core)) != starter:
        if not parent:
            sys.exit("The process that started vLLM has ended.")
        core = parent
    Thread(
        target=_end_with,
        args=(starter, core),
        name="classify-vllm-starter",
        daemon=True,
    ).start()


def _end_with(starter: int, core: int) -> None:
    """Wait until an engine's process is an orphan; end it and this one."""
    while (parent := _parent(core)) == starter:
        time.sleep(_POLL_SECONDS)
    # 0: it has ended on its own.
    if parent:
        # On SIGTERM it would try to notify the starter, which takes too long.
        with suppress(ProcessLookupError):
            os.kill(core, signal.SIGKILL)
    # vLLM ends its other processes then, unless they wait for each other.
    time.sleep(_SECONDS_TO_END)
    os.kill(os.getpid(), signal.SIGKILL)


def _parent(pid: int) -> int:
    """Return the parent of a process; 0 if there is none, or no such process."""
    try:
        status = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return 0
    # The name before may hold anything.
    return int(status.rpartition(")")[2].split()[1])


def _announce(sentinels: list[int], answers: Queue[Any]) -> None:
    wait(sentinels)
    answers.put(dead_engine()())
