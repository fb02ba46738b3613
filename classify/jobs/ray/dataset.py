"""Results for a Ray dataset, computed block by block by Ray itself."""

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from classify import __version__
from classify.errors import ConfigError
from classify.jobs.identity import score_digests
from classify.jobs.job import Classification
from classify.jobs.pool import LocalPool
from classify.jobs.ray.cluster import ray_module, worker_shape
from classify.jobs.ray.pool import check_counts, portable
from classify.jobs.results import classified
from classify.jobs.scheduler import Scheduler
from classify.jobs.store import ScoreStore
from classify.tables.chunk import Chunk
from classify.tables.parquet_output import ParquetOutput
from classify.tables.rows import ArrowRows, ListRows
from classify.tables.table import Table
from classify.tables.values import pyarrow

if TYPE_CHECKING:
    import pyarrow as pa
    import ray.data

__all__ = ["classify_dataset"]

_BATCH_ROWS = 2048


def classify_dataset(
    job: Classification,
    dataset: "ray.data.Dataset",
    *,
    n_workers: int | None = None,
    gpus_per_worker: float | None = None,
) -> "ray.data.Dataset":
    """Return a Ray dataset with results in further columns, computed when it is read.

    Columns, types and values are those of a Parquet file that a job writes, up to the
    last digits if an engine's values depend on the other texts of a batch. Ray reads,
    repeats the unfinished work of a worker that died, and writes; nothing is kept for a
    later run. A row that cannot be classified says why in the column ``error``.

    Parameters
    ----------
    job : Classification
    dataset : ray.data.Dataset
    n_workers, gpus_per_worker
        As in `classify.jobs.ray.ray_pool`.

    Returns
    -------
    ray.data.Dataset

    Raises
    ------
    InputError
        The dataset lacks a column, or the classifier's engine has no name.
    MissingDependencyError
        Ray is not installed.

    Examples
    --------
    ::

        tickets = ray.data.read_parquet("s3://bucket/tickets/")
        classify_dataset(job, tickets).write_parquet("s3://bucket/labelled/")
    """
    check_counts(n_workers, gpus_per_worker)
    ray_module()
    from ray.data import ActorPoolStrategy

    [scorer, *_] = portable(job.scorers())
    columns = tuple(dataset.columns() or ())
    job.check(_columns_only(columns))
    shape = worker_shape(
        scorer.model, n_workers=n_workers, gpus_per_worker=gpus_per_worker
    )
    return dataset.map_batches(
        _Blocks,
        fn_constructor_args=(_sent(job), __version__),
        batch_size=_BATCH_ROWS,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=shape.n_workers),
        **shape.actor_options(),
    )


class _Blocks:
    """Adds results to blocks; an actor of Ray Data has one, with an engine."""

    def __init__(self, job: Classification, wanted: str) -> None:
        if __version__ != wanted:
            raise ConfigError(
                f"classify {__version__} is installed on a worker, and "
                f"{wanted} where the dataset was made: install that version on every "
                "machine of the cluster."
            )
        self._job = job
        scorers = job.scorers()
        self._scheduler = Scheduler(
            scorers,
            job.columns,
            digests=score_digests(scorers),
            store=ScoreStore.temporary(),
            pool=LocalPool(scorers),
        )

    def __call__(self, block: "pa.Table") -> "pa.Table":
        """Return a block with its results."""
        rows = ArrowRows(block.replace_schema_metadata(None))
        chunk = Chunk(rows, np.arange(len(rows)))
        [scored] = self._scheduler.score([(0, chunk)])
        results = classified(self._job, scored).results
        kinds = self._job.kinds(chunk.columns)
        # Through a file, so that types are those of files.
        part = ParquetOutput().encode(chunk, results, kinds)
        return pyarrow().parquet.read_table(io.BytesIO(part))


def _sent(job: Classification) -> Classification:
    """Return a job that names no file of this machine but the model's."""
    return replace(job, questions=tuple(each.without_files() for each in job.questions))


def _columns_only(columns: tuple[str, ...]) -> Table:
    """Return a table without rows, for what is checked before any is read."""
    return Table(
        name="the dataset",
        columns=columns,
        n_rows=None,
        resumable=False,
        read=lambda *_: iter(()),
        describe=list,
        empty=ListRows(columns, []),
    )
