"""A bare forward pass over the prompts: the least that any method here can cost.

No labels are scored: one forward pass over each prompt, and the logits of its last
position. Two layouts are tried: padded on the left with a mask, as one finds it in
tutorials (``logits_to_keep=1``), and padded on the right without a mask, which a causal
model does not need there, with the head applied to each row's last position.
"""

from __future__ import annotations

import torch
from runner import Case, Setting, serve
from transformers import AutoModelForCausalLM, AutoTokenizer


class Bare:
    """Forward passes in batches sorted by length."""

    def __init__(self, model: str) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype="float32")
        self._model.eval()
        self._tokenizer = AutoTokenizer.from_pretrained(model)

    def settings(self, case: Case) -> list[Setting]:
        """Both layouts, batches of 1 to 32 prompts."""
        layouts = ("left", "right")
        return [
            {"layout": layout, "batch_size": n, "tune_texts": max(8, n)}
            for n in (1, 4, 16, 32)
            for layout in layouts
        ]

    def score(self, case: Case, setting: Setting) -> None:
        """Logits after each prompt; they are thrown away."""
        prompts = sorted(self._tokenizer(case.prompts)["input_ids"], key=len)
        forward = self._left if setting["layout"] == "left" else self._right
        size = setting["batch_size"]
        with torch.inference_mode():
            for start in range(0, len(prompts), size):
                forward(prompts[start : start + size])

    def _left(self, prompts: list[list[int]]) -> torch.Tensor:
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        even = all(len(p) == width for p in prompts)
        return self._model(
            input_ids=ids,
            attention_mask=None if even else mask,
            use_cache=False,
            logits_to_keep=1,
        ).logits[:, -1]

    def _right(self, prompts: list[list[int]]) -> torch.Tensor:
        width = max(map(len, prompts))
        ids = torch.tensor([p + [0] * (width - len(p)) for p in prompts])
        hidden = self._model.base_model(input_ids=ids, use_cache=False)[0]
        last = torch.tensor([len(p) - 1 for p in prompts])
        rows = torch.arange(len(prompts))
        return self._model.get_output_embeddings()(hidden[rows, last])


if __name__ == "__main__":
    serve(Bare)
