"""Score labels exactly and measure accuracy, calibration and label mass."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo_model.examples import Case, draw_case, draw_task
from demo_model.ontology import DemoTask, Split, prompt_forms, tasks
from demo_model.prompts import instruction

Z_95 = 1.96
N_BINS = 10


@dataclass(frozen=True)
class TestSet:
    """What a set of test cases is made of.

    Parameters
    ----------
    name : str
        Its name in the model card.
    patterns, wordings : {"train", "held_out"}
        Which sentence patterns and which label wordings.
    described : bool, default=False
        Meaningless names with descriptions, one option a line.
    task : str or None, default=None
        The only task; all tasks, weighted as in training, without it.
    """

    name: str
    patterns: Split
    wordings: Split
    described: bool = False
    task: str | None = None


class Figures(NamedTuple):
    """Figures of a test set.

    Parameters
    ----------
    n : int
        Texts.
    accuracy, low, high : float
        Share of right answers with its 95 % interval (Wilson).
    confidence : float
        Mean probability of the predicted label.
    ece : float
        Expected calibration error, 10 bins of equal width.
    label_mass : float
        Mean sum of the labels' joint probabilities.
    by_task : dict of str to tuple of (int, float)
        Texts and accuracy per task.
    """

    n: int
    accuracy: float
    low: float
    high: float
    confidence: float
    ece: float
    label_mass: float
    by_task: dict[str, tuple[int, float]]


class DemoScorer:
    """Joint log-likelihood of label and end token, one sequence a label.

    Parameters
    ----------
    folder : Path
        A model folder.
    device : str, default="cpu"
        Where to run; in float32.
    batch_tokens : int, default=8192
        Tokens in a forward pass.
    """

    def __init__(
        self, folder: Path, *, device: str = "cpu", batch_tokens: int = 8192
    ) -> None:
        self.device = device
        self.batch_tokens = batch_tokens
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model = model.to(device).eval()

    def chat(self, user: str) -> str:
        """Render a user turn and the start of the answer.

        Parameters
        ----------
        user : str
            What the user says.

        Returns
        -------
        str
            The prompt with its control tokens.
        """
        rendered: str = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": user}],
            tokenize=False,
            add_generation_prompt=True,
        )
        return rendered

    def label_logprobs(
        self, prompts: Sequence[str], labels: Sequence[Sequence[str]]
    ) -> list[np.ndarray]:
        """Compute log p(label, end | prompt).

        Parameters
        ----------
        prompts : sequence of str
            Rendered prompts.
        labels : sequence of sequence of str
            The labels of each prompt.

        Returns
        -------
        list of ndarray of shape (n_labels,)
            Natural logarithms, one array a prompt.
        """
        rows = []
        for prompt, names in zip(prompts, labels, strict=True):
            head = self._encode(prompt)
            rows += [(head, self._encode(name + "<|end|>")) for name in names]
        flat = np.empty(len(rows))
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0] + rows[i][1]))
        while order:
            longest = len(rows[order[-1]][0] + rows[order[-1]][1])
            size = max(1, self.batch_tokens // longest)
            chunk, order = order[-size:], order[:-size]
            flat[chunk] = self._forward([rows[i] for i in chunk])
        return np.split(flat, np.cumsum([len(names) for names in labels])[:-1])

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    @torch.inference_mode()
    def _forward(self, rows: list[tuple[list[int], list[int]]]) -> np.ndarray:
        width = max(len(head) + len(tail) for head, tail in rows)
        # Padding on the right is never attended to by what stands before it.
        token_ids = torch.zeros(len(rows), width, dtype=torch.long)
        answer = torch.zeros(len(rows), width, dtype=torch.bool)
        for row, (head, tail) in enumerate(rows):
            end = len(head) + len(tail)
            token_ids[row, :end] = torch.tensor(head + tail)
            answer[row, len(head) : end] = True
        token_ids, answer = token_ids.to(self.device), answer.to(self.device)
        hidden = self.model.model(input_ids=token_ids, use_cache=False)[0]
        # Vocabulary-wide values at the answer's places only: (n_answer_tokens, V).
        logits = self.model.lm_head(hidden[:, :-1][answer[:, 1:]])
        logprobs = logits.float().log_softmax(-1)
        picked = logprobs.gather(-1, token_ids[answer][:, None])[:, 0]
        sizes = answer.sum(1).tolist()
        joint = [part.double().sum().item() for part in picked.split(sizes)]
        return np.asarray(joint)


def draw_cases(which: TestSet, n: int, seed: int) -> list[Case]:
    """Draw test cases.

    Parameters
    ----------
    which : TestSet
        What they are made of.
    n : int
        How many.
    seed : int
        The seed.

    Returns
    -------
    list of Case
        Cases without label noise, with at most 8 options.
    """
    rng = random.Random(f"test/{which.name}/{seed}")
    return [
        draw_case(
            rng,
            _task(rng, which),
            patterns=which.patterns,
            wordings=which.wordings,
            described=which.described,
            plain=True,
            most=8,
        )
        for _ in range(n)
    ]


def measure(scorer: DemoScorer, which: TestSet, *, n: int, seed: int) -> Figures:
    """Measure a test set.

    Parameters
    ----------
    scorer : DemoScorer
        The model.
    which : TestSet
        The test set.
    n : int
        Texts.
    seed : int
        The seed that the cases are drawn with.

    Returns
    -------
    Figures
        The figures.
    """
    cases = draw_cases(which, n, seed)
    form = prompt_forms()["list" if which.described else "inline"][0]
    prompts = [
        scorer.chat(instruction(form, case.text, case.options, case.noun))
        for case in cases
    ]
    names = [[option.name for option in case.options] for case in cases]
    joint = scorer.label_logprobs(prompts, names)
    right = np.array(
        [
            case.options[int(row.argmax())] is case.answer
            for case, row in zip(cases, joint, strict=True)
        ]
    )
    mass = np.array([np.exp(row).sum() for row in joint])
    best = np.array([np.exp(row.max()) for row in joint]) / mass
    low, high = wilson(int(right.sum()), n)
    return Figures(
        n=n,
        accuracy=float(right.mean()),
        low=low,
        high=high,
        confidence=float(best.mean()),
        ece=expected_calibration_error(best, right),
        label_mass=float(mass.mean()),
        by_task=_by_task(cases, right),
    )


def wilson(n_right: int, n: int) -> tuple[float, float]:
    """Compute the 95 % Wilson interval of a share.

    Parameters
    ----------
    n_right : int
        Successes.
    n : int
        Trials.

    Returns
    -------
    tuple of (float, float)
        Its ends.
    """
    share, spread = n_right / n, Z_95**2 / n
    centre = share + spread / 2
    half = Z_95 * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return (centre - half) / (1 + spread), (centre + half) / (1 + spread)


def expected_calibration_error(
    confidence: np.ndarray, right: np.ndarray, n_bins: int = N_BINS
) -> float:
    """Compute the expected calibration error over bins of equal width.

    Parameters
    ----------
    confidence : ndarray of shape (n_texts,)
        Probability of the predicted label.
    right : ndarray of shape (n_texts,)
        Whether the prediction is right.
    n_bins : int, default=10
        Bins of [0, 1].

    Returns
    -------
    float
        Mean of |accuracy - confidence| over bins, weighted by their texts.
    """
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = [
        (bins == b).mean() * abs(confidence[bins == b].mean() - right[bins == b].mean())
        for b in np.unique(bins)
    ]
    return float(sum(gaps))


def _task(rng: random.Random, which: TestSet) -> DemoTask:
    return tasks()[which.task] if which.task else draw_task(rng)


def _by_task(cases: list[Case], right: np.ndarray) -> dict[str, tuple[int, float]]:
    names = np.array([case.task.name for case in cases])
    return {
        name: (int((names == name).sum()), float(right[names == name].mean()))
        for name in tasks()
        if (names == name).any()
    }
