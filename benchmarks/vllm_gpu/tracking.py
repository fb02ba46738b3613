"""What tracking costs: against no log-probabilities, top-20, and the full vocabulary.

python benchmarks/vllm_gpu/tracking.py --shape 8b
"""

import argparse
from typing import Any

import numpy as np
from shapes import VOCAB, best, machine, random_prompts, start


def main() -> None:
    """Print the seconds and ratios of prefill and decode."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8b")
    parser.add_argument(
        "--prefill", type=int, default=512, help="prompts of 256 tokens"
    )
    parser.add_argument(
        "--part",
        choices=("light", "full", "all"),
        default="all",
        help="full: against the full vocabulary",
    )
    options = parser.parse_args()
    llm = start(options.shape)
    print(machine(llm))
    from classify.engines.vllm import SamplingParams

    ids = np.random.default_rng(1).integers(0, VOCAB, 1000)

    def parameters(kind: str, n_tokens: int) -> Any:
        plain = {
            "max_tokens": n_tokens,
            "temperature": 0.0,
            "ignore_eos": True,
            "detokenize": False,
        }
        if kind.startswith("tracked"):
            n = int(kind.split()[1])
            return SamplingParams(track_token_ids=ids[:n].tolist(), **plain)
        if kind == "full":
            # As people ask for it: a dict of an object per token of the vocabulary.
            return SamplingParams(logprobs=-1, **plain)
        logprobs = {"none": None, "top-20": 20, "full, flat": -1}[kind]
        return SamplingParams(logprobs=logprobs, flat_logprobs=True, **plain)

    def seconds(kind: str, n: int, length: int, n_tokens: int, rounds: int) -> float:
        asked = parameters(kind, n_tokens)

        def work(at: int) -> None:
            prompts = random_prompts(hash((kind, n, at)) % 2**32, n, length)
            inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
            llm.generate(inputs, asked, use_tqdm=False)

        work(-1)  # the first call of a kind compiles
        return best(work, rounds)

    kinds = ("none", "tracked 8", "tracked 128", "tracked 1000", "top-20")
    light = (("prefill", options.prefill, 256, 1), ("decode", 64, 16, 32))
    for title, n, length, n_tokens in light if options.part != "full" else ():
        print(f"\n{title}: {n} prompts x {length} tokens, {n_tokens} generated")
        rounds = 2 if n_tokens == 1 else 6
        bare = seconds("none", n, length, n_tokens, rounds)
        for kind in kinds:
            took = (
                bare if kind == "none" else seconds(kind, n, length, n_tokens, rounds)
            )
            print(f"  {kind:13} {took:7.3f} s  {took / bare:5.3f} x none")
    heavy = (("prefill", 32, 256, 1), ("decode", 8, 16, 8))
    for title, n, length, n_tokens in heavy if options.part != "light" else ():
        print(f"\n{title}: {n} prompts x {length} tokens, {n_tokens} generated")
        few = seconds("tracked 8", n, length, n_tokens, 3)
        print(f"  tracked 8     {few:7.3f} s")
        for kind in ("full, flat", "full"):
            took = seconds(kind, n, length, n_tokens, 1)
            print(f"  {kind:13} {took:7.3f} s  {took / few:5.1f} x tracked")
    llm.llm_engine.engine_core.shutdown()


if __name__ == "__main__":
    main()
