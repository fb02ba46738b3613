"""What there is to compute on."""

import torch

__all__ = ["device_names", "n_gpus"]


def n_gpus() -> int:
    """Return how many GPUs torch sees.

    The driver is asked, and no GPU touched: a process that used one could not fork
    any more, as vLLM may.
    """
    return torch.cuda.device_count()


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
