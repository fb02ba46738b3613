"""skorch's ZeroShotClassifier: one `generate` a text and label, its cache on.

skorch tokenizes labels alone. With a tokenizer that adds a BOS it would score the BOS
as the label's first token, and without a leading space other tokens than those of the
joint text. Here it gets a tokenizer that adds nothing, the BOS as part of the prompt,
and the labels with their leading space, so that its tokens are everybody's.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from runner import Case, Logprobs, Setting, serve
from skorch.llm import ZeroShotClassifier
from transformers import AutoModelForCausalLM, AutoTokenizer


class PlainTokenizer:
    """A tokenizer that adds no special tokens; the rest is the given one's."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, text: str | list[str], **options: Any) -> Any:
        """Tokenize without special tokens."""
        return self._tokenizer(text, add_special_tokens=False, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


class Skorch:
    """Products of float32 probabilities; a product below 1e-45 comes out as -inf."""

    def __init__(self, model: str) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(model)
        first = tokenizer("a")["input_ids"][0]
        adds_bos = first == tokenizer.bos_token_id
        self._bos = tokenizer.bos_token if adds_bos else ""
        self._tokenizer = PlainTokenizer(tokenizer)

    def settings(self, case: Case) -> list[Setting]:
        """There is nothing to set: it takes text by text, label by label."""
        return [{"tune_texts": 1}]

    def score(self, case: Case, setting: Setting) -> Logprobs:
        """Logarithms of the unnormalized probabilities, from an empty cache."""
        classifier = ZeroShotClassifier(
            model=self._model,
            tokenizer=self._tokenizer,
            prompt=self._bos + "{text}",
            probas_sum_to_1=False,
            use_caching=True,
        )
        with warnings.catch_warnings():
            # Our prompt lists no labels, on purpose.
            warnings.filterwarnings("ignore", message="The prompt may not be correct")
            classifier.fit(None, case.continuations)
        columns = [list(classifier.classes_).index(c) for c in case.continuations]
        return [
            [math.log(row[j]) if row[j] > 0 else -math.inf for j in columns]
            for row in classifier.predict_proba(case.prompts)
        ]


if __name__ == "__main__":
    serve(Skorch, "skorch")
