"""Label options of an example: which classes, in which wording and style."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from demo_model.ontology import (
    DemoClass,
    DemoTask,
    Split,
    held_out_wordings,
    tasks,
)

_SYLLABLES = (
    *("ba", "ko", "ri", "zu", "mel", "tan", "vor", "qui"),
    *("sha", "lin", "dex", "po", "ya", "gru", "fen"),
)
_COMPOUNDS = (
    "{} stuff",
    "about {}",
    "{} matters",
    "{} team",
    "class {}",
    "{} things",
    "other {}",
)
_STYLES: tuple[tuple[Callable[[str], str], int], ...] = (
    (str, 66),
    (str.title, 13),
    (lambda word: word[:1].upper() + word[1:], 13),
    (str.upper, 3),
    (lambda word: word.replace(" ", "_"), 4),
    (lambda word: word.replace(" ", "-"), 1),
)


@dataclass(frozen=True)
class Option:
    """One label that may be chosen.

    Parameters
    ----------
    label : DemoClass
        The class behind it.
    name : str
        The wording shown and answered.
    description : str or None
        The description shown with it.
    """

    label: DemoClass
    name: str
    description: str | None = None


def choose_classes(
    rng: random.Random, task: DemoTask, label: DemoClass, most: int = 12
) -> list[DemoClass]:
    """Choose the classes that an example offers, in random order.

    Parameters
    ----------
    rng : random.Random
        Where choices come from.
    task : DemoTask
        The task.
    label : DemoClass
        The right class; always among them.
    most : int, default=12
        The most classes to offer.

    Returns
    -------
    list of DemoClass
        Two classes or more.
    """
    others = [each for each in task.classes if each is not label]
    if task.topical and rng.random() < 0.1:
        others += rng.sample(tasks()["topics"].classes, 6)
    if task.topical:
        others = [each for each in others if not _too_close(each, label, task)]
    n_others = min(rng.choice((1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 9, 11)), most - 1)
    chosen = [label, *rng.sample(others, min(n_others, len(others)))]
    rng.shuffle(chosen)
    return chosen


def _too_close(other: DemoClass, label: DemoClass, task: DemoTask) -> bool:
    if other in task.classes and task.name != "topics":
        return False
    return bool(other.vocabulary & label.vocabulary)


def word_options(
    rng: random.Random,
    classes: list[DemoClass],
    *,
    split: Split,
    described: bool = False,
    plain: bool = False,
) -> list[Option]:
    """Give each class a wording, all in one style and no two alike.

    Parameters
    ----------
    rng : random.Random
        Where choices come from.
    classes : list of DemoClass
        The classes offered.
    split : {"train", "held_out"}
        Which wordings to use; held-out ones come as they are written.
    described : bool, default=False
        Whether to add descriptions; names may then be meaningless.
    plain : bool, default=False
        Whether to use the listed wordings only, in lower or title case.

    Returns
    -------
    list of Option
        In the order of `classes`.
    """
    mode = rng.random()
    style = rng.choices(*zip(*_STYLES, strict=True))[0]
    if plain or split == "held_out":
        style = rng.choice((str, str, str.title))
        mode = 0.9 if described else 0.3
    seen: set[str] = set()
    options = []
    for label in classes:
        for _ in range(8):
            name = style(_wording(rng, label, split, mode, described))
            if name.casefold() not in seen:
                break
        else:
            name = f"{name} {len(seen) + 1}"
        seen.add(name.casefold())
        about = rng.choice(label.about) if described else None
        options.append(Option(label, name, about))
    return options


def _wording(
    rng: random.Random, label: DemoClass, split: Split, mode: float, described: bool
) -> str:
    words = label.wordings(split)
    if split == "held_out":
        return rng.choice(words)
    if described and mode > 0.6:
        return _invented(rng)
    if mode < 0.1:
        return words[0]
    if mode < 0.5:
        return rng.choice(words)
    return _pair(rng, label) if mode < 0.62 else _unusual(rng, label)


def _pair(rng: random.Random, label: DemoClass) -> str:
    words = label.wordings("train") + label.unusual_wordings
    if len(words) < 2:
        return words[0]
    joint = rng.choice((" and ", " and ", " or ", "/", " & "))
    return joint.join(rng.sample(words, 2))


def _unusual(rng: random.Random, label: DemoClass) -> str:
    if label.unusual_wordings and rng.random() < 0.7:
        return rng.choice(label.unusual_wordings)
    plain = [about for about in label.about if "," not in about]
    if plain and rng.random() < 0.5:
        return rng.choice(plain)
    word = rng.choice(label.wordings("train"))
    form = rng.choice(_COMPOUNDS)
    name = form.format(word)
    return word if name.casefold() in held_out_wordings() else name


def _invented(rng: random.Random) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice("ABCDEFGHJK")
    if kind == 1:
        return f"{rng.choice(('group', 'type', 'class', 'L'))} {rng.randint(1, 40)}"
    if kind == 2:
        return f"{rng.choice('KXTRQZ')}{rng.randint(10, 99)}"
    return "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3)))
