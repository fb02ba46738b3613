"""The command that serves, and its options."""

from typing import Annotated

import typer

from classify.cli.command import as_command
from classify.cli.console import Notes
from classify.cli.decisions import DecisionOptions
from classify.cli.given import Given
from classify.cli.task import declared_labels, task_of, task_options
from classify.cli.uses import refuse_unused, task_facts
from classify.serve import ServeSettings

__all__ = ["serve"]


@as_command(
    """Example:

$ classify serve tickets.yaml --port 8000

Answer HTTP requests with the probabilities of labels, for many clients at
once. POST /v1/classify takes {"texts": ["…"]}; /docs has examples. All
questions of a task are answered, or the one of --question. /health, /ready
and /metrics (for Prometheus) report the server's state.

It listens on this machine only. Before you open it to a network with --host,
require a key with --client-key-env. On SIGTERM or Ctrl-C it finishes the
requests that are open, then stops.

Without TASK, give --labels, or let each request bring its own. (classify
demo --files writes tickets.yaml.)
""",
    *task_options("labels", "labels_file", "kind", "tree_scoring", "escape"),
    *task_options("yes_words", "no_words", "min_node_probability"),
    *task_options("question", "labels_column", "text_column"),
    *task_options("calibration", "threshold", "target_risk", "sets", "target"),
    *task_options(panels=("Model", "Prompt", "Scoring")),
)
def serve(
    given: Given,
    notes: Notes,
    task: Annotated[  # noqa: ARG001 `task_of` reads it, as the option of others
        str | None,
        typer.Argument(
            metavar="TASK",
            help="YAML file with labels, prompt and more; options override it.",
            show_default=False,
        ),
    ] = None,
    *,
    settings: ServeSettings,
    decisions: DecisionOptions,
) -> None:
    """Answer HTTP requests with the probabilities of labels."""
    served = task_of(given)
    if given.values["question"] is not None:
        served = served.question(given.values["question"])
    parts = served.by_question().values()
    for part in parts:
        if part.use.kind != "choice":  # requests bring labels for no other kind
            declared_labels(part)
    used = {"a calibration is used": any(each.calibration for each in parts)}
    refuse_unused(given, task_facts(served) | used)
    rules = decisions.rules_of(served)
    from classify.cli.serve_job import serve_task

    serve_task(served, rules, settings, notes)
