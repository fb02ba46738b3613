"""Template arguments that turn thinking off or on.

A template ignores arguments that it does not know, so that the common ones are simply
tried. Others are found by their names among the variables of the template itself.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from classify.prompts.thinking import names_thinking

__all__ = ["attempts", "flags_in_text", "thinking_attempts", "ways_off"]

Arguments = Mapping[str, Any]

# In the order in which they are tried.
_OFF: Arguments = {
    "enable_thinking": False,
    "thinking": False,
    "reasoning": False,
    "reasoning_effort": "none",
}
# All at once; and for templates that have levels only.
_ON: tuple[Arguments, ...] = (
    {"enable_thinking": True, "thinking": True, "reasoning": True},
    {},
    {"reasoning_effort": "high"},
)
_NEGATION = r"(?:no|non|not|disabled?|skip|without|hide|off)"
_NEGATED = re.compile(rf"(?<![a-z]){_NEGATION}(?![a-z])|nothink", re.IGNORECASE)
# What templates compare a switch with.
_OFF_VALUE = re.compile(
    r"none|off|no|false|never|disabled?|minimal|nothink(?:ing)?"
    r"|non?[-_ ](?:think|reason)(?:ing)?",
    re.IGNORECASE,
)
_MAX_FLAG = 40
# An extension of transformers, which marks what models are trained to write.
_GENERATION = re.compile(r"{%-?\s*(?:end)?generation\s*-?%}")


def attempts(source: str, given: Arguments) -> Iterator[dict[str, Any]]:
    """Yield the arguments to try: thinking off, as they are, and off in other ways.

    Parameters
    ----------
    source : str
        The chat template.
    given : mapping
        The user's own arguments. One that is a switch is not overruled.
    """
    ways = ways_off(source)
    if any(given.keys() & way.keys() for way in ways):
        yield dict(given)
        return
    for at, way in enumerate(ways):
        yield {**given, **way}
        if not at:
            yield dict(given)
    # Some templates have two switches, and think unless both are off.
    yield {**given, **_OFF}


def thinking_attempts(source: str, given: Arguments) -> Iterator[dict[str, Any]]:
    """Yield the arguments to try where the model is to think."""
    if any(given.keys() & way.keys() for way in ways_off(source)):
        yield dict(given)
        return
    for switches in _ON:
        yield {**given, **switches}


@functools.lru_cache(maxsize=64)
def ways_off(source: str) -> tuple[Arguments, ...]:
    """Return arguments that may turn thinking off, those that are common first."""
    ways: list[Arguments] = [{name: value} for name, value in _OFF.items()]
    vocabulary = _vocabulary(source)
    off = [each for each in vocabulary.texts if _OFF_VALUE.fullmatch(each)]
    for name in filter(names_thinking, vocabulary.variables):
        values: list[Any] = [True] if _NEGATED.search(name) else [False, *off]
        if "budget" in name.lower():
            values = [0]
        ways += [{name: value} for value in values if {name: value} not in ways]
    return tuple(ways)


def flags_in_text(source: str) -> list[str]:
    """Return words that a template looks for in messages to turn thinking off."""
    return [
        text.strip()
        for text in _vocabulary(source).texts
        if len(text) <= _MAX_FLAG and names_thinking(text) and _NEGATED.search(text)
    ]


class _Vocabulary(NamedTuple):
    """What the expressions of a template name."""

    variables: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


def _vocabulary(source: str) -> _Vocabulary:
    from jinja2 import TemplateSyntaxError, meta, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        template = environment.parse(_GENERATION.sub("", source))
    except TemplateSyntaxError:
        return _Vocabulary()  # of an extension that we do not know
    values = (each.value for each in template.find_all(nodes.Const))
    texts = dict.fromkeys(each for each in values if isinstance(each, str))
    variables = meta.find_undeclared_variables(template)
    return _Vocabulary(tuple(sorted(variables)), tuple(texts))
