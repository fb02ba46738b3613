"""Ray clusters: how to join one, and how many workers it has room for."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from classify.engines.registry import candidates
from classify.errors import ConfigError, missing_dependency
from classify.rows.prompted_model import PromptedModel
from classify.wording import parameter

__all__ = ["WorkerShape", "joined_cluster", "ray_module", "worker_shape"]

# A machine of a cluster is near.
_REACHED_SECONDS = 10.0


class WorkerShape(NamedTuple):
    """How many workers there are, and what each has for itself.

    Attributes
    ----------
    n_workers : int
    cpus : float
    gpus : float
        0: it computes on CPUs.
    """

    n_workers: int
    cpus: float
    gpus: float

    def actor_options(self) -> dict[str, Any]:
        """Return the factory of a Ray actor for such a worker."""
        options: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        if not self.gpus:
            # Or each worker computes with as many threads as its machine has cores.
            own = str(max(1, int(self.cpus)))
            threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", own)}
            options["runtime_env"] = {"env_vars": threads}
        return options


def ray_module() -> Any:
    """Return the package `ray`.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    # Ray reports how it is used to its makers, unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What Ray will do to workers without GPUs; it warns of doing something else.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    # Otherwise a cluster that is started here starts an idle process for each CPU; our
    # workers cannot use them, since they have their own environment variables.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise missing_dependency("Jobs on many machines need Ray", "ray") from None
    return ray


@contextmanager
def joined_cluster(address: str | None) -> Iterator[None]:
    """Be part of a cluster while the context lasts.

    A cluster that this process is part of already is used, and not left.

    Parameters
    ----------
    address : str or None
        "auto" is the one that runs on this machine; or ``HOST:PORT``, or ``ray://…``.
        "local" or None: one of this machine only, started and ended here.

    Raises
    ------
    ConfigError
        No cluster answers there, or it cannot be used from here.
    """
    ray = ray_module()
    if ray.is_initialized():
        yield
        return
    try:
        _join(ray, None if address == "local" else address)
        yield
    finally:
        ray.shutdown()


def worker_shape(
    model: PromptedModel, *, n_workers: int | None, gpus_per_worker: float | None
) -> WorkerShape:
    """Return how many workers a model gets in the cluster that was joined.

    Parameters
    ----------
    model : PromptedModel
    n_workers : int or None
        None: as many as there are GPUs for; without any, one for two CPUs.
    gpus_per_worker : float or None
        0 for workers that compute on CPUs. None: as many as the model asks for
        (``tensor_parallel_size``, …), if the cluster has any.

    Raises
    ------
    ConfigError
        No machine of the cluster has as many GPUs as a worker needs.
    """
    nodes = [
        node["Resources"] for node in ray_module().nodes() if node.get("Alive", True)
    ]
    gpus = _gpus_of(model, nodes) if gpus_per_worker is None else gpus_per_worker
    if not gpus:
        cpus = [float(node.get("CPU", 0)) for node in nodes]
        wanted = max(1, int(sum(cpus)) // 2) if n_workers is None else n_workers
        return WorkerShape(wanted, _cpus_each(wanted, cpus), 0)
    n_places = _n_places([float(node.get("GPU", 0)) for node in nodes], gpus)
    if n_workers is None and not n_places:
        most = max((float(node.get("GPU", 0)) for node in nodes), default=0)
        raise ConfigError(
            f"A worker needs {gpus:g} GPUs of one machine, and no machine of the "
            f"cluster has more than {most:g}: ask for fewer, or for workers on CPUs "
            "(0 GPUs a worker)."
        )
    # Where there is a GPU left, there is room for a worker.
    return WorkerShape(n_places if n_workers is None else n_workers, 0, gpus)


def _join(ray: Any, address: str | None) -> None:
    options: dict[str, Any] = {"address": address, "logging_level": logging.WARNING}
    if address is None:
        options = {
            "address": "local",
            "include_dashboard": False,
            # Ray warns that it keeps others out of what it starts here.
            "logging_level": logging.ERROR,
        }
    elif address != "auto":
        _check_reachable(address)
    try:
        with _kept_signal_handler():
            ray.init(**options, log_to_driver=False)
    except ConnectionError:
        raise _no_cluster(address) from None
    except (RuntimeError, ray.exceptions.RayError) as error:
        whose = "of this machine" if address is None else f"at {address!r}"
        raise ConfigError(f"The Ray cluster {whose} cannot be used: {error}") from None


def _check_reachable(address: str) -> None:
    """Raise ConfigError if nothing listens at an address; Ray would take minutes.

    Parameters
    ----------
    address : str
        ``HOST:PORT``, or ``ray://HOST:PORT``.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        where = (host.strip("[]"), int(port))
        socket.create_connection(where, timeout=_REACHED_SECONDS).close()
    except (OSError, ValueError, OverflowError):
        raise _no_cluster(address) from None


def _no_cluster(address: str | None) -> ConfigError:
    return ConfigError(
        f"No Ray cluster answers at {address!r}: start one with `ray start --head`, "
        "which prints its address, or use this machine alone with "
        f"{parameter('address', 'local')}."
    )


def _gpus_of(model: PromptedModel, nodes: list[Mapping[str, Any]]) -> int:
    """Return how many GPUs an engine of a model takes, where there are any."""
    spec = model.spec
    assert isinstance(spec.engine, str), "it is checked beforehand"
    on_gpu = spec.device.startswith(("auto", "cuda"))
    if not on_gpu or not any(node.get("GPU") for node in nodes):
        return 0
    options = spec.engine_options or {}
    kinds = candidates(spec.engine, spec.model, options)
    return max(kind.n_gpus(options) for kind in kinds)


def _cpus_each(n_workers: int, cpus: list[float]) -> float:
    """Return how many CPUs each worker can have, if all are to find a place.

    Parameters
    ----------
    n_workers : int
    cpus : list of float
        Of each machine.

    Returns
    -------
    float
        A whole number, or 1/2, 1/4, 1/8, …

    Examples
    --------
    >>> [_cpus_each(n_workers, [16.0, 4.0]) for n_workers in (1, 2, 3, 6, 20, 40)]
    [16.0, 8.0, 5.0, 3.0, 1.0, 0.5]
    """
    for whole in range(int(max(cpus, default=1)), 0, -1):
        if _n_places(cpus, whole) >= n_workers:
            return float(whole)
    share = 0.5
    while sum(cpus) and sum(cpus) / share < n_workers:
        share /= 2
    return share


def _n_places(sizes: list[float], each: float) -> int:
    """Return how many times something fits in machines, never across two of them."""
    # Three thirds are one.
    return sum(int(size / each + 1e-6) for size in sizes)


@contextmanager
def _kept_signal_handler() -> Iterator[None]:
    """Undo what `ray.init` does: it lets SIGTERM end the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
