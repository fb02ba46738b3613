"""vLLM's processes belong to the process that started them, not to its forks."""

import multiprocessing.process
import os
from typing import Any
from weakref import WeakSet

from classify.errors import ModelLoadError
from classify.wording import parameter

__all__ = ["check_may_start", "leave_to_parent_in_forks"]

_cores: WeakSet[Any] = WeakSet()
# Of the parent, in a forked child: kept, since what is collected is shut down.
_parents: list[Any] = []


def leave_to_parent_in_forks(engine_core: Any) -> None:
    """Let a forked child neither end nor wait for an engine's processes.

    Parameters
    ----------
    engine_core : vllm.v1.engine.core_client.EngineCoreClient
    """
    _cores.add(engine_core)


def check_may_start() -> None:
    """Raise ModelLoadError where vLLM cannot start processes of its own."""
    if _parents:
        raise ModelLoadError(
            f"vLLM runs in the process from which this one ({os.getpid()}) was forked, "
            "and cannot be used or started here. Load the engine in the workers only, "
            "or start them with 'spawn' (multiprocessing.get_context('spawn'))."
        )
    if multiprocessing.current_process().daemon:
        raise ModelLoadError(
            "vLLM starts processes of its own, which a worker of multiprocessing.Pool "
            "may not: use concurrent.futures.ProcessPoolExecutor, or "
            f"{parameter('engine', 'transformers')}."
        )


def _let_go() -> None:
    for core in list(_cores):
        _parents.append(core)
        resources = getattr(core, "resources", None)
        manager = getattr(resources, "engine_manager", None)
        coordinator = getattr(resources, "coordinator", None)
        for owner in (core, manager, coordinator):
            finalizer = getattr(owner, "_finalizer", None)
            if finalizer is not None:
                finalizer.detach()
        # What is in this set is ended when the process exits.
        children: set[Any] = getattr(multiprocessing.process, "_children", set())
        children.difference_update(getattr(manager, "processes", ()))
    _cores.clear()


os.register_at_fork(after_in_child=_let_go)
