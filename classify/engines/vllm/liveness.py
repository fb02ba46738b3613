"""Whether vLLM's engine process still lives, for those who wait for its answers.

vLLM 0.32 sees that the process was killed and marks itself as dead, but puts nothing
into the queue from which `LLMEngine.step` takes answers: who is waiting there just then
would wait for ever.
"""

from multiprocessing.connection import wait
from queue import Queue
from threading import Thread
from typing import Any

__all__ = ["announce_death", "dead_engine"]


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
    """Return what vLLM raises when its engine's process has ended."""
    from vllm.v1.engine.exceptions import EngineDeadError

    dead: type[Exception] = EngineDeadError
    return dead


def _announce(sentinels: list[int], answers: Queue[Any]) -> None:
    wait(sentinels)
    answers.put(dead_engine()())
