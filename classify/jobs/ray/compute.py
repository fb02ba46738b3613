"""A job whose texts are scored by workers of a cluster."""

from collections.abc import Generator, Iterator
from dataclasses import replace

from classify.errors import ConfigError
from classify.jobs.identity import score_digest
from classify.jobs.output import JobOutput, Part
from classify.jobs.ray.cluster import joined_cluster, ray_module, worker_shape
from classify.jobs.ray.pool import WorkerPool
from classify.jobs.ray.spread import SpreadScoring
from classify.jobs.run import Compute, IndexedChunk, JobRun
from classify.jobs.store import ScoreStore
from classify.scored_rows import RowScorer
from classify.wording import parameter

__all__ = ["check_counts", "portable", "ray_compute"]

# Chunks a worker that wait for texts of other chunks, beside those that are asked.
_OPEN_CHUNKS_A_WORKER = 4


def ray_compute(
    *,
    address: str | None = None,
    n_workers: int | None = None,
    gpus_per_worker: float | None = None,
) -> Compute:
    """Return what classifies the chunks of a job on a cluster of Ray.

    This process reads the table, keeps the job and its scores, and writes the output;
    workers, each with an engine of its own, score texts. So the machines need no disk
    in common, and an output is that of a job without Ray: each different text is
    scored once, beside the same others. Its bytes are the same too, for any number of
    workers and after any of them died, where an engine computes the same values for
    the same texts each time: transformers does on one kind of device and with one
    number of threads (``OMP_NUM_THREADS``, which workers on CPUs take over); vLLM and
    a server may differ in the last digits, as they do from run to run.

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
    Compute
        For `classify.jobs.run.run_job`. It raises ConfigError where the classifier's
        engine has no name, or is another one on the workers.

    Raises
    ------
    ConfigError
        A number is out of range.
    MissingDependencyError
        Ray is not installed.

    Examples
    --------
    With a cluster that ``ray start --head`` began on this machine::

        run_job(job, table, "out.csv", compute=ray_compute(address="auto"))
    """
    check_counts(n_workers, gpus_per_worker)
    ray_module()

    def compute(
        chunks: Iterator[IndexedChunk],
        output: JobOutput,
        store: ScoreStore,
        run: JobRun,
    ) -> Generator[Part]:
        job = output.job
        scorer = job.classifier.scorer()
        sent, digest = portable(scorer), score_digest(scorer)
        with joined_cluster(address):
            shape = worker_shape(
                scorer.model, n_workers=n_workers, gpus_per_worker=gpus_per_worker
            )
            with WorkerPool(sent, digest, shape) as pool:
                scoring = SpreadScoring(scorer, store, digest, job.columns, pool, run)
                most_open = _OPEN_CHUNKS_A_WORKER * shape.n_workers
                for at, scored in scoring.score(chunks, most_open=most_open):
                    yield output.part(at, job.classified(scored))

    return compute


def check_counts(n_workers: int | None, gpus_per_worker: float | None) -> None:
    """Raise ConfigError if there can be no such workers."""
    if n_workers is not None and n_workers < 1:
        raise ConfigError(
            f"{parameter('n_workers')} must be 1 or more. Got {n_workers} instead."
        )
    if gpus_per_worker is not None and gpus_per_worker < 0:
        raise ConfigError(
            f"gpus_per_worker must be 0 or more. Got {gpus_per_worker} instead."
        )


def portable(scorer: RowScorer) -> RowScorer:
    """Return a scorer as it is sent to workers, without what it made for itself.

    Raises
    ------
    ConfigError
        It has an engine that was made here.
    """
    engine = scorer.model.spec.engine
    if not isinstance(engine, str):
        raise ConfigError(
            "Workers load engines by name: engine must be one of 'auto', "
            f"'transformers', 'vllm' and 'server'. Got {engine!r} instead."
        )
    return replace(scorer, model=replace(scorer.model))
