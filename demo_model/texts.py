"""Texts of a class: sentences, what stands around them, and noise."""

from __future__ import annotations

import random

from demo_model.ontology import DemoClass, DemoTask, Split, tasks

EMOJI = ("😀", "😡", "🙏", "👍", "😢", "🎉", "🤔", "🚀", "❤️", "😱")
_DISTRACTIONS = (
    "{other} That is solved, but now: {main}",
    "{main} (Last time it was something else: {other} But that is done.)",
    "{other} Anyway, that is not my point. {main}",
    "{main} By the way, {other}",
)


def write_text(
    rng: random.Random,
    task: DemoTask,
    label: DemoClass,
    *,
    split: Split,
    hard: float = 0.07,
) -> str:
    """Write one text of a class.

    Parameters
    ----------
    rng : random.Random
        Where choices come from.
    task : DemoTask
        The task.
    label : DemoClass
        The class the text belongs to.
    split : {"train", "held_out"}
        Whose sentence patterns to use. A text never mixes the two.
    hard : float, default=0.07
        How often a sentence of another class is put in to distract.

    Returns
    -------
    str
        The text, with capitals, punctuation and sometimes noise.
    """
    n_sentences = rng.choices((1, 2, 3), (65, 28, 7))[0]
    patterns = label.patterns[split]
    chosen = rng.sample(patterns, min(n_sentences, len(patterns)))
    text = " ".join(_sentence(p.fill(rng, label.slots), rng) for p in chosen)
    if task.base is not None:
        text = _on_base(rng, tasks()[task.base], text, split)
    elif rng.random() < hard and len(task.classes) > 2:
        text = _distract(rng, task, label, text, split)
    text = _surround(rng, task, label, text)
    return _noise(rng, text) if rng.random() < 0.25 else text


def _sentence(words: str, rng: random.Random) -> str:
    if rng.random() < 0.93:
        words = words[:1].upper() + words[1:]
    return words if words[-1] in ".?!,:" else words + rng.choice("......!")


def _on_base(rng: random.Random, base: DemoTask, text: str, split: Split) -> str:
    other = rng.choice(base.classes)
    first = rng.choice(other.patterns[split])
    parts = [_sentence(first.fill(rng, other.slots), rng), text]
    if rng.random() < 0.3:
        parts.reverse()
    return " ".join(parts) if rng.random() < 0.85 else text


def _distract(
    rng: random.Random, task: DemoTask, label: DemoClass, text: str, split: Split
) -> str:
    other = rng.choice([each for each in task.classes if each is not label])
    sentence = _sentence(rng.choice(other.patterns[split]).fill(rng, other.slots), rng)
    return rng.choice(_DISTRACTIONS).format(main=text, other=sentence)


def _surround(rng: random.Random, task: DemoTask, label: DemoClass, text: str) -> str:
    if task.before and rng.random() < 0.3:
        before = rng.choice(task.before).fill(rng, label.slots)
        text = f"{before[:1].upper()}{before[1:]} {text}"
    if task.after and rng.random() < 0.3:
        separator = "\n" if rng.random() < 0.15 else " "
        after = rng.choice(task.after).fill(rng, label.slots)
        text = f"{text}{separator}{after}"
    return text


def _noise(rng: random.Random, text: str) -> str:
    kind = rng.randrange(6)
    if kind == 0:
        return text.lower()
    if kind == 1:
        return text.upper() if len(text) < 60 else text.lower()
    if kind == 2:
        return text.rstrip(".!").replace(",", "")
    if kind == 3:
        return f"{text} {rng.choice(EMOJI) * rng.randint(1, 2)}"
    return _typo(rng, text)


def _typo(rng: random.Random, text: str) -> str:
    words = text.split(" ")
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(words))
        word = words[at]
        if len(word) < 5:
            continue
        i = rng.randrange(1, len(word) - 2)
        words[at] = rng.choice(
            (
                word[:i] + word[i + 1] + word[i] + word[i + 2 :],
                word[:i] + word[i + 1 :],
                word[:i] + word[i] + word[i:],
            )
        )
    return " ".join(words)
