"""The command that serves, and its options."""

from typing import Annotated

import typer

from classify.cli.command import as_command
from classify.cli.console import Notes
from classify.cli.decisions import DecisionOptions
from classify.cli.given import Given
from classify.cli.task import only_one_answer, question_of, task_options
from classify.cli.uses import refuse_unused, task_facts
from classify.serve import ServeSettings

__all__ = ["serve"]


@as_command(
    """Example:

$ classify serve tickets.yaml --port 8000

Answer HTTP requests with the probabilities of labels, for many clients at
once. POST /v1/classify takes {"texts": ["…"]}; /docs has examples. /health,
/ready and /metrics (for Prometheus) report the server's state.

It listens on this machine only. Before you open it to a network with --host,
require a key with --client-key-env. On SIGTERM or Ctrl-C it finishes the
requests that are open, then stops.

Without TASK, give --labels, or let each request bring its own. (classify
demo --files writes tickets.yaml.)
""",
    *task_options("labels", "labels_file", "question", "labels_column", "text_column"),
    *task_options("calibration", "threshold", "target_risk", "sets"),
    *task_options(panels=("Model", "Prompt", "Scoring")),
)
def serve(
    given: Given,
    notes: Notes,
    task: Annotated[  # noqa: ARG001 `question_of` reads it, as the option of others
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
    served = question_of(given)
    used = {"a calibration is used": served.calibration is not None}
    refuse_unused(given, task_facts(served) | used)
    only_one_answer(served, "classify serve")
    rules = decisions.rules(served)
    from classify.cli.serve_job import serve_task

    serve_task(served, rules, settings, notes)
