"""CAPPr: the prompt's keys and values are cached and shared by its completions."""

from __future__ import annotations

from cappr.huggingface.classify import log_probs_conditional
from runner import Case, Logprobs, Setting, by_length, in_order, serve
from transformers import AutoModelForCausalLM, AutoTokenizer


class Cappr:
    """Per-token log-probabilities from CAPPr, summed (its own default is the mean)."""

    def __init__(self, model: str) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(model, torch_dtype="float32")
        self._tokenizer = AutoTokenizer.from_pretrained(model)

    def settings(self, case: Case) -> list[Setting]:
        """Try batches of prompts; with many labels also the labels in parts."""
        many = len(case.labels) > 32
        sizes = (1, 2, 4) if many else (1, 4, 8, 16, 32)
        whole = [
            {"batch_size": n, "batch_size_completions": None, "tune_texts": max(2, n)}
            for n in sizes
        ]
        parts = [
            {"batch_size": 1, "batch_size_completions": n, "tune_texts": 2}
            for n in (16, 32)
        ]
        return whole + parts if many else whole

    def score(self, case: Case, setting: Setting) -> Logprobs:
        """Sum the conditional log-probabilities of the label's tokens."""
        order = by_length(case)
        steps = log_probs_conditional(
            [case.prompts[i] for i in order],
            case.labels,
            (self._model, self._tokenizer),
            end_of_prompt=case.separator,
            show_progress_bar=False,
            batch_size=setting["batch_size"],
            batch_size_completions=setting["batch_size_completions"],
        )
        return in_order([[sum(label) for label in row] for row in steps], order)


if __name__ == "__main__":
    serve(Cappr, "cappr")
