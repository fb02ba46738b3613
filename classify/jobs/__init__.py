"""Jobs over tables: rows in, the same rows with labels out, and no row is lost.

`run_job` classifies a table into a file and survives a crash; `stream_rows` hands rows
out as they are finished; `classify.jobs.ray` does the first on many machines.
"""

from classify.jobs.calibrate import (
    CalibrationFit,
    CalibrationWishes,
    LabelsFit,
    fit_artefact,
    fit_labels_artefact,
)
from classify.jobs.estimate import Estimate, estimate_job
from classify.jobs.evaluate import evaluate, evaluate_labels, selection_of
from classify.jobs.job import (
    Classification,
    ErrorLimit,
    JobRun,
    JobWatcher,
    Outcome,
    RowColumns,
    check_table,
)
from classify.jobs.labelled import (
    LabelledRows,
    ScoredTexts,
    read_labelled,
    score_labelled,
)
from classify.jobs.output import check_output, job_folder
from classify.jobs.results import ClassifiedChunk
from classify.jobs.review import Review, ReviewFile
from classify.jobs.run import run_job, stream_rows
from classify.jobs.state import saved_fingerprint
from classify.jobs.summary import Summary
from classify.tables.opening import open_table
from classify.tables.selection import parse_shard, select_rows
from classify.tables.writing import output_format

__all__ = [
    "CalibrationFit",
    "CalibrationWishes",
    "Classification",
    "ClassifiedChunk",
    "ErrorLimit",
    "Estimate",
    "JobRun",
    "JobWatcher",
    "LabelledRows",
    "LabelsFit",
    "Outcome",
    "Review",
    "ReviewFile",
    "RowColumns",
    "ScoredTexts",
    "Summary",
    "check_output",
    "check_table",
    "estimate_job",
    "evaluate",
    "evaluate_labels",
    "fit_artefact",
    "fit_labels_artefact",
    "job_folder",
    "open_table",
    "output_format",
    "parse_shard",
    "read_labelled",
    "run_job",
    "saved_fingerprint",
    "score_labelled",
    "select_rows",
    "selection_of",
    "stream_rows",
]
