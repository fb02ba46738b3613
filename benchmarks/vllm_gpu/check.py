"""Is vLLM right on this machine? The self-test, and class probabilities against ours.

python benchmarks/vllm_gpu/check.py --speculation ngram --dtype float32
"""

import argparse

import numpy as np
from shapes import machine

from classify import ZeroShotClassifier
from classify.demo import located, tickets_csv
from classify.engines.vllm.engine import VllmEngine
from classify.engines.vllm.selftest import self_test

LABELS = ["billing", "shipping", "technical problem", "account access", "refund"]


def main() -> None:
    """Print the greatest differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--speculation", default=None)
    parser.add_argument("--draft", default=None, help="folder of a drafting model")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    import pandas as pd

    asked = options.speculation
    if options.draft:
        asked = {"method": asked, "model": options.draft}
    model = located(options.model)
    engine = VllmEngine.load(
        model,
        dtype=options.dtype,
        speculation=asked,
        self_test=False,
        max_model_len=512,
        gpu_memory_utilization=0.3,
        enforce_eager=True,
    )
    print(f"{machine(engine.llm)}; {options.dtype}; speculation: {asked}")
    for case in self_test(engine):
        print(f"  {case.name}: {case.difference:.2g} {case.problem}")
    texts = pd.read_csv(tickets_csv())["text"]
    for how in ({"tolerance": 0.0}, {"tolerance": 1e-3}, {"strategy": "generate"}):
        ours, theirs = (
            ZeroShotClassifier(
                LABELS, options.model, engine=one, dtype=options.dtype, **how
            ).label_logprobs(texts)
            for one in (engine, "transformers")
        )
        finite = np.isfinite(theirs.values)
        worst = np.abs(ours.values - theirs.values)[finite].max()
        print(f"  {how}: log p differs by {worst:.2g}; {engine.speculation_figures()}")


if __name__ == "__main__":
    main()
