"""Sentence patterns: ``(a|b)`` chooses one of several, ``{slot}`` is filled."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SYMBOL = re.compile(r"[(|)]|\{\w+\}|[^(|){}]+")

Slots = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Slot:
    """A named gap that a slot filler goes into."""

    name: str


@dataclass(frozen=True)
class Choice:
    """A place where one of several branches is taken."""

    branches: tuple[tuple[Node, ...], ...]


Node = str | Slot | Choice


@dataclass(frozen=True)
class Pattern:
    """A parsed sentence pattern.

    Parameters
    ----------
    source : str
        The pattern as written.
    nodes : tuple of Node
        Its parts, in order.
    """

    source: str
    nodes: tuple[Node, ...]

    def fill(self, rng: random.Random, slots: Slots) -> str:
        """Write one sentence.

        Parameters
        ----------
        rng : random.Random
            Where choices come from.
        slots : mapping of str to sequence of str
            The fillers of every slot in the pattern.

        Returns
        -------
        str
            The sentence, without a full stop or capital of its own.
        """
        used: set[str] = set()
        return " ".join(_fill(self.nodes, rng, slots, used).split())


def parse(source: str) -> Pattern:
    """Parse a pattern.

    Parameters
    ----------
    source : str
        For example ``"my (card|account) was charged {amount}"``.

    Returns
    -------
    Pattern
        The parsed pattern.

    Raises
    ------
    ValueError
        If brackets do not match.
    """
    symbols = _SYMBOL.findall(source)
    nodes, rest = _parse_sequence(symbols, 0)
    if rest != len(symbols):
        raise ValueError(f"Brackets of the pattern do not match: {source!r}.")
    return Pattern(source, nodes)


def _parse_sequence(symbols: list[str], at: int) -> tuple[tuple[Node, ...], int]:
    nodes: list[Node] = []
    while at < len(symbols) and symbols[at] not in "|)":
        symbol = symbols[at]
        if symbol == "(":
            choice, at = _parse_choice(symbols, at + 1)
            nodes.append(choice)
        else:
            nodes.append(Slot(symbol[1:-1]) if symbol[0] == "{" else symbol)
            at += 1
    return tuple(nodes), at


def _parse_choice(symbols: list[str], at: int) -> tuple[Choice, int]:
    branches = []
    while True:
        nodes, at = _parse_sequence(symbols, at)
        branches.append(nodes)
        if at >= len(symbols):
            raise ValueError(f"A bracket is not closed: {''.join(symbols)!r}.")
        at += 1
        if symbols[at - 1] == ")":
            return Choice(tuple(branches)), at


def _fill(
    nodes: tuple[Node, ...], rng: random.Random, slots: Slots, used: set[str]
) -> str:
    parts = []
    for node in nodes:
        if isinstance(node, str):
            parts.append(node)
        elif isinstance(node, Slot):
            parts.append(_fill_slot(node, rng, slots, used))
        else:
            parts.append(_fill(rng.choice(node.branches), rng, slots, used))
    return "".join(parts)


def _fill_slot(slot: Slot, rng: random.Random, slots: Slots, used: set[str]) -> str:
    filler = rng.choice(slots[slot.name])
    if filler in used:  # one second try, so that "a spoon and a spoon" is rare
        filler = rng.choice(slots[slot.name])
    used.add(filler)
    return filler
