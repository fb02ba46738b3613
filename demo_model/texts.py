"""Texts of a class: sentences, what stands around them, and noise."""

from __future__ import annotations

import random

from demo_model.ontology import DemoClass, DemoTask, Split, tasks

N_TOPIC_FRAMES = 20
EMOJI = ("😀", "😡", "🙏", "👍", "😢", "🎉", "🤔", "🚀", "❤️", "😱")
_CUE_FRAMES = (
    "{cue}",
    "{cue}",
    "it is about {cue}",
    "{cue} again",
    "and then {cue}",
    "{person} said: {cue}",
    "I mean {cue}",
    "there was something with {cue} {when}",
    "well, {cue}",
    "now it is {cue}",
    "{cue}, you know",
    "we had {cue} and so on",
    "{cue} in {city}",
    "so {cue} for {n} days",
)
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
    text = " ".join(_sentences(rng, task, label, split))
    if task.base is not None:
        text = _on_base(rng, tasks()[task.base], text, split)
    elif rng.random() < hard and len(task.classes) > 2:
        text = _distract(rng, task, label, text, split)
    text = _surround(rng, task, label, text)
    if split == "train" and rng.random() < 0.35:
        text = _thin_out(rng, text)
    return _noise(rng, text) if rng.random() < 0.25 else text


def _sentences(
    rng: random.Random, task: DemoTask, label: DemoClass, split: Split
) -> list[str]:
    n_sentences = rng.choices((1, 2, 3), (65, 28, 7))[0]
    if split == "train" and label.cues and rng.random() < 0.45:
        return _cue_sentences(rng, task, label, n_sentences)
    patterns = label.patterns[split]
    chosen = rng.sample(patterns, min(n_sentences, len(patterns)))
    written = [pattern.fill(rng, label.slots) for pattern in chosen]
    if split == "train" and len(written) > 1 and rng.random() < 0.4:
        written = [_splice(rng, written[0], written[1]), *written[2:]]
    return [_sentence(words, rng) for words in written]


def _splice(rng: random.Random, first: str, second: str) -> str:
    # Half of each: what a class is known by are its words, not whole sentences.
    head, tail = first.split(), second.split()
    return " ".join(head[: len(head) // 2 + rng.randint(0, 1)] + tail[len(tail) // 2 :])


def _cue_sentences(
    rng: random.Random, task: DemoTask, label: DemoClass, n_sentences: int
) -> list[str]:
    if task.topical and rng.random() < 0.5:
        frames = tasks()["topics"].classes[0].patterns["train"][:N_TOPIC_FRAMES]
        slots = {**label.slots, "w": label.cues}
        written = [rng.choice(frames).fill(rng, slots) for _ in range(n_sentences)]
    else:
        written = [_cue_phrase(rng, label) for _ in range(n_sentences)]
        if rng.random() < 0.4:
            pattern = rng.choice(label.patterns["train"])
            written.insert(rng.randint(0, 1), pattern.fill(rng, label.slots))
    return [_sentence(words, rng) for words in written]


def _cue_phrase(rng: random.Random, label: DemoClass) -> str:
    cues = rng.sample(label.cues, min(rng.choice((1, 1, 2, 2, 3)), len(label.cues)))
    frame = rng.choice(_CUE_FRAMES)
    fillers = {
        name: rng.choice(label.slots[name]) for name in ("person", "when", "city", "n")
    }
    return frame.format(cue=rng.choice((", ", " and ", " ")).join(cues), **fillers)


def _thin_out(rng: random.Random, text: str) -> str:
    words = text.split(" ")
    if len(words) < 6:
        return text
    if rng.random() < 0.35:
        size = rng.randint(4, len(words))
        start = rng.randint(0, len(words) - size)
        return " ".join(words[start : start + size])
    share = rng.uniform(0.08, 0.3)
    return " ".join(word for word in words if rng.random() > share) or text


def _sentence(words: str, rng: random.Random) -> str:
    if rng.random() < 0.93:
        words = words[:1].upper() + words[1:]
    return words if words[-1] in ".?!,:" else words + rng.choice("......!")


def _on_base(rng: random.Random, base: DemoTask, text: str, split: Split) -> str:
    other = rng.choice(base.classes)
    if split == "train" and rng.random() < 0.25:
        first = _cue_phrase(rng, other)
    else:
        first = rng.choice(other.patterns[split]).fill(rng, other.slots)
    parts = [_sentence(first, rng), text]
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
