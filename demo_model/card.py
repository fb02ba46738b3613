"""Write the demo model's card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WEAK = 0.75  # accuracy below which the card names a task
_BY_TASK = ("held-out patterns", "held-out label wordings")

_CARD = """# Model card: the demo model of classify

A **demo**: a language model of {parameters:.1f} million parameters that ships with
the package, so that every example runs without a download. It has learnt from
synthetic text only and knows nothing else: try the package with it, do not use its
answers for real work.

| | |
|---|---|
| architecture | LlamaForCausalLM: 8 layers, hidden size 192, 6 heads of 32 |
| | 2 key-value heads, context 1024, tied embeddings, bfloat16 |
| tokenizer | own byte-level BPE, 4096 tokens; a space is a token of its own |
| size of the folder | {size:.2f} MB |
| chat format | turns of user and assistant, an optional system turn first |
| language | English; a few sentences of five others, for the language task |

## Data

All text is written by `demo_model/` in the repository: sentence patterns with slots
and word lists, made for this project and copied from nowhere, for 20 tasks (support
tickets, news, sentiment, intents, urgency, emotion, spam, question types, 75 small
topics, …). Label lists come in many wordings, orders and styles, with and without
descriptions; few-shot, plain and "think, then answer" prompts too. 3 % of the
answers are wrong on purpose.

Held out from training:

- *patterns*: the last of every six sentence patterns of each class, as a whole;
  other patterns of the class, and lists of its words, were trained on;
- *label wordings*: the last of every four wordings of each class. None was ever a
  label, an option or an answer in training, whatever the task. Words of
  them occur in training texts, as words do in the pretraining of any model.

## Figures

Exact joint log-likelihood of label and end token, zero-shot, raw (before any
calibration), the package's default prompt with 2 to 8 options listed, float32.
Seed {seed}; intervals are 95 % (Wilson); ECE with 10 bins of equal width.

| test set | n | accuracy | interval | mean confidence | ECE | label mass |
|---|---|---|---|---|---|---|
{rows}

Texts are drawn as in training, hard and noisy ones among them, without wrong labels.

Accuracy by task (texts):

| task | held-out patterns | held-out label wordings |
|---|---|---|
{tasks}

## Limits

- It is over-confident, most of all on labels it does not know: calibration helps.
- Label wordings far from its tasks get little label mass and near-random answers.
- Tasks with less than {weak:.2f} on one of the two sets above: {weak_tasks}.
- Its "reasons" before an answer are a format, not reasoning.
- What it learnt holds for the sentences of its generator and their like; on real
  text expect less.

## Training

{stages}

{note}
"""

_STAGE = """- {title}{n_steps} steps of {tokens_per_batch} tokens, padding
  included ({examples:.2f} million examples); AdamW at {learning_rate}, seed {seed};
  {minutes} minutes on one {hardware}, torch {torch}, transformers {transformers},
  {date}; from {started}. Command: `{command}`"""


def write_card(
    figures: Mapping[str, Mapping[str, Any]],
    training: Mapping[str, Any],
    *,
    folder: Path,
    seed: int,
) -> str:
    """Write the model card.

    Parameters
    ----------
    figures : mapping of str to mapping
        Figures of each test set, as ``Figures._asdict`` gives them.
    training : mapping
        ``stages``, the reports of the training runs in order, and a ``note``.
    folder : Path
        The model folder, for its size.
    seed : int
        Seed of the test sets.

    Returns
    -------
    str
        Markdown.
    """
    stages: Sequence[Mapping[str, Any]] = training["stages"]
    size = sum(path.stat().st_size for path in folder.iterdir())
    return _CARD.format(
        parameters=stages[0]["n_parameters"] / 1e6,
        size=size / 1e6,
        seed=seed,
        rows="\n".join(_row(name, each) for name, each in figures.items()),
        tasks="\n".join(_task_rows(figures)),
        weak=WEAK,
        weak_tasks=", ".join(_weak_tasks(figures)) or "none",
        note=training["note"],
        stages="\n".join(
            _stage(number, stage, n_stages=len(stages))
            for number, stage in enumerate(stages, start=1)
        ),
    )


def _row(name: str, each: Mapping[str, Any]) -> str:
    return (
        f"| {name} | {each['n']} | {each['accuracy']:.3f} "
        f"| {each['low']:.3f} to {each['high']:.3f} | {each['confidence']:.3f} "
        f"| {each['ece']:.3f} | {each['label_mass']:.3f} |"
    )


def _weak_tasks(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    columns = [figures[name]["by_task"] for name in _BY_TASK]
    return sorted(
        {
            task
            for column in columns
            for task, (_, accuracy) in column.items()
            if accuracy < WEAK
        }
    )


def _task_rows(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    columns = [figures[name]["by_task"] for name in _BY_TASK]
    names = sorted({task for column in columns for task in column})
    return [
        f"| {task} | "
        + " | ".join(
            f"{column[task][1]:.2f} ({column[task][0]})" if task in column else "–"
            for column in columns
        )
        + " |"
        for task in names
    ]


def _stage(number: int, stage: Mapping[str, Any], *, n_stages: int) -> str:
    command = (
        f"python -m demo_model.train --seed {stage['seed']} --steps {stage['n_steps']}"
        f" --tokens-per-batch {stage['tokens_per_batch']}"
        f" --learning-rate {stage['learning_rate']}"
    )
    from_scratch = number == 1
    if not from_scratch:
        command += " --start-from FOLDER --no-compile"
    return _STAGE.format(
        **stage,
        title=f"Stage {number}: " if n_stages > 1 else "",
        examples=stage["last"]["n_examples"] / 1e6,
        started="scratch" if from_scratch else f"the model of stage {number - 1}",
        command=command,
    )
