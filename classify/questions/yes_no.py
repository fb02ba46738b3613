"""Whether a label applies to a text: the question, and the words of its answers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from classify.errors import ConfigError, PromptError
from classify.labels import Label, LabelSet
from classify.labels.names import normal_form
from classify.parameters import Allowed, Setting, check_settings, settings_of
from classify.prompts import PromptTemplate
from classify.wording import no_effect, parameter

__all__ = ["LABEL", "NO", "YES", "YesNo", "asked"]

# The names of the answers, whatever words stand for them; sorted, no comes first.
NO, YES = "no", "yes"

# The column that holds the label.
LABEL = "label"


def _words(written: Any) -> Any:
    """Return words as a file or a command has them: a list, or ``Yes,yes``."""
    if isinstance(written, str):
        return tuple(word.strip() for word in written.split(","))
    return tuple(written)


_WORDS = Allowed(
    "a sequence of at least one word",
    lambda value: (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 0
        and all(isinstance(word, str) for word in value)
    ),
    "one or more words, such as Yes,yes",
)


@dataclass(frozen=True, kw_only=True)
class YesNo:
    """The words that say whether a label applies.

    Parameters
    ----------
    yes_words, no_words : sequence of str
        Words that stand for the answer; their probabilities are added up. The prompt
        names the first of each.

    Raises
    ------
    ConfigError
        There are no words, or one stands for both answers.

    Examples
    --------
    >>> YesNo(yes_words=["Ja", "ja"], no_words=["Nein", "nein"]).answers["yes"].words
    ('Ja', 'ja')
    """

    yes_words: Annotated[
        Sequence[str],
        Setting(
            "With multi, words for yes.",
            _WORDS,
            metavar="WORDS",
            default="Yes,yes",
            read=_words,
        ),
    ] = ("Yes", "yes")
    no_words: Annotated[
        Sequence[str],
        Setting(
            "With multi, words for no.",
            _WORDS,
            metavar="WORDS",
            default="No,no",
            read=_words,
        ),
    ] = ("No", "no")

    def __post_init__(self) -> None:
        check_settings(self, "ZeroShotMultiLabelClassifier")
        denied = {normal_form(word) for word in self.no_words}
        for word in self.yes_words:
            if normal_form(word) in denied:
                raise ConfigError(
                    f"{parameter('yes_words')} and {parameter('no_words')} both "
                    f"contain {word!r}, so the two answers could not be told apart: "
                    "remove it from one of them."
                )

    def check_used(self, kind: str) -> None:
        """Raise ConfigError for words that were given and have no effect."""
        for name in settings_of(YesNo):
            if kind != "multi" and getattr(self, name) != getattr(YesNo, name):
                raise ConfigError(no_effect(name, parameter("kind", "multi")))

    @property
    def answers(self) -> LabelSet:
        """The two answers as labels."""
        return LabelSet(
            [
                Label(YES, words=tuple(self.yes_words)),
                Label(NO, words=tuple(self.no_words)),
            ]
        )

    def template(self, given: PromptTemplate | str | None) -> PromptTemplate:
        """Return the recipe of the question, checked together with its ensemble.

        Raises
        ------
        PromptError
            The template has no place for the label.
        """
        own = PromptTemplate.of(given)
        if own.is_auto:
            raise PromptError(
                f"{parameter('prompt', 'auto')} chooses among prompts that list all "
                "labels, and cannot be used for yes/no questions: give a template with "
                "{text} and {label}, or None for the default."
            )
        members = tuple(self.template(each) for each in own.ensemble)
        own = replace(own, asks="whether", ensemble=members)
        if LABEL not in own.fields:
            raise PromptError(
                f"The template {own.template!r} asks the same question for every "
                "label: put {label} where the label belongs, after the text."
            )
        if set(own.fields) == {LABEL}:
            raise PromptError(
                f"The template {own.template!r} asks the same question for every "
                "text: put {text}, or the name of a column in braces, where the text "
                "belongs."
            )
        return own


def asked(label: Label) -> str:
    """Return a label as the question has it.

    Examples
    --------
    >>> asked(Label("billing", "invoices and charges"))
    'billing: invoices and charges'
    """
    word = label.words[0]
    return f"{word}: {label.description}" if label.description else word
