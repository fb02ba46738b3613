"""What the V2 runner's samplers report, over batches as that runner lays them out.

The runner itself needs a GPU, and so do its sampling kernels; what ours add to their
output is computed from tensors alone.
"""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classify.engines.vllm.columns import TrackingState
from classify.engines.vllm.wire import Wanted

VOCAB = 13
GARBAGE = 99_999  # what lies behind the accepted tokens
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"
)


def input_batch(slots, drafts):
    """A batch: of each request its last token and its drafts, after other tokens."""
    n_rows = [len(some) + 1 for some in drafts]
    fed = [token for some in drafts for token in (1, *some)]
    return SimpleNamespace(
        idx_mapping_np=np.array(slots, dtype=np.int32),
        cu_num_logits_np=np.cumsum([0, *n_rows]).astype(np.int32),
        # Prompts that are being read stand between them, without logits.
        input_ids=torch.tensor([n for token in fed for n in (0, token)]).int(),
        logits_indices=2 * torch.arange(len(fed)) + 1,
    )


def verified(random, drafts):
    """Tokens of a rejection sampler, (requests, most tokens), and how many count."""
    width = max(map(len, drafts)) + 1
    sampled = torch.full((len(drafts), width), GARBAGE, dtype=torch.int64)
    n_sampled = []
    for row, some in enumerate(drafts):
        n_right = random.randint(0, len(some))
        taken = [*some[:n_right], random.randrange(VOCAB)]
        sampled[row, : len(taken)] = torch.tensor(taken)
        n_sampled.append(len(taken))
    return sampled, n_sampled


@settings(max_examples=100)
@given(st.randoms(use_true_random=True), st.integers(0, 4), st.booleans())
def test_tracked_values_stand_at_every_accepted_token(random, most_drafts, stock):
    from vllm.v1.outputs import LogprobsTensors

    from classify.engines.vllm.runner_v2 import _step, _with_columns

    n = random.randint(1, 6)
    slots = random.sample(range(20), n)
    wanted = {
        slot: random.sample(range(VOCAB), random.randint(1, 6))
        for slot in random.sample(slots, random.randint(1, n))
    }
    state = TrackingState(torch.device("cpu"))
    for slot, ids in wanted.items():
        state.add(slot, Wanted(tuple(ids)))
    drafts = [
        random.choices(range(VOCAB), k=random.randint(0, most_drafts)) for _ in slots
    ]
    batch = input_batch(slots, drafts)
    generator = torch.Generator().manual_seed(random.randrange(1 << 30))
    logits = torch.randn(int(batch.cu_num_logits_np[-1]), VOCAB, generator=generator)
    sampled, n_sampled = verified(random, drafts)
    theirs = None
    if stock:  # what a neighbour asked of vLLM itself
        theirs = LogprobsTensors(
            torch.randint(VOCAB, (len(logits), 4), generator=generator).int(),
            torch.randn(len(logits), 4, generator=generator),
            torch.zeros(len(logits), dtype=torch.int64),
        )
    output = SimpleNamespace(
        sampled_token_ids=sampled,
        num_sampled=torch.tensor(n_sampled),
        logprobs_tensors=theirs,
    )

    step = _step(state, logits, batch)
    found = _with_columns(output, step, logits, batch).logprobs_tensors

    expected = torch.log_softmax(logits, dim=-1)
    for at, slot in enumerate(slots):
        for ahead in range(n_sampled[at]):
            row = int(batch.cu_num_logits_np[at]) + ahead
            if slot in wanted:
                ids = [int(sampled[at, ahead]), 0, *wanted[slot]]
                width = len(ids)
                assert found.logprob_token_ids[row, :width].tolist() == ids
                right = expected[row, ids]
                right[1] = 0.0  # the marker
                torch.testing.assert_close(found.logprobs[row, :width], right)
            elif stock:
                ids, values = theirs.logprob_token_ids[row], theirs.logprobs[row]
                assert found.logprob_token_ids[row, :4].tolist() == ids.tolist()
                assert found.logprobs[row, :4].tolist() == values.tolist()
    boundaries = batch.cu_num_logits_np.tolist()
    assert found.cu_num_generated_tokens == (
        boundaries if len(logits) > len(slots) else None
    )


def test_the_stock_sampler_may_change_its_logits():
    # vLLM 0.26 divides them by the temperature in place: values are read afterwards.
    from classify.engines.vllm.runner_v2 import _spare, _step

    state = TrackingState(torch.device("cpu"))
    state.add(0, Wanted((1,)))
    logits = torch.randn(1, VOCAB)
    before = logits.clone()
    step = _step(state, logits, input_batch([0], [[]]))
    _spare(step, logits).div_(0.7)
    assert torch.equal(logits, before)


def test_rows_that_cannot_be_told_apart_are_an_error():
    from classify.engines.vllm.runner_v2 import _step

    state = TrackingState(torch.device("cpu"))
    state.add(0, Wanted((1,)))
    batch = input_batch([0], [[2, 3]])
    message = (
        r"^vLLM gave 2 rows of logits for 3 positions: tracked values cannot be told "
        r"apart\.$"
    )
    with pytest.raises(RuntimeError, match=message):
        _step(state, torch.zeros(2, VOCAB), batch)
