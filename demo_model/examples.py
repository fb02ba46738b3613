"""Training examples: a prompt, its answer, and what each part weighs."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from demo_model.ontology import DemoClass, DemoTask, Split, prompt_forms, tasks
from demo_model.options import Option, choose_classes, word_options
from demo_model.prompts import (
    ANSWER_ONLY,
    BOS,
    END,
    draw_form,
    draw_system,
    instruction,
    turn,
)
from demo_model.texts import write_text

PROMPT_WEIGHT = 0.02  # a little, so that words of texts get a meaning
REASON_WEIGHT = 0.2
SHOT_WEIGHT = 0.5
LABEL_NOISE = 0.03  # share of wrong answers: people label like that

# Tasks with many classes or many uses come more often.
_TASK_WEIGHTS = {
    "ticket": 6,
    "sentiment": 4,
    "news": 4,
    "topics": 8,
    "intent": 3,
    "emotion": 3,
    "urgency": 2,
    "domain": 2,
    "department": 2,
    "bank": 2,
    "question": 2,
    "act": 2,
}


@dataclass(frozen=True)
class Part:
    """A stretch of an example.

    Parameters
    ----------
    text : str
        The text, control tokens included.
    weight : float
        Weight of its tokens in the training loss.
    """

    text: str
    weight: float


Example = list[Part]


@dataclass(frozen=True)
class Case:
    """A text with its task, its options and the right one.

    Parameters
    ----------
    task : DemoTask
        The task.
    text : str
        The text.
    options : list of Option
        The options in the order shown.
    answer : Option
        The right one.
    noun : str
        What the prompt calls the classes.
    """

    task: DemoTask
    text: str
    options: list[Option]
    answer: Option
    noun: str


def draw_task(rng: random.Random) -> DemoTask:
    """Draw a task, the larger ones more often.

    Parameters
    ----------
    rng : random.Random
        Where choices come from.

    Returns
    -------
    DemoTask
        The task.
    """
    every = list(tasks().values())
    weights = [_TASK_WEIGHTS.get(task.name, 1) for task in every]
    return rng.choices(every, weights)[0]


def draw_case(
    rng: random.Random,
    task: DemoTask,
    *,
    patterns: Split = "train",
    wordings: Split = "train",
    described: bool = False,
    plain: bool = False,
    most: int = 12,
) -> Case:
    """Draw a text and options of a task.

    Parameters
    ----------
    rng : random.Random
        Where choices come from.
    task : DemoTask
        The task.
    patterns : {"train", "held_out"}, default="train"
        Which sentence patterns the text is made of.
    wordings : {"train", "held_out"}, default="train"
        Which label wordings the options use.
    described : bool, default=False
        Whether options carry descriptions.
    plain : bool, default=False
        Whether options use the listed wordings only.
    most : int, default=12
        The most options.

    Returns
    -------
    Case
        The case.
    """
    label = rng.choice(task.classes)
    classes = choose_classes(rng, task, label, most)
    options = word_options(
        rng, classes, split=wordings, described=described, plain=plain
    )
    return Case(
        task=task,
        text=write_text(rng, task, label, split=patterns),
        options=options,
        answer=options[classes.index(label)],
        noun=rng.choice(task.nouns),
    )


def draw_example(rng: random.Random) -> Example:
    """Draw a training example.

    Parameters
    ----------
    rng : random.Random
        Where choices come from.

    Returns
    -------
    list of Part
        The whole sequence, in order.
    """
    makers: list[Callable[[random.Random, DemoTask], Example]] = [
        _inline,
        _listed,
        _described,
        _no_options,
        _plain,
        _plain_options,
        _think,
        _few_shot_chat,
        _few_shot_plain,
        _yes_or_no,
        _bare_text,
    ]
    weights = (38, 8, 13, 7, 6, 5, 8, 4, 4, 4, 3)
    return rng.choices(makers, weights)[0](rng, draw_task(rng))


def _reply(rng: random.Random, case: Case) -> str:
    if rng.random() < LABEL_NOISE:
        return rng.choice(case.options).name
    return case.answer.name


def _chat(rng: random.Random, user: str, answer: Example) -> Example:
    prompt = f"{BOS}{draw_system(rng)}{turn('user', user)}<|assistant|>\n"
    return [Part(prompt, PROMPT_WEIGHT), *answer]


def _ask(form: str, case: Case) -> str:
    return instruction(form, case.text, case.options, case.noun)


def _inline(rng: random.Random, task: DemoTask) -> Example:
    case = draw_case(rng, task)
    user = _ask(draw_form(rng, "inline", 0.55), case)
    return _chat(rng, user, [Part(_reply(rng, case) + END, 1)])


def _listed(rng: random.Random, task: DemoTask) -> Example:
    case = draw_case(rng, task)
    user = _ask(draw_form(rng, "list", 0.6), case)
    return _chat(rng, user, [Part(_reply(rng, case) + END, 1)])


def _described(rng: random.Random, task: DemoTask) -> Example:
    case = draw_case(rng, task, described=True, most=8)
    user = _ask(draw_form(rng, "list", 0.6), case)
    return _chat(rng, user, [Part(_reply(rng, case) + END, 1)])


def _usual_word(rng: random.Random, label: DemoClass) -> str:
    words = label.wordings("train")
    return words[min(int(rng.expovariate(0.7)), len(words) - 1)]


def _no_options(rng: random.Random, task: DemoTask) -> Example:
    case = draw_case(rng, task)
    user = _ask(draw_form(rng, "none", 0.6), case)
    word = _usual_word(rng, case.answer.label)
    return _chat(rng, user, [Part(word + END, 1)])


def _plain(rng: random.Random, task: DemoTask) -> Example:
    case = draw_case(rng, task)
    prompt = BOS + _ask(draw_form(rng, "plain", 0.3), case)
    word = _usual_word(rng, case.answer.label)
    return [Part(prompt, PROMPT_WEIGHT), Part(f" {word}{END}", 1)]


def _plain_options(rng: random.Random, task: DemoTask) -> Example:
    case = draw_case(rng, task)
    prompt = BOS + _ask(draw_form(rng, "plain_options", 0.3), case)
    return [Part(prompt, PROMPT_WEIGHT), Part(f" {_reply(rng, case)}{END}", 1)]


def _think(rng: random.Random, task: DemoTask) -> Example:
    described = rng.random() < 0.3
    case = draw_case(rng, task, described=described)
    kind = "list" if described or rng.random() < 0.3 else "inline"
    user = _ask(draw_form(rng, kind, 0.75), case)
    ending = prompt_forms()["think"][0]
    if rng.random() < 0.3:
        other = rng.choice(prompt_forms()["think_other"])
        ending = other.format(noun=case.noun)
    if ANSWER_ONLY in user:
        user = user.replace(ANSWER_ONLY, ending)
    else:
        user = f"{user}\n\n{ending}"
    answer = [
        Part(_reason(rng, case), REASON_WEIGHT),
        Part(f"\nAnswer: {_reply(rng, case)}{END}", 1),
    ]
    return _chat(rng, user, answer)


def _reason(rng: random.Random, case: Case) -> str:
    about = rng.choice(case.answer.label.about)
    words = re.split(r"\s+", case.text)
    start = rng.randrange(max(1, len(words) - 4))
    quote = " ".join(words[start : start + rng.randint(3, 6)]).rstrip(".?!,")
    return rng.choice(
        (
            f'The text says "{quote}", which is about {about}.',
            f'"{quote}" points to this: {about}.',
            f"It is about {about}.",
            f"The writer says {quote}; that means {about}.",
        )
    )


def _shots(rng: random.Random, task: DemoTask) -> list[Case]:
    first = draw_case(rng, task, most=6)
    cases = [first]
    for _ in range(rng.randint(1, 5)):
        option = rng.choice(first.options)
        owner = task if option.label in task.classes else tasks()["topics"]
        text = write_text(rng, owner, option.label, split="train")
        cases.append(Case(task, text, first.options, option, first.noun))
    return cases


def _few_shot_chat(rng: random.Random, task: DemoTask) -> Example:
    *shots, last = _shots(rng, task)
    kind = rng.choice(("inline", "inline", "list", "none"))
    form = draw_form(rng, kind, 0.6)
    parts = [Part(BOS + draw_system(rng), PROMPT_WEIGHT)]
    for shot in shots:
        user = turn("user", _ask(form, shot))
        parts.append(Part(f"{user}<|assistant|>\n", PROMPT_WEIGHT))
        parts.append(Part(shot.answer.name + END, SHOT_WEIGHT))
        parts.append(Part("\n", 0))
    user = turn("user", _ask(form, last))
    parts.append(Part(f"{user}<|assistant|>\n", PROMPT_WEIGHT))
    return [*parts, Part(_reply(rng, last) + END, 1)]


def _few_shot_plain(rng: random.Random, task: DemoTask) -> Example:
    *shots, last = _shots(rng, task)
    form = draw_form(rng, "plain", 0.3)
    break_ = rng.choice(("\n", "\n\n"))
    parts = [Part(BOS, 0)]
    for shot in shots:
        parts.append(Part(_ask(form, shot), PROMPT_WEIGHT))
        parts.append(Part(f" {shot.answer.name}", SHOT_WEIGHT))
        parts.append(Part(break_, 0))
    parts.append(Part(_ask(form, last), PROMPT_WEIGHT))
    return [*parts, Part(f" {_reply(rng, last)}{END}", 1)]


def _yes_or_no(rng: random.Random, task: DemoTask) -> Example:
    case = draw_case(rng, task)
    shown = case.answer if rng.random() < 0.5 else rng.choice(case.options)
    form = rng.choice(prompt_forms()["yesno"])
    user = form.format(text=case.text, label=shown.name)
    answer = "yes" if shown is case.answer else "no"
    return _chat(rng, user, [Part(answer + END, 1)])


def _bare_text(rng: random.Random, task: DemoTask) -> Example:
    label = rng.choice(task.classes)
    return [Part(BOS + write_text(rng, task, label, split="train") + END, 0.2)]
