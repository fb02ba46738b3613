"""Thinking first, on every engine: the values behind a thought as it was sampled.

The reference takes each chain as the engine generated it, and then one uncached pass
for each label behind it.
"""

import numpy as np
import torch

from classify import PromptTemplate, ZeroShotClassifier
from tests.character_tokenizer import character_tokenizer

LABELS = ("ab", "abc", "b", "ca")
TEXTS = ("Q", "How is it?", "I paid, twice")
N_CHAINS = 3


def classifier(engine, **options):
    return ZeroShotClassifier(
        list(LABELS),
        engine=engine,
        tokenizer=character_tokenizer(),
        prompt=PromptTemplate("{text}", chat=True),
        strategy="reason",
        max_reasoning_tokens=12,
        **{"n_chains": N_CHAINS, "tolerance": 0.0} | options,
    )


def ids_of(text):
    return tuple(character_tokenizer().backend(text)["input_ids"])


def along(reference, prompt, token_ids):
    """Return the log-probabilities of all tokens at each of these, in one pass."""
    with torch.inference_mode():
        ids = torch.tensor([[*prompt, *token_ids]])
        logits = reference.model(ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits, dim=-1).double().numpy()


def of_labels(reference, behind):
    """Return log p of each label, a pass each."""
    paths = [ids_of(label + "</u>") for label in LABELS]
    return np.array(
        [along(reference, behind, path)[range(len(path)), path].sum() for path in paths]
    )


def check(reference, scores, texts=TEXTS):
    """Compare scores with the reference; return the chains of each text."""
    chains = []
    for text, mean, reasoning in zip(
        texts, scores.values, scores.reasoning, strict=True
    ):
        prompt = ids_of(f"<s><u>{text}</u><think>")
        each = []
        for chain in reasoning.chains:
            has_ended = chain.token_ids[-1:] == ids_of("</think>")
            assert chain.closing_token_ids == (() if has_ended else ids_of("</think>"))
            assert chain.cut <= (len(chain.token_ids) == 12 and not has_ended)
            behind = prompt + chain.token_ids + chain.closing_token_ids
            each.append(of_labels(reference, behind))
            np.testing.assert_allclose(chain.logprobs, each[-1], rtol=0, atol=1e-4)
            if chain.trajectory is not None:
                tracked = character_tokenizer().backend.convert_tokens_to_ids(
                    list(chain.trajectory.tracked)
                )
                values = along(reference, prompt, chain.token_ids)[:, tracked]
                np.testing.assert_allclose(
                    chain.trajectory.logprobs, values, rtol=0, atol=1e-4
                )
        p = np.exp(each)
        np.testing.assert_allclose(mean, np.log(p.mean(axis=0)), rtol=0, atol=1e-4)
        q = p.mean(axis=0) / p.sum(axis=1).mean()
        assert reasoning.agreement == (p.argmax(axis=1) == q.argmax()).mean()
        if len(each) > 1:
            rest = p - q * p.sum(axis=1, keepdims=True)
            n = len(each)
            error = np.sqrt((rest**2).sum(axis=0) / (n * (n - 1)))
            np.testing.assert_allclose(
                reasoning.standard_error,
                error / p.sum(axis=1).mean(),
                rtol=1e-3,
                atol=1e-6,
            )
        chains.append([chain.token_ids for chain in reasoning.chains])
    return chains


def test_labels_are_read_behind_each_chain_as_it_was_sampled(engine, reference):
    scores = classifier(engine).label_logprobs(TEXTS, return_steps=True)
    chains = check(reference, scores)
    assert all(len(set(each)) > 1 for each in chains)
    assert any(chain.cut for each in scores.reasoning for chain in each.chains)
    # They do not depend on what runs at the same time: a job goes on with the same.
    again = classifier(engine).label_logprobs(TEXTS[1:])
    assert [[c.token_ids for c in each.chains] for each in again.reasoning] == (
        chains[1:]
    )
    np.testing.assert_allclose(again.values, scores.values[1:], rtol=0, atol=1e-5)


def test_a_greedy_chain_is_the_likeliest(engine, reference):
    scores = classifier(engine, n_chains=1).label_logprobs(TEXTS[:2])
    for text, [chain] in zip(TEXTS, check(reference, scores, TEXTS[:2]), strict=False):
        rows = along(reference, ids_of(f"<s><u>{text}</u><think>"), chain)
        np.testing.assert_allclose(
            rows[range(len(chain)), chain], rows.max(axis=1), rtol=0, atol=1e-5
        )
