"""The slow exact reference: one uncached float32 forward pass a text and label."""

from __future__ import annotations

import torch
from runner import Case, Logprobs, Setting, serve
from transformers import AutoModelForCausalLM, AutoTokenizer


class Reference:
    """Tokens of the joint text; no batch, no padding, no cache."""

    def __init__(self, model: str) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype="float32")
        self._model.eval()
        self._tokenizer = AutoTokenizer.from_pretrained(model)

    def settings(self, case: Case) -> list[Setting]:
        """There is nothing to set."""
        return [{"tune_texts": 1}]

    def score(self, case: Case, setting: Setting) -> Logprobs:
        """Sum log p(token | all before it) over the label's tokens."""
        return [
            [self._one(prompt, label) for label in case.continuations]
            for prompt in case.prompts
        ]

    def _one(self, prompt: str, continuation: str) -> float:
        start = self._tokenizer(prompt)["input_ids"]
        joint = self._tokenizer(prompt + continuation)["input_ids"]
        if joint[: len(start)] != start:
            raise ValueError(f"{continuation!r} merges with the end of {prompt!r}")
        ids = torch.tensor([joint])
        with torch.inference_mode():
            logits = self._model(input_ids=ids, use_cache=False).logits[0]
        steps = logits[len(start) - 1 : -1].log_softmax(-1)
        label = ids[0, len(start) :, None]
        return steps.gather(1, label).sum().item()


if __name__ == "__main__":
    serve(Reference)
