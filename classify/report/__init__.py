"""Reports on predictions for labelled texts: a page, JSON and a CSV.

`Evaluation.of` and `LabelsEvaluation.of` measure, `write_report` writes. The pictures
need matplotlib, which the extra ``plots`` installs; `check_matplotlib` asks for it
before a model is called.
"""

from classify.report.evaluation import Evaluation
from classify.report.files import write_report
from classify.report.labels import LabelsEvaluation
from classify.report.pictures import check_matplotlib

__all__ = ["Evaluation", "LabelsEvaluation", "check_matplotlib", "write_report"]
