"""The available devices."""

import logging

import torch

from classify.engines.forks import was_forked_with

__all__ = ["device_names", "n_gpus", "use_threads_that_exist"]

_logger = logging.getLogger(__name__)


def n_gpus() -> int:
    """Return how many GPUs torch sees.

    The driver is asked, and no GPU touched: a process that used one could not fork
    any more, as vLLM may.
    """
    return torch.cuda.device_count()


def use_threads_that_exist() -> None:
    """In a forked child, compute on one thread: the parent's others are not here."""
    if was_forked_with("torch") and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        _logger.warning(
            "This process was forked from one that had imported PyTorch, so it "
            "computes on one thread. Start the workers with 'spawn' "
            "(multiprocessing.get_context('spawn')) so that each can use more."
        )


def device_names() -> tuple[str, ...]:
    """Return the devices that torch can compute on, best first, in words."""
    names = []
    for at in range(n_gpus()):
        properties = torch.cuda.get_device_properties(at)
        names.append(
            f"cuda:{at}, {properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        )
    if torch.backends.mps.is_available():
        names.append("mps")
    n_threads = torch.get_num_threads()
    return (*names, f"cpu, {n_threads} thread{'s' * (n_threads != 1)}")
