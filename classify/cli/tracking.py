"""The command that tracks words in free text, and its options."""

from typing import Annotated, Any

import typer

from classify.cli.command import as_command
from classify.cli.console import Notes
from classify.cli.fitting import TrackOptions
from classify.cli.given import Given
from classify.cli.groups import SOURCE, Reading
from classify.cli.task import task_of, task_options
from classify.cli.uses import refuse_unused, task_facts
from classify.errors import ConfigError
from classify.spec import Generation

__all__ = ["track"]

_FREE_WORDING: dict[str, dict[str, Any]] = {
    "template": {
        "help": "Prompt with {text} or {column}; \\n is a line break.",
        "default": "the text alone",
    },
    "answer_prefix": {"help": "Text at the start of the answer, such as 'Sure:'."},
}
# Of a prompt, what there is without labels; a text is set aside rather than cut.
_FREE_PROMPT = [
    each._replace(
        setting=each.setting._replace(**_FREE_WORDING.get(each.name, {})),
        default="error" if each.name == "too_long" else each.default,
    )
    for each in task_options(
        *("template", "system", "chat"),
        *("answer_prefix", "too_long", "template_arguments"),
    )
]


@as_command(
    """Example:

$ classify track --text "Where is my parcel?" --words "parcel,card"

Let the model continue texts freely, and track how likely it finds some words
at every step. There are no labels, and nothing is classified.

For a file, the output has a row for each text, step and word: row (of the
input, from 1), generation (with --n), step, token (generated there), word,
logprob (natural logarithm of the probability that the next token begins the
word) and error (why a text was set aside).
""",
    *task_options("text_column"),
    *task_options(panels=("Model",)),
    *_FREE_PROMPT,
)
def track(
    given: Given,
    notes: Notes,
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXTS", help=SOURCE, show_default=False),
    ] = None,
    *,
    options: TrackOptions,
    generation: Generation,
    reading: Reading,
) -> None:
    """Track how likely words are while the model continues a text."""
    if bool(sources) == (options.text is not None):
        raise ConfigError("Name a file with texts, or give --text, and not both.")
    words, task = options.spellings(), task_of(given)
    written = {"an output is written": options.output is not None}
    refuse_unused(given, task_facts(task) | written)
    from classify.cli.track_job import track_table, track_text

    if options.text is not None:
        refuse_unused(given, {"files are read": False})
        track_text(task, words, options.text, generation, notes)
        return
    refuse_unused(given, reading.facts(sources or []))
    table = reading.table(sources or [])
    track_table(task, words, table, options, generation, notes)
