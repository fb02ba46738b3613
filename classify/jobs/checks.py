"""What a table must have for a task; asked before a model is loaded."""

from classify.classifier import ZeroShotClassifier
from classify.errors import ConfigError
from classify.tables.table import Table
from classify.wording import parameter

__all__ = ["check_table"]


def check_table(
    table: Table,
    classifier: ZeroShotClassifier,
    *,
    text_column: str = "text",
    labels_column: str | None = None,
    probabilities: bool = False,
) -> None:
    """Raise InputError if the table lacks what the task needs; no model is loaded."""
    for name in classifier.scorer().model.template.fields:
        if name == "text":
            table.check_column(text_column, "with the text", "text_column")
        else:
            table.check_column(name, f"for the prompt's {{{name}}}")
    if labels_column is not None:
        table.check_column(labels_column, "with the candidate labels", "labels_column")
    elif classifier.labels is None:
        raise ConfigError(
            f"There are no labels: give {parameter('labels')}, or "
            f"{parameter('labels_column')}, the column with the labels of each row."
        )
    if probabilities and classifier.labels is None:
        raise ConfigError(
            f"{parameter('probabilities')} has a column for each label, and the labels "
            f"are not known beforehand: give {parameter('labels')} together with "
            f"{parameter('labels_column')}."
        )
