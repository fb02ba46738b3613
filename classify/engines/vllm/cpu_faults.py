"""Two bugs of vLLM 0.32 on a CPU without Triton, fixed in its workers.

Both concern sampled requests, and the second also the greedy ones in the same batch.

* A prompt that is read in chunks draws a token at each chunk, which is discarded; the
  generator of a seeded request is then set back, and that of a CPU cannot be: the
  worker dies.
* The temperatures of drafted positions are copied as integers into a copy of the array
  meant for them, so that the logits of drafts are divided by whatever was in memory.
"""

from typing import Any

import torch

__all__ = ["expanded", "mend_expansion", "spare_generators"]


def spare_generators(runner: Any) -> None:
    """Draw nothing from the generators of requests whose prompt is not read yet.

    Parameters
    ----------
    runner : vllm.v1.worker.gpu_model_runner.GPUModelRunner
    """
    batch = runner.input_batch
    unread = runner.discard_request_mask.np
    for row, name in enumerate(batch.req_ids):
        generator = runner.requests[name].generator
        if generator is None:
            continue
        if unread[row]:
            batch.generators.pop(row, None)
        else:
            batch.generators[row] = generator


def mend_expansion() -> None:
    """Give this process's rejection sampler the temperatures that requests ask for."""
    from vllm.v1.sample import rejection_sampler

    rejection_sampler.expand_batch_to_tokens = expanded


def expanded(
    x: torch.Tensor,
    cu_num_tokens: torch.Tensor,
    num_tokens: int,
    replace_from: int = 0,
    replace_to: int = 0,
) -> torch.Tensor:
    """Repeat the value of each request for each of its tokens.

    Parameters
    ----------
    x : Tensor, shape (n_requests,)
    cu_num_tokens : Tensor of int, shape (n_requests,)
        Number of tokens of all requests up to and including each.
    num_tokens : int
        Their sum.
    replace_from, replace_to : int
        A value to replace, and by what.

    Returns
    -------
    Tensor of the type of `x`, shape (num_tokens,)

    Examples
    --------
    >>> expanded(torch.tensor([0.5, 0.0]), torch.tensor([1, 3]), 3, replace_to=1)
    tensor([0.5000, 1.0000, 1.0000])
    """
    n_tokens = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1))
    values = torch.where(x == replace_from, torch.full_like(x, replace_to), x)
    return values.repeat_interleave(n_tokens, output_size=num_tokens)
