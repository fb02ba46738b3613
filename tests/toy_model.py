"""A language model that is a hash function: exact, stateless, and made in no time."""

import numpy as np

from classify.engines import FakeEngine
from classify.trie import WordPath


def hashed_logprobs(vocab_size: int, *, sharpness: float = 2.0):
    """Return a next-token function whose distribution depends on every token before."""

    def next_logprobs(token_ids):
        rng = np.random.default_rng([len(token_ids), *token_ids])
        logits = sharpness * rng.standard_normal(vocab_size)
        return logits - np.logaddexp.reduce(logits)

    return next_logprobs


def hashed_engine(vocab_size: int, **options) -> FakeEngine:
    sharpness = options.pop("sharpness", 2.0)
    return FakeEngine.from_function(
        hashed_logprobs(vocab_size, sharpness=sharpness), vocab_size, **options
    )


def slow_label_logprobs(next_logprobs, prompt, paths: list[WordPath], n_labels: int):
    """Sum the paths' probabilities one by one: slow, and obviously right."""
    probabilities = np.zeros(n_labels)
    for path in {path.token_ids: path for path in paths}.values():
        logprob, prefix = 0.0, tuple(prompt)
        for token in path.token_ids:
            logprob += next_logprobs(prefix)[token]
            prefix = (*prefix, token)
        probabilities[path.label] += np.exp(logprob)
    with np.errstate(divide="ignore"):
        return np.log(probabilities)
