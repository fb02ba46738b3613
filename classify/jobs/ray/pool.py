"""Workers of a cluster that score the texts of a job; those that die are replaced."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from classify import __version__
from classify.engines.registry import engine_names
from classify.errors import ClassifyError, ConfigError, EngineError
from classify.jobs.identity import score_digests
from classify.jobs.pool import Answer, OpenPool, Pool, Texts
from classify.jobs.ray.cluster import (
    WorkerShape,
    joined_cluster,
    ray_module,
    worker_shape,
)
from classify.jobs.ray.worker import Expected, TextWorker
from classify.rows.scorer import Scorer
from classify.wording import current_spelling, parameter

__all__ = ["WorkerPool", "check_counts", "portable", "ray_pool"]

_logger = logging.getLogger(__name__)

# One that is computed, and one that is there when it is finished.
_CALLS_PER_WORKER = 2
# Chunks that wait for texts of other chunks are more than those that are scored.
_CHUNKS_PER_WORKER = 4
# Workers that may die over the same texts, or one after the other while they load.
_MAX_DEATHS = 3
_WAIT_SECONDS = 1.0
_CLOSE_SECONDS = 10.0
# Ray starts a worker in less, where there is room for it.
_PATIENCE_SECONDS = 60.0


def ray_pool(
    *,
    address: str | None = None,
    n_workers: int | None = None,
    gpus_per_worker: float | None = None,
) -> OpenPool:
    """Return a function that opens a pool of workers on a Ray cluster, for a job.

    This process reads the table, keeps the job and its scores, and writes the output;
    workers, each with its own engine, score texts. So the machines need no shared disk,
    and the output is that of a job without Ray: each distinct text is scored once, in
    the same batch. Its bytes are the same too, for any number of workers and after any
    of them died, where an engine computes the same values for the same texts each time:
    transformers does on one kind of device and with one number of threads
    (``OMP_NUM_THREADS``, which workers on CPUs take over); vLLM and a server may differ
    in the last digits, as they do from run to run.

    Parameters
    ----------
    address : str, default=None
        "auto" is the cluster that runs on this machine; or ``HOST:PORT``, or
        ``ray://…``. "local" or None: this machine only. Where Ray is
        initialised already, that is used, whatever is given here.
    n_workers : int, default=None
        How many engines. None: as many as the cluster has GPUs for; without any, one
        for two CPUs.
    gpus_per_worker : float, default=None
        0 for CPUs. None: what the engine needs, if the cluster has GPUs.

    Returns
    -------
    callable
        For `JobRun.pool`. It raises ConfigError where the classifier's engine has no
        name, or is another one on the workers.

    Raises
    ------
    ConfigError
        A number is out of range.
    MissingDependencyError
        Ray is not installed.

    Examples
    --------
    With a cluster that ``ray start --head`` began on this machine::

        run = JobRun(pool=ray_pool(address="auto"))
        run_job(job, table, "out.csv", run=run)
    """
    check_counts(n_workers, gpus_per_worker)
    ray_module()

    @contextmanager
    def open_pool(scorers: Sequence[Scorer], _: Callable[[], bool]) -> Iterator[Pool]:
        sent, digests = portable(scorers), score_digests(scorers)
        with joined_cluster(address):
            shape = worker_shape(
                sent[0].model, n_workers=n_workers, gpus_per_worker=gpus_per_worker
            )
            with WorkerPool(sent, digests, shape) as pool:
                yield pool

    return open_pool


@dataclass(eq=False)
class _Call:
    texts: Texts
    n_deaths: int = 0


@dataclass(eq=False)
class _Worker:
    """A worker, and what it was asked.

    Attributes
    ----------
    actor : ray.actor.ActorHandle
    placed : ray.ObjectRef
        Of a call that is answered once it has a place.
    loading : ray.ObjectRef
        Of the next call, which loads the engine.
    n_failed_starts : int
        How many workers that it replaces died before they had an engine.
    calls : dict of ray.ObjectRef to _Call
        In the order in which it does them.
    """

    actor: Any
    placed: Any
    loading: Any
    n_failed_starts: int
    is_ready: bool = False
    calls: dict[Any, _Call] = field(default_factory=dict)


class WorkerPool:
    """A pool of workers, each with an engine of its own. Use it as a context.

    The texts of a chunk go to one worker, together: what is computed together with what
    does not depend on how many workers there are, which of them dies, or where an
    earlier run stopped. The texts of a worker that dies go to others, at once, and a
    new worker takes its place.

    Parameters
    ----------
    scorers : sequence of Scorer
        Their engine is one, and has a name.
    digests : list of bytes
        What `classify.jobs.identity.score_digests` says of each.
    shape : WorkerShape
    """

    def __init__(
        self, scorers: Sequence[Scorer], digests: list[bytes], shape: WorkerShape
    ) -> None:
        engine = scorers[0].model.spec.engine_choice()
        self._expected = Expected(__version__, engine.name, digests)
        self._ray = ray_module()
        # Ray would repeat a dead worker's calls only once that worker is there again.
        self._class = self._ray.remote(
            max_restarts=0, max_task_retries=0, **shape.actor_options()
        )(TextWorker)
        self._shape = shape
        self._scorers = self._ray.put(scorers)
        self._workers: list[_Worker] = []
        self._queue: deque[_Call] = deque()
        self._accepts = True
        self._deadline: float | None = time.monotonic() + _PATIENCE_SECONDS

    def __enter__(self) -> "WorkerPool":
        for _ in range(self._shape.n_workers):
            self._start(n_failed_starts=0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ready = [each for each in self._workers if each.is_ready]
        if kind is None and ready:
            closed = [each.actor.close.remote() for each in ready]
            self._ray.wait(closed, num_returns=len(closed), timeout=_CLOSE_SECONDS)
        for each in self._workers:
            self._ray.kill(each.actor)

    @property
    def max_chunks(self) -> int:
        """How many chunks may wait for their texts at a time."""
        return _CHUNKS_PER_WORKER * self._shape.n_workers

    @property
    def has_room(self) -> bool:
        """Whether a further call would keep a worker from being idle."""
        n_calls = len(self._queue) + sum(len(each.calls) for each in self._workers)
        return n_calls < _CALLS_PER_WORKER * self._shape.n_workers

    def __bool__(self) -> bool:
        return bool(self._queue) or any(each.calls for each in self._workers)

    @property
    def n_texts(self) -> int:
        """Texts that workers have been given, and not answered."""
        calls = (call for each in self._workers for call in each.calls.values())
        return sum(len(call.texts.keys) for call in calls)

    def ask(self, texts: Texts) -> None:
        """Ask for the scores of a chunk's texts."""
        self._queue.append(_Call(texts))
        self._hand_out()

    def stop(self) -> None:
        """Forget what no worker has started."""
        self._accepts = False
        self._queue.clear()

    def answers(self) -> Answer:
        """Return answers, or nothing where none come within about a second.

        Raises
        ------
        ConfigError
            The workers are not fit for the job; the sentence says what differs.
        EngineError
            A model cannot be loaded, or failed; or workers die again and again.
        """
        waited = {each.loading: each for each in self._workers if not each.is_ready}
        for each in self._workers:
            waited |= dict.fromkeys(each.calls, each)
        done, _ = self._ray.wait(list(waited), timeout=_WAIT_SECONDS)
        self._warn_if_none_is_placed()
        if not done:
            return Answer({})
        [reference], worker = done, waited[done[0]]
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ClassifyError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:
            self._replace(worker, error)
            return Answer({})
        return self._take(worker, reference, result)

    def _take(self, worker: _Worker, reference: Any, answer: Answer | None) -> Answer:
        """Note that a worker has finished its request, and give it the next."""
        if answer is None:
            worker.is_ready = True
            self._deadline = None
        else:
            del worker.calls[reference]
        self._hand_out()
        return answer or Answer({})

    def _start(self, *, n_failed_starts: int) -> None:
        actor = self._class.remote()
        placed = actor.__ray_ready__.remote()
        loading = actor.load.remote(self._expected, [self._scorers], current_spelling())
        self._workers.append(_Worker(actor, placed, loading, n_failed_starts))

    def _hand_out(self) -> None:
        """Give texts that wait to workers, first to those that have none."""
        for n_calls in range(_CALLS_PER_WORKER):
            for worker in self._workers:
                if worker.is_ready and len(worker.calls) == n_calls and self._queue:
                    call = self._queue.popleft()
                    worker.calls[worker.actor.score.remote(call.texts)] = call

    def _replace(self, worker: _Worker, error: Exception) -> None:
        """Let others do what a worker that died has not done."""
        if getattr(error, "actor_init_failed", False):
            raise ConfigError(
                f"A worker cannot start: {_reason(error)}. Install classify "
                f"{self._expected.version} on every machine of the cluster."
            ) from None
        self._workers.remove(worker)
        # It may be alive, where only its answer was lost.
        self._ray.kill(worker.actor)
        if not self._accepts:
            return
        _logger.warning(
            "A worker died and is being replaced; its texts go to other workers. %s",
            _reason(error),
        )
        n_failed_starts = 0 if worker.is_ready else worker.n_failed_starts + 1
        if n_failed_starts >= _MAX_DEATHS:
            raise EngineError(
                f"{_MAX_DEATHS} workers died while they loaded the model, the last "
                f"one because: {_reason(error)} Check whether their machines have "
                "enough memory for it."
            ) from None
        first = next(iter(worker.calls.values()), None)
        if first is not None:
            first.n_deaths += 1
            if first.n_deaths >= _MAX_DEATHS:
                raise EngineError(
                    f"{_MAX_DEATHS} workers died over the same "
                    f"{len(first.texts.keys):,} "
                    f"texts, the last one because: {_reason(error)} Check whether "
                    "their machines have enough memory, or use fewer workers."
                ) from None
        self._queue.extendleft(reversed(worker.calls.values()))
        self._start(n_failed_starts=n_failed_starts)
        self._hand_out()

    def _warn_if_none_is_placed(self) -> None:
        """Log, once, that the cluster has had no room for a worker for a long time."""
        if self._deadline is None or time.monotonic() < self._deadline:
            return
        self._deadline = None
        placed, _ = self._ray.wait([each.placed for each in self._workers], timeout=0)
        if placed:  # a large model takes minutes to load
            return
        _logger.warning(
            "No worker has started after %.0f seconds: the cluster has no room for "
            "one. Each worker needs %g CPUs and %g GPUs of one machine.",
            _PATIENCE_SECONDS,
            self._shape.cpus,
            self._shape.gpus,
        )


def check_counts(n_workers: int | None, gpus_per_worker: float | None) -> None:
    """Raise ConfigError if there can be no such workers."""
    if n_workers is not None and n_workers < 1:
        raise ConfigError(
            f"{parameter('n_workers')} must be 1 or more. Got {n_workers} instead."
        )
    if gpus_per_worker is not None and gpus_per_worker < 0:
        raise ConfigError(
            f"{parameter('gpus_per_worker')} must be 0 or more. Got {gpus_per_worker} "
            "instead."
        )


def portable(scorers: Sequence[Scorer]) -> tuple[Scorer, ...]:
    """Return scorers as they are sent to workers, without what they made.

    Raises
    ------
    ConfigError
        They have an engine that was made here.
    """
    engine = scorers[0].model.spec.engine
    if not isinstance(engine, str):
        *names, last = map(repr, engine_names())
        raise ConfigError(
            "Workers load engines by name: engine must be one of "
            f"{', '.join(names)} and {last}. Got {engine!r} instead."
        )
    # Scorers of many labels share a model, and keep sharing it.
    copies = {id(each.model): replace(each.model) for each in scorers}
    return tuple(replace(each, model=copies[id(each.model)]) for each in scorers)


def _reason(error: Exception) -> str:
    """Return the last line of what Ray says, which names the cause."""
    return str(error).strip().splitlines()[-1].strip()
