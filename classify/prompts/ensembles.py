"""Several prompts about each text, whose probabilities are averaged."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from classify.errors import PromptError
from classify.parameters import Allowed, settings_of
from classify.wording import parameter

if TYPE_CHECKING:
    from classify.prompts.template import PromptTemplate

__all__ = ["PROMPTS", "check_ensemble", "dated", "read_prompts"]


def _are_prompts(value: Any) -> bool:
    from classify.prompts.template import PromptTemplate

    return isinstance(value, list | tuple) and all(
        isinstance(each, PromptTemplate) for each in value
    )


PROMPTS = Allowed(
    "a sequence of PromptTemplate",
    _are_prompts,
    "a list of prompts, each a mapping with the keys of prompt",
)


def read_prompts(written: Any) -> "tuple[PromptTemplate, ...]":
    """Return the prompts of a task file; raise TypeError or ValueError if invalid."""
    from classify.prompts.template import PromptTemplate

    reads = {
        name: setting.read
        for name, setting in settings_of(PromptTemplate).items()
        if setting.read is not None
    }
    return tuple(
        PromptTemplate(
            **{
                name: reads[name](value) if name in reads else value
                for name, value in dict(each).items()
            }
        )
        for each in written
    )


def check_ensemble(recipe: "PromptTemplate") -> None:
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


def dated(recipe: "PromptTemplate", date: str) -> "PromptTemplate":
    """Return the same with this date where a chat template writes today's."""
    members = tuple(dated(each, date) for each in recipe.ensemble)
    arguments = dict(recipe.template_arguments or {})
    if recipe.chat is not False and "strftime_now" not in arguments:
        arguments["strftime_now"] = date
    return replace(recipe, ensemble=members, template_arguments=arguments or None)
