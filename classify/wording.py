"""How messages name a parameter: as Python spells it, or as the command line does.

The same errors and warnings reach people who write Python and people who type commands.
A message names a parameter with `parameter`; the command line chooses its own spelling
while it runs, with `spelled_by`. It holds for the whole process, so that threads of a
command speak as it does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = [
    "NO_VALUE",
    "Spelling",
    "current_spelling",
    "no_effect",
    "parameter",
    "spelled_by",
]

Spelling = Callable[[str, object], str]
# Stands for "whatever value it has"; None is a value.
NO_VALUE = object()


def parameter(name: str, value: object = NO_VALUE) -> str:
    """Return how a message names a parameter, or a value of it.

    Examples
    --------
    >>> parameter("max_errors"), parameter("restart", True)
    ('max_errors', 'restart=True')
    """
    return _spelling(name, value)


def no_effect(name: str, needed: str) -> str:
    """Return the sentence that refuses a parameter, since it needs something else.

    Examples
    --------
    >>> no_effect("n_chains", parameter("strategy", "reason"))
    "n_chains is for strategy='reason': give that, or drop n_chains."
    """
    return f"{parameter(name)} is for {needed}: give that, or drop {parameter(name)}."


def current_spelling() -> Spelling:
    """Return how parameters are named now, to pass it to another process."""
    return _spelling


@contextmanager
def spelled_by(spelling: Spelling) -> Iterator[None]:
    """Let another function name parameters while the context lasts.

    Examples
    --------
    >>> with spelled_by(lambda name, value: f"--{name}"):
    ...     print(parameter("restart", True))
    --restart
    """
    global _spelling  # noqa: PLW0603
    before = _spelling
    _spelling = spelling
    try:
        yield
    finally:
        _spelling = before


def _as_in_python(name: str, value: object) -> str:
    return name if value is NO_VALUE else f"{name}={value!r}"


_spelling: Spelling = _as_in_python
