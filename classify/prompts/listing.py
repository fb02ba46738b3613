"""How a prompt lists its options: with which codes, and in which orders."""

import itertools
import math
import random
import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from classify.errors import PromptError
from classify.labels import Label, LabelSet
from classify.wording import parameter

__all__ = [
    "answer_settings",
    "check_listed",
    "coded",
    "codes",
    "list_options",
    "orders",
]


def codes(n_labels: int) -> list[str]:
    """Return a code for each place in a list, all of one length: A, B, … or AA, AB, ….

    Codes of one length are never prefixes of one another, whatever the tokenizer.

    Examples
    --------
    >>> codes(3), codes(27)[24:]
    (['A', 'B', 'C'], ['AY', 'AZ', 'BA'])
    """
    length = 1
    while len(string.ascii_uppercase) ** length < n_labels:
        length += 1
    found = itertools.product(string.ascii_uppercase, repeat=length)
    return ["".join(letters) for letters in itertools.islice(found, n_labels)]


def coded(labels: LabelSet, order: tuple[int, ...]) -> LabelSet:
    """Return the labels in their own order, with the codes of their places as words.

    Parameters
    ----------
    labels : LabelSet
    order : tuple of int, length n_labels
        Which label is at each place of the list.
    """
    word_of = dict(zip(order, codes(len(labels)), strict=True))
    return LabelSet(
        replace(label, words=(word_of[at],)) for at, label in enumerate(labels)
    )


def orders(n_labels: int, n_orders: int) -> list[tuple[int, ...]]:
    """Return different orders of labels, the given one first; the same ones each time.

    Of n labels the first n orders are rotations of the given one, the next n those of
    a random one, and so on: where n divides their number, each label has each place
    equally often. Fewer rotations are spread evenly.

    Raises
    ------
    PromptError
        There are fewer orders.

    Examples
    --------
    >>> orders(3, 3), orders(4, 2)
    ([(0, 1, 2), (1, 2, 0), (2, 0, 1)], [(0, 1, 2, 3), (2, 3, 0, 1)])
    """
    if n_orders > math.factorial(n_labels):
        raise PromptError(
            f"{parameter('n_orders', n_orders)}, but {n_labels} labels have only "
            f"{math.factorial(n_labels)} orders: use that number or fewer."
        )
    generator = random.Random(0)  # noqa: S311 no secret
    found: list[tuple[int, ...]] = []
    # Rotations of two orders that both begin with label 0 are all different.
    first = tuple(range(n_labels))
    seen = {first}
    while len(found) < n_orders:
        n_rotations = min(n_labels, n_orders - len(found))
        starts = [n_labels * at // n_rotations for at in range(n_rotations)]
        found += [first[start:] + first[:start] for start in starts]
        while first in seen and len(found) < n_orders:
            first = (0, *generator.sample(range(1, n_labels), n_labels - 1))
        seen.add(first)
    return found


def list_options(labels: Sequence[Label], *, as_lines: bool, as_codes: bool) -> str:
    """Return options as a prompt lists them, in this order.

    Examples
    --------
    >>> labels = LabelSet.parse(["billing", "shipping"])
    >>> list_options(labels, as_lines=False, as_codes=True)
    'A. billing, B. shipping'
    """
    mark = "- " if as_lines else ""
    marks = [mark] * len(labels)
    if as_codes:
        marks = [f"{code}. " for code in codes(len(labels))]
    options = [
        f"{mark}{label.words[0]}" for mark, label in zip(marks, labels, strict=True)
    ]
    if not as_lines:
        return ", ".join(options)
    return "\n".join(
        f"{option}: {label.description}" if label.description else option
        for option, label in zip(options, labels, strict=True)
    )


def answer_settings(prompt: Any) -> dict[str, Any]:
    """Return those settings of a PromptTemplate that need a list, if not the default.

    Examples
    --------
    >>> from classify import PromptTemplate
    >>> answer_settings(PromptTemplate(answer="code", n_orders=1))
    {'answer': 'code'}
    """
    usual = {"answer": "text", "n_orders": 1, "shortlist": None}
    given = {name: getattr(prompt, name) for name in usual}
    return {name: given[name] for name in usual if given[name] != usual[name]}


def check_listed(prompt: Any, *, has_list: bool) -> None:
    """Raise PromptError where a PromptTemplate needs a list of options and has none."""
    for name, value in answer_settings(prompt).items():
        what = parameter(name, value)
        if prompt.options == "none":
            raise PromptError(
                f"{what} needs a list of the options, but "
                f"{parameter('options', 'none')} lists none: remove one of the two."
            )
        if not has_list:
            raise PromptError(
                f"{what} needs a list of the options, but the template "
                f"{prompt.template!r} has none: put {{labels}} where it belongs."
            )
    if prompt.answer != "text" and prompt.options == "verbatim":
        raise PromptError(
            f"{parameter('options', 'verbatim')} lists the options as they are "
            f"answered, without the codes of {parameter('answer', prompt.answer)}: "
            f"use {parameter('options', 'lines')}."
        )
