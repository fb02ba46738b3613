"""Tasks and their classes, read from ``data/*.yaml``, and what is held out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from demo_model.grammar import Pattern, parse

DATA = Path(__file__).parent / "data"
PATTERN_FOLD = 6  # the last of every six patterns of a class is held out
WORDING_FOLD = 4  # the last of every four wordings of a class is held out

_FILLERS = frozenset(
    ("with", "from", "that", "this", "what", "when", "where", "does", "will", "into")
)

Split = Literal["train", "held_out"]


def split_of(index: int, fold: int) -> Split:
    """Say which split the item at an index belongs to.

    Parameters
    ----------
    index : int
        Place in the list, from 0.
    fold : int
        The last of every `fold` items is held out.

    Returns
    -------
    {"train", "held_out"}
        The split.
    """
    return "held_out" if index % fold == fold - 1 else "train"


@dataclass(frozen=True)
class DemoClass:
    """One class of a task.

    Parameters
    ----------
    name : str
        The key in the data file.
    words : tuple of str
        Label wordings, the most usual first.
    synonyms : tuple of str
        More label wordings, for training only.
    about : tuple of str
        Descriptions.
    cues : tuple of str
        Words and phrases of the class; training texts are also made of them.
    related : tuple of str
        Cues that may serve as unusual wordings.
    patterns : dict of Split to tuple of Pattern
        Sentence patterns of either split.
    slots : mapping of str to sequence of str
        Slot fillers that hold in this class.
    """

    name: str
    words: tuple[str, ...]
    synonyms: tuple[str, ...]
    about: tuple[str, ...]
    cues: tuple[str, ...]
    related: tuple[str, ...]
    patterns: dict[Split, tuple[Pattern, ...]]
    slots: Mapping[str, Sequence[str]]

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Words of all wordings: classes that share one are too close to mix."""
        text = " ".join((*self.words, *self.related)).lower()
        return frozenset(re.findall(r"\w{3,}", text)) - {"and", "the", "question"}

    @cached_property
    def unusual_wordings(self) -> tuple[str, ...]:
        """Cues that training uses as labels; held-out wordings are not among them."""
        held = held_out_wordings()
        return tuple(
            cue for cue in self.related + self.synonyms if cue.casefold() not in held
        )

    def wordings(self, split: Split) -> tuple[str, ...]:
        """Return the label wordings of one split.

        Parameters
        ----------
        split : {"train", "held_out"}
            Which wordings.

        Returns
        -------
        tuple of str
            Held-out wordings are held out whatever class or task they stand in.
        """
        held = held_out_wordings()
        if split == "held_out":
            chosen = [
                word
                for index, word in enumerate(self.words)
                if split_of(index, WORDING_FOLD) == "held_out"
            ]
        else:
            chosen = [word for word in self.words if word.casefold() not in held]
        return tuple(chosen)


@dataclass(frozen=True)
class DemoTask:
    """A classification task.

    Parameters
    ----------
    name : str
        The task's name.
    nouns : tuple of str
        What prompts call its classes.
    classes : tuple of DemoClass
        Its classes.
    before, after : tuple of Pattern
        Sentences that may stand around a text and say nothing of the class.
    base : str or None
        The task whose texts this task's sentences are added to.
    topical : bool
        Whether classes of other topical tasks may be mixed in as options.
    """

    name: str
    nouns: tuple[str, ...]
    classes: tuple[DemoClass, ...]
    before: tuple[Pattern, ...]
    after: tuple[Pattern, ...]
    base: str | None
    topical: bool


@cache
def tasks() -> dict[str, DemoTask]:
    """Return all tasks by name, in the order of their files.

    Returns
    -------
    dict of str to DemoTask
        The tasks.
    """
    shared = _shared_slots()
    return {
        spec["name"]: _task(spec, shared)
        for path in sorted(DATA.glob("*.yaml"))
        if path.stem not in ("slots", "prompts", "cues", "synonyms")
        for spec in _as_list(_load(path))
    }


@cache
def held_out_wordings() -> frozenset[str]:
    """Return all held-out label wordings, casefolded.

    Returns
    -------
    frozenset of str
        No training example uses one of them as a label.
    """
    return frozenset(
        word.casefold()
        for task in tasks().values()
        for each in task.classes
        for index, word in enumerate(each.words)
        if split_of(index, WORDING_FOLD) == "held_out"
    )


@cache
def prompt_forms() -> dict[str, list[str]]:
    """Return the instruction wordings of ``data/prompts.yaml``.

    Returns
    -------
    dict of str to list of str
        The forms of each kind, the package's default first.
    """
    forms: dict[str, Any] = _load(DATA / "prompts.yaml")
    return {kind: _as_list(form) for kind, form in forms.items()}


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _items(text: str, separator: str = ",") -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(separator) if item.strip())


def _lines(text: str) -> tuple[str, ...]:
    return _items(text, "\n")


@cache
def _shared_slots() -> dict[str, tuple[str, ...]]:
    # Amounts hold commas ("1,200 dollars"), so that a comma needs a space after it.
    slots: dict[str, str] = _load(DATA / "slots.yaml")
    return {name: _items(text, ", ") for name, text in slots.items()}


@cache
def _by_class(file: str) -> dict[str, dict[str, str]]:
    lists: dict[str, dict[str, str]] = _load(DATA / f"{file}.yaml")
    return lists


def _words_of(wordings: Sequence[str]) -> tuple[str, ...]:
    text = " ".join(wordings)
    words = dict.fromkeys(re.findall(r"[^\W\d_]{4,}", text))
    return tuple(word for word in words if word not in _FILLERS)


def _task(spec: dict[str, Any], shared: Mapping[str, Sequence[str]]) -> DemoTask:
    own = {name: _items(text) for name, text in spec.get("slots", {}).items()}
    slots = {**shared, **own}
    common = _lines(spec.get("say", ""))
    return DemoTask(
        name=spec["name"],
        nouns=_items(spec["nouns"]),
        classes=tuple(
            _demo_class(spec, str(name), slots, common) for name in spec["classes"]
        ),
        before=tuple(parse(line) for line in _lines(spec.get("before", ""))),
        after=tuple(parse(line) for line in _lines(spec.get("after", ""))),
        base=spec.get("with"),
        topical=bool(spec.get("topical", False)),
    )


def _demo_class(
    spec: dict[str, Any],
    name: str,
    slots: Mapping[str, Sequence[str]],
    common: tuple[str, ...],
) -> DemoClass:
    body = spec["classes"][name]
    own_words = _items(body.get("w", ""))
    task = spec["name"]
    related = own_words + _items(_by_class("cues").get(task, {}).get(name, ""))
    words = _items(body["words"])
    # The words of wordings, held-out ones too, occur in texts: a model must have
    # met a word to know it. As labels, held-out wordings stay unseen.
    about_class = _words_of(words) if spec.get("related") else ()
    own = {key: _items(text) for key, text in body.get("slots", {}).items()}
    sources = (*common, *_lines(body.get("say", "")))
    patterns: dict[Split, list[Pattern]] = {"train": [], "held_out": []}
    for index, source in enumerate(sources):
        patterns[split_of(index, PATTERN_FOLD)].append(parse(source))
    return DemoClass(
        name=name,
        words=words,
        synonyms=_items(_by_class("synonyms").get(task, {}).get(name, "")),
        about=_lines(body["about"]),
        cues=related + about_class,
        related=related if spec.get("related") else (),
        patterns={key: tuple(value) for key, value in patterns.items()},
        slots={**slots, **own, "w": own_words or related},
    )
