"""Jobs over files: rows in, the same rows with their labels out, none lost."""

from classify.jobs.csv_files import CsvTable, OutputCsv, write_csv
from classify.jobs.run import check_table, classify_table
from classify.jobs.summary import Summary, results_of

__all__ = [
    "CsvTable",
    "OutputCsv",
    "Summary",
    "check_table",
    "classify_table",
    "results_of",
    "write_csv",
]
