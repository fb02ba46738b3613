"""Tracked values with speculative decoding against without, at the same tokens.

    python benchmarks/vllm_gpu/speculation.py --shape 8b --method ngram

A model on dummy weights falls into repeats, which prompt lookup drafts well, as it does
where a model thinks in the words of the text. Each method runs in a process of its own
(vLLM fixes it at the start), so the first run writes what the second compares with.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from shapes import eagle_folder, machine, random_prompts, start, timed

from classify.tracking import common_prefix_length

N_TRACKED = 128


def main() -> None:
    """Print times, acceptance and the greatest difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8b")
    parser.add_argument("--method", choices=("none", "ngram", "eagle"), default="none")
    parser.add_argument(
        "--accept",
        type=float,
        nargs="+",
        help="accept drafts at these rates, whatever they are",
    )
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128, help="tokens to generate")
    parser.add_argument("--values", type=Path, default=Path("values.json"))
    options = parser.parse_args()
    from classify.engines.vllm import SamplingParams
    from classify.engines.vllm.speculation import speculation_figures

    config: dict[str, Any] | None = {
        "none": None,
        "ngram": {
            "method": "ngram",
            "num_speculative_tokens": 4,
            "prompt_lookup_min": 2,
            "prompt_lookup_max": 4,
        },
        "eagle": {"method": "eagle", "num_speculative_tokens": 3},
    }[options.method]
    if options.method == "eagle":
        assert config is not None
        config["model"] = eagle_folder(options.shape)
    if config is not None and options.accept:
        config["num_speculative_tokens"] = len(options.accept)
        config["rejection_sample_method"] = "synthetic"
        config["synthetic_acceptance_rates"] = options.accept
    llm = start(options.shape, speculative_config=config, disable_log_stats=False)
    print(f"{machine(llm)}; speculation: {options.method}")

    plain = {
        "max_tokens": options.tokens,
        "temperature": 0.0,
        "ignore_eos": True,
        "detokenize": False,
    }
    ids = np.random.default_rng(1).integers(0, 128_000, N_TRACKED).tolist()
    tracked = SamplingParams(track_token_ids=ids, **plain)
    untracked = SamplingParams(**plain)
    outputs: list[Any] = []

    def run(asked: Any, seed: int) -> float:
        prompts = random_prompts(seed, options.prompts, 128)
        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        outputs.clear()
        return timed(
            lambda: outputs.extend(llm.generate(inputs, asked, use_tqdm=False))
        )

    run(tracked, 1), run(untracked, 2)  # compile
    bare = min(run(untracked, seed) for seed in (3, 4, 0))
    took = min(run(tracked, seed) for seed in (3, 4, 0))
    print(
        f"untracked {bare:.3f} s, {N_TRACKED} tracked {took:.3f} s: {took / bare:.3f}"
    )
    if config is not None:
        print(speculation_figures(llm.get_metrics()))
    llm.llm_engine.engine_core.shutdown()
    found = [
        (list(one.token_ids), {str(k): v for k, v in one.tracked_logprobs.items()})
        for one in (output.outputs[0] for output in outputs)
    ]
    if options.method == "none":
        options.values.write_text(json.dumps({"seconds": took, "values": found}))
        return
    if not options.values.exists():
        return
    before = json.loads(options.values.read_text())
    worst, compared, total = 0.0, 0, 0
    for (tokens, values), (old_tokens, old_values) in zip(
        found, before["values"], strict=True
    ):
        same = common_prefix_length([tuple(tokens), tuple(old_tokens)])
        # The value after the last shared token still has the same tokens before it.
        upto = min(same + 1, len(tokens))
        compared, total = compared + upto, total + len(tokens)
        for token, row in values.items():
            difference = np.abs(np.array(row[:upto]) - old_values[token][:upto])
            worst = max(worst, float(difference.max()))
    print(
        f"against no speculation: {took / before['seconds']:.3f} x the time, greatest "
        f"difference {worst:.2g} over {compared} of {total} steps with the same tokens"
    )


if __name__ == "__main__":
    main()
