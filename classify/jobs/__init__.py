"""Jobs over files: rows in, the same rows with their labels out, none lost."""

from classify.jobs.calibrate import CalibrationFit, CalibrationWishes, fit_artefact
from classify.jobs.csv_files import CsvTable, OutputCsv, write_csv
from classify.jobs.evaluate import evaluate, selection_of
from classify.jobs.labelled import (
    LabelledRows,
    ScoredTexts,
    read_labelled,
    score_labelled,
)
from classify.jobs.run import check_table, classify_table
from classify.jobs.summary import Summary, results_of

__all__ = [
    "CalibrationFit",
    "CalibrationWishes",
    "CsvTable",
    "LabelledRows",
    "OutputCsv",
    "ScoredTexts",
    "Summary",
    "check_table",
    "classify_table",
    "evaluate",
    "fit_artefact",
    "read_labelled",
    "results_of",
    "score_labelled",
    "selection_of",
    "write_csv",
]
