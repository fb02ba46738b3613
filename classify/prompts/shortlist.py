"""A list of some labels: the most likely ones after a prompt that lists none."""

from dataclasses import replace

from classify.errors import ConfigError, PromptError
from classify.labels import LabelSet
from classify.prompts.template import PromptTemplate
from classify.wording import parameter

__all__ = [
    "check_escape",
    "first_prompt",
    "is_shortened",
    "refuse_shortlist",
    "shortlist_of",
]


def shortlist_of(recipe: PromptTemplate) -> int | None:
    """Return the shortlist of a recipe, or else of a prompt in its ensemble.

    Examples
    --------
    >>> shortlist_of(PromptTemplate(ensemble=[PromptTemplate(shortlist=5)]))
    5
    """
    asked = (recipe, *recipe.ensemble)
    return next((each.shortlist for each in asked if each.shortlist is not None), None)


def is_shortened(recipe: PromptTemplate, labels: LabelSet) -> bool:
    """Return whether some of these labels are left out of the list."""
    return recipe.shortlist is not None and len(labels) > recipe.shortlist


def first_prompt(
    recipe: PromptTemplate, labels: LabelSet, *, has_chat_template: bool
) -> PromptTemplate:
    r"""Return the default recipe, without a list, that chooses the shortlist.

    It shows the columns of the given recipe, with its system prompt and answer prefix.

    Examples
    --------
    >>> own = PromptTemplate("{title}\nOne of {labels}:", shortlist=2)
    >>> labels = LabelSet.parse(["a", "b", "c"])
    >>> first_prompt(own, labels, has_chat_template=False).template
    'Text: {title}\nCategory:'
    """
    shown = "\n".join(f"{{{name}}}" for name in recipe.fields)
    ours = replace(
        recipe,
        template=None,
        options="none",
        answer="text",
        n_orders=1,
        shortlist=None,
        ensemble=(),
    ).resolved(labels, has_chat_template=has_chat_template)
    assert ours.template is not None, "resolved"
    return replace(ours, template=ours.template.replace("{text}", shown))


def check_escape(recipe: PromptTemplate, escape: str | None) -> None:
    """Raise PromptError for an escape label, which a shortlist may leave out."""
    shortlist = shortlist_of(recipe)
    if shortlist is not None and escape is not None:
        raise PromptError(
            f"{parameter('shortlist', shortlist)} may leave out the label of "
            f"{parameter('escape', escape)}, which is rarely likely when no other is "
            "listed: remove one of the two."
        )


def refuse_shortlist(recipe: PromptTemplate, other: str) -> None:
    """Raise ConfigError for a shortlist where it cannot be combined with something.

    `other` names this, and says what to do.
    """
    shortlist = shortlist_of(recipe)
    if shortlist is not None:
        raise ConfigError(
            f"{parameter('shortlist', shortlist)} chooses among the "
            f"probabilities of all labels, and cannot be combined with {other}"
        )
