"""What a job costs over its engine: a CSV file to a labelled one, on vLLM.

    python benchmarks/vllm_gpu/job_overhead.py --shape 8b --rows 4096

The engine alone is given the token ids of all prompts, made beforehand; the job reads
the CSV, makes them, scores, and writes the output, with everything that resuming needs.
Both read the same nodes, each time of prompts that the prefix cache has not seen.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from shapes import folder_with_tokenizer, machine

from classify import ZeroShotClassifier
from classify.jobs import Classification, open_table, run_job
from classify.scoring import drive

LABELS = ["billing", "shipping", "technical problem", "account access", "refund"]
SPOKEN = (
    "parcel invoice refund login password charged twice late broken screen app crash "
    "account locked courier address discount code order number support waiting weeks "
    "please help nobody answers since monday the website shows an error when I pay"
)


def write_csv(path: Path, n_rows: int, n_words: int) -> list[str]:
    """Write rows of random words; return their texts."""
    random, words = np.random.default_rng(0), SPOKEN.split()
    texts = [
        f"{number} " + " ".join(random.choice(words, n_words))
        for number in range(n_rows)
    ]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(texts))
    return texts


def main() -> None:
    """Print the seconds of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8b")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--words", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cpu", action="store_true", help="to try the script out")
    options = parser.parse_args()
    how: dict[str, Any] = {"load_format": "dummy", "max_model_len": 2048}
    if options.cpu:
        how |= {"enforce_eager": True}
    classifier = ZeroShotClassifier(
        LABELS,
        str(folder_with_tokenizer(options.shape)),
        engine="vllm",
        dtype="float32" if options.cpu else "bfloat16",
        engine_options=how,
    )
    engine: Any = classifier.load_engine()
    print(machine(engine.llm))
    folder = Path(tempfile.mkdtemp(prefix="classify-job-"))
    texts = write_csv(folder / "in.csv", options.rows, options.words)
    scorer = classifier.scorer()
    prompts = scorer.encode([{"text": text} for text in texts], None)
    strategy = scorer.read_strategy()
    n_tokens = sum(len(prompt.token_ids) for prompt in prompts)
    print(f"{len(texts):,} rows, {n_tokens / len(texts):.0f} tokens a prompt")

    def alone() -> None:
        for _ in drive((strategy(prompt) for prompt in prompts), engine):
            pass

    def job() -> None:
        table = open_table(folder / "in.csv")
        run_job(Classification(classifier=classifier), table, folder / "out.csv")

    def seconds(work: Any) -> float:
        engine.llm.reset_prefix_cache()
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    seconds(alone)  # compiles
    took = {"engine alone": [], "job": []}
    for _ in range(options.rounds):
        took["engine alone"].append(seconds(alone))
        took["job"].append(seconds(job))
    bare = min(took["engine alone"])
    for name, all_seconds in took.items():
        best = min(all_seconds)
        print(
            f"{name:12} {best:7.2f} s  {len(texts) / best:8.1f} rows/s  "
            f"{best / bare:.3f} x the engine"
        )
    engine.close()


if __name__ == "__main__":
    main()
