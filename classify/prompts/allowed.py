"""The allowed examples, template arguments and further prompts of a prompt."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from classify.errors import PromptError
from classify.parameters import Allowed, settings_of
from classify.prompts.example_table import is_table
from classify.prompts.listing import check_listed, orders
from classify.prompts.parts import Field, parse
from classify.prompts.recipes import check_text_position
from classify.wording import no_effect, parameter

__all__ = [
    "ARGUMENTS",
    "EXAMPLES",
    "check_recipe",
    "fields_of",
    "solved_examples",
]


def _are_solved(examples: Any) -> bool:
    if is_table(examples):
        return True
    return isinstance(examples, Sequence) and all(
        isinstance(each, Sequence)
        and len(each) == 2
        and isinstance(each[0], str | Mapping)
        and isinstance(each[1], str)
        for each in examples
    )


def solved_examples(written: Any) -> Any:
    """Return examples as a task file has them, ``{text: …, label: …}``, as pairs.

    The path of a table stays as it is.
    """
    if isinstance(written, str):
        return written
    if not isinstance(written, list | tuple):
        raise ValueError("no list")
    pairs = []
    for example in written:
        if not (
            isinstance(example, Mapping)
            and len(example) > 1
            and "label" in example
            and all(isinstance(value, str) for value in example.values())
        ):
            raise ValueError("no example")
        row = {name: value for name, value in example.items() if name != "label"}
        pairs.append((row, example["label"]))
    return tuple(pairs)


EXAMPLES = Allowed(
    "a sequence of (text, label), or a table with labels",
    _are_solved,
    "the path of a table with labels; or a list of examples, each {text: …, label: …}, "
    "with further columns if the template has them",
)


def _are_arguments(value: Any) -> bool:
    """Return whether these can be variables of a chat template."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    try:
        json.dumps(dict(value))
        datetime.fromisoformat(value.get("strftime_now", "1999-12-31"))
    except (TypeError, ValueError):
        return False
    return not _OWN_ARGUMENTS & value.keys()


# Set when a template is rendered.
_OWN_ARGUMENTS = {"messages", "add_generation_prompt", "tokenize", "chat_template"}
ARGUMENTS = Allowed(
    "a mapping of names to values of types that JSON has, strftime_now an ISO date",
    _are_arguments,
    "a mapping of names to values, strftime_now a date such as 2026-11-29",
)


def fields_of(recipe: Any) -> tuple[str, ...]:
    """Return the columns that a recipe shows, or raise PromptError if there are none.

    The recipe is a `PromptTemplate`, as in all of these checks.
    """
    if recipe.template is None and recipe.asks == "whether":
        return ("text", "label")
    if recipe.template is None or recipe.is_auto:
        return ("text",)
    names = dict.fromkeys(
        part.name for part in parse(recipe.template) if isinstance(part, Field)
    )
    if "labels" in names and recipe.options == "none":
        raise PromptError(
            "The template has the placeholder {labels}, but "
            f"{parameter('options', 'none')} lists no labels: remove one of the two."
        )
    names.pop("labels", None)
    if recipe.label_in_answer:
        names["label"] = None
    if not names:
        raise PromptError(
            f"The template {recipe.template!r} is the same for every text: put "
            "{text}, or the name of a column in braces, where the text belongs."
        )
    return tuple(names)


def check_recipe(recipe: Any) -> None:
    """Raise an InputError for settings of a recipe that do not go together."""
    if recipe.template_arguments and recipe.chat is False:
        raise PromptError(
            f"{parameter('template_arguments')} needs a chat template, but this "
            "prompt is plain: leave it out, or use "
            f"{parameter('chat', True)} and a chat model."
        )
    check_text_position(recipe)
    _check_examples(recipe)
    _check_ensemble(recipe)
    _check_shortlist(recipe)
    template = None if recipe.is_auto else recipe.template
    system = parse(recipe.system or "")
    shown = [*parse(template or "{labels}"), *system]
    check_listed(recipe, has_list=Field("labels") in shown)
    for part in system:
        if isinstance(part, Field) and part.name != "labels":
            raise PromptError(
                f"The system prompt has the placeholder {{{part.name}}}: only "
                "{labels} is allowed there, since it is the same for every text."
            )


def _check_examples(recipe: Any) -> None:
    """Raise an InputError for what has no effect, or a table without examples."""
    kind = type(recipe)
    names = [name for name in settings_of(kind) if "example" in name]
    unused = (
        []
        if recipe.chooses_examples
        else [each for each in names if each != "examples"]
    )
    needed = f"{parameter('examples')} from a table"
    if recipe.chooses_examples and recipe.example_choice == "nearest":
        unused = ["example_seed"]
        needed = " or ".join(
            parameter("example_choice", each) for each in ("balanced", "random")
        )
    for name in unused:
        if getattr(recipe, name) != getattr(kind, name):
            raise PromptError(no_effect(name, needed))
    _ = recipe.table_examples  # refuses a table without them


def _check_ensemble(recipe: Any) -> None:
    """Raise PromptError if prompts cannot be asked about the same text."""
    for each in recipe.ensemble:
        if each.ensemble:
            raise PromptError(
                f"A prompt in {parameter('ensemble')} cannot be an ensemble itself: "
                "give all prompts in one ensemble."
            )
        if each.is_auto:
            raise PromptError(
                f"A prompt in {parameter('ensemble')} cannot have "
                f"{parameter('template', 'auto')}: choose its template first, with "
                "classify tune."
            )
        for name in each.fields:
            if name not in recipe.fields:
                raise PromptError(
                    f"A prompt in {parameter('ensemble')} shows the column {name!r}, "
                    "and the first prompt does not: all must show the same columns."
                )


def _check_shortlist(recipe: Any) -> None:
    """Raise PromptError for settings that cannot be combined with a shortlist."""
    if recipe.shortlist is None:
        return
    what = parameter("shortlist", recipe.shortlist)
    orders(recipe.shortlist, recipe.n_orders)  # refuses more than there are
    if recipe.asks == "whether":
        raise PromptError(
            f"{what} chooses labels to list, and yes/no questions are about one label "
            f"each: leave {parameter('shortlist')} out."
        )
    if recipe.examples:
        raise PromptError(
            f"{what} cannot be combined with {parameter('examples')}, whose labels may "
            "be among those left out: remove one of the two."
        )
    if Field("labels") in parse(recipe.system or ""):
        raise PromptError(
            f"{what} asks first without a list, but the system prompt has one: put "
            "{labels} into the template instead."
        )
