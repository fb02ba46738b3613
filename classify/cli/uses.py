"""Options that would have no effect: they are refused, not ignored."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from classify.cli.given import Given
from classify.cli.groups import JobOptions, OneText, Reading
from classify.cli.options import options_of
from classify.engines.kinds import SETTINGS
from classify.engines.registry import candidates, command_line_options, kinds, takers
from classify.errors import ConfigError

if TYPE_CHECKING:
    from classify.config import Task

__all__ = ["USES", "refuse_unused", "task_facts"]


class Use(NamedTuple):
    """Options that need something to be so.

    Attributes
    ----------
    options : tuple of str
        Names of their parameters.
    sentence : str
        Says what an ``{option}`` needs and what to do.
    """

    options: tuple[str, ...]
    sentence: str


def _names(group: type) -> tuple[str, ...]:
    return tuple(each.name for each in options_of(group))


def _of_engines() -> Iterator[tuple[str, Use]]:
    """Yield the settings and options that some engines have and others have not."""
    for name in (*command_line_options(), *SETTINGS):
        others = [kind for kind in kinds() if not kind.takes(name)]
        if not others:
            continue
        having = " or ".join(f"--engine {kind.name}" for kind in takers(name))
        sentence = f"{{option}} is for {having}: give that, or drop {{option}}."
        if name in SETTINGS and not any(kind.runs_here for kind in others):
            titles = " and ".join(kind.title for kind in others)
            sentence = (
                f"{{option}} is for a model that runs here, and {titles} has its own: "
                "drop {option}."
            )
        yield f"the engine takes {name}", Use((name,), sentence)


_OF_ENGINES = dict(_of_engines())
USES: Mapping[str, Use] = {
    **_OF_ENGINES,
    "files are read": Use(
        ("labels_column", "text_column", *_names(Reading), *_names(JobOptions)),
        "{option} is for files, and here one text is given: name a file, or drop "
        "{option}.",
    ),
    "one text is read": Use(
        _names(OneText),
        "{option} is for one text, and here files are read: leave the file out, or "
        "drop {option}.",
    ),
    "rows are written": Use(
        ("output_format", "probabilities", "bounds", "reasoning", "sets"),
        "{option} is for rows that are written, and here a table is shown: give "
        "--output, or drop {option}.",
    ),
    "a file is written": Use(
        ("restart", "keep_job", "ray"),
        "{option} is for a job with an output file: give --output, or drop {option}.",
    ),
    "a file may be replaced": Use(
        ("overwrite",),
        "{option} is for --output and --review: give one of them, or drop {option}.",
    ),
    "an output is written": Use(
        ("overwrite", "ensemble"),
        "{option} is for --output: give it, or drop {option}.",
    ),
    "a review is written": Use(
        ("review_rows", "review_random"),
        "{option} is for --review: give it, or drop {option}.",
    ),
    "a report is written": Use(
        ("overwrite",), "{option} is for --report: give it, or drop {option}."
    ),
    "the job is run": Use(
        ("ray",), "{option} runs the job, and --dry-run does not: drop one of them."
    ),
    "a cluster scores": Use(
        ("workers",), "{option} is for --ray: give it, or drop {option}."
    ),
    "a file is CSV": Use(
        ("separator", "quote_char", "escape_char"),
        "{option} is for CSV and TSV files, and the input is neither: drop {option}.",
    ),
    "a file is text": Use(
        ("encoding",),
        "{option} is for text files, and Parquet is not text: drop {option}.",
    ),
    "the prompt has the text": Use(
        ("text_column",),
        "{option} is for a prompt with {{text}}, and this one has other columns: drop "
        "{option}.",
    ),
    "the prompt lists labels": Use(
        ("options",),
        "{option} is for a prompt with {{labels}}, and this one has none: drop "
        "{option}.",
    ),
    "examples are chosen": Use(
        (
            *("n_examples", "example_choice", "max_example_tokens"),
            *("example_text_column", "example_label_column"),
        ),
        "{option} is for --examples: give it, or drop {option}.",
    ),
    "examples are drawn": Use(
        ("example_seed",),
        "{option} is for --examples that are drawn, balanced or random: give them, or "
        "drop {option}.",
    ),
    "scores are exact": Use(
        ("tolerance",),
        "{option} is for --strategy exact or reason: give one, or drop {option}.",
    ),
    "the model thinks first": Use(
        ("max_reasoning_tokens", "n_chains", "reasoning"),
        "{option} is for --strategy reason: give that, or drop {option}.",
    ),
    "thoughts are sampled": Use(
        ("chain_temperature", "chain_seed"),
        "{option} is for --n-chains above 1: give that, or drop {option}.",
    ),
    "the model has revisions": Use(
        ("revision",),
        "{option} is for a model of the Hugging Face hub, and this one is not: "
        "drop {option}.",
    ),
    "a calibration is used": Use(
        ("force",), "{option} is for --calibration: give it, or drop {option}."
    ),
    "a risk is kept": Use(
        ("min_label_mass",),
        "{option} is for --target-risk: give it, or drop {option}.",
    ),
    "a label is the answer": Use(
        ("prior", "unlabeled", "no_label_column", "min_label_mass", "force"),
        "{option} is for questions with one answer, and with --kind multi any number "
        "of labels apply: drop {option}.",
    ),
    "the method has a prior": Use(
        ("prior",),
        "{option} is for methods that shift towards a prior, and --method {method} "
        "does not: drop one of them.",
    ),
    "the method reads more texts": Use(
        ("unlabeled",),
        "{option} is for methods that learn from texts alone, and --method {method} "
        "does not: drop one of them.",
    ),
}


def refuse_unused(
    given: Given, facts: Mapping[str, bool], *, method: str | None = None
) -> None:
    """Raise ConfigError if an option was typed that has no effect.

    Parameters
    ----------
    given : Given
    facts : mapping of str to bool
        Those of `USES` that are known by now, and whether they are so.
    method : str, default=None
        Of a calibration.
    """
    for fact, is_so in facts.items():
        for name in USES[fact].options:
            if not is_so and name in given.typed:
                raise ConfigError(
                    USES[fact].sentence.format(
                        option=given.spelled[name], method=method
                    )
                )


def task_facts(task: "Task") -> dict[str, bool]:
    """Return what a task says about which options have an effect."""
    from classify.prompts.parts import Field, parse

    prompts = [each.prompt for each in task.by_question().values()]
    written = [text for each in prompts for text in (each.template, each.system)]
    parts = [part for text in written for part in parse(text or "")]
    spec = task.model
    assert isinstance(spec.engine, str), "a task names its engine"
    engines = candidates(spec.engine, spec.model, spec.engine_options or {})
    return {
        **{
            fact: any(kind.takes(name) for kind in engines for name in use.options)
            for fact, use in _OF_ENGINES.items()
        },
        "the prompt has the text": any("text" in each.fields for each in prompts),
        "the prompt lists labels": any(each.template is None for each in prompts)
        or any(isinstance(part, Field) and part.name == "labels" for part in parts),
        "examples are chosen": task.prompt.chooses_examples,
        "examples are drawn": task.prompt.chooses_examples
        and task.prompt.example_choice != "nearest",
        "scores are exact": task.scoring.strategy != "generate",
        "the model thinks first": task.scoring.strategy == "reason",
        "thoughts are sampled": task.scoring.n_chains > 1,
        "the model has revisions": spec.model != "demo"
        and not Path(spec.model).expanduser().exists(),
    }
