"""lm-evaluation-harness: one request, so one whole forward pass, a text and label."""

from __future__ import annotations

import math

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from runner import Case, Logprobs, Setting, serve


class LmEval:
    """`HFLM.loglikelihood`, the lowest level that takes text."""

    def __init__(self, model: str) -> None:
        self._lm = HFLM(pretrained=model, device="cpu", dtype="float32", batch_size=32)

    def settings(self, case: Case) -> list[Setting]:
        """Batch sizes, in sequences."""
        return [
            {"batch_size": n, "tune_texts": math.ceil(n / len(case.labels))}
            for n in (8, 16, 64)
        ]

    def score(self, case: Case, setting: Setting) -> Logprobs:
        """Log-likelihood of each label after each prompt."""
        self._lm.batch_size_per_gpu = setting["batch_size"]
        requests = [
            Instance("loglikelihood", {}, (prompt, continuation), 0)
            for prompt in case.prompts
            for continuation in case.continuations
        ]
        found = self._lm.loglikelihood(requests, disable_tqdm=True)
        flat = [logprob for logprob, _ in found]
        width = len(case.labels)
        return [flat[i : i + width] for i in range(0, len(flat), width)]


if __name__ == "__main__":
    serve(LmEval, "lm_eval")
