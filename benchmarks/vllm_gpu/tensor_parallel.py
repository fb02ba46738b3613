"""A model that two GPUs share, against one GPU: differences of values, and speed.

    python benchmarks/vllm_gpu/shapes.py 8b FOLDER
    python benchmarks/vllm_gpu/tensor_parallel.py --model FOLDER --walks walks.npz

Both compute the same random weights, one after the other. Values: tracked ids after
prompts and, as long as both generate the same tokens, at each step of a generation.
They round differently, bfloat16 more than float32 (`--dtype float32`, on a smaller
shape); the median difference of two texts says how far off a wrong value would be.
"""

import argparse
from typing import Any

import numpy as np
from labels import Walks, bare
from shapes import VOCAB, machine, random_prompts, timed

from classify.engines import read
from classify.engines.vllm.engine import VllmEngine
from classify.tracking import ReadRequest, TokenTree

N_READ, N_TRACKED = 256, 128
N_GENERATED, N_STEPS, N_TRACKED_STEPS = 64, 32, 8
IDS = np.random.default_rng(1).choice(VOCAB, N_TRACKED, replace=False).tolist()


def read_values(engine: VllmEngine) -> Any:
    """Return the tracked log-probabilities after some prompts."""
    tree = TokenTree([(token,) for token in IDS])
    prompts = random_prompts(10**6, N_READ, 256)
    asked = [ReadRequest(tuple(prompt), tree, (0,)) for prompt in prompts]
    return np.array([edges[1:] for edges in read(engine, asked)])


def generated(llm: Any, seed: int, *, track: bool) -> tuple[float, list[Any]]:
    """Return the seconds of a generation, and its completions."""
    from classify.engines.vllm import SamplingParams

    inputs = [
        {"prompt_token_ids": prompt}
        for prompt in random_prompts(seed, N_GENERATED, N_STEPS)
    ]
    asked = SamplingParams(
        track_token_ids=IDS[:N_TRACKED_STEPS] if track else None,
        temperature=0.0,
        max_tokens=N_STEPS,
        ignore_eos=True,
        detokenize=False,
    )
    outputs: list[Any] = []
    took = timed(
        lambda: outputs.extend(llm.generate(inputs, asked, use_tqdm=False)),
    )
    return took, [output.outputs[0] for output in outputs]


def measured(n_gpus: int, options: argparse.Namespace) -> tuple[dict[str, float], Any]:
    """Return the fewest seconds of each work, and the values, with some GPUs."""
    walks = Walks(options.walks)
    how = {"enforce_eager": True} if options.cpu else {"gpu_memory_utilization": 0.85}
    engine = VllmEngine.load(
        options.model,
        dtype=options.dtype,
        tensor_parallel_size=n_gpus,
        max_model_len=2048,
        **how,
    )
    llm = engine.llm
    print(f"{n_gpus} × {machine(llm)}; the self-test passed", flush=True)
    values = (read_values(engine), generated(llm, 10**6, track=True)[1])
    seconds: dict[str, list[float]] = {}
    # Other prompts in each round: those of the last are in the prefix cache.
    for at in range(0, 4 * (options.rounds + 1), 4):
        rows, others = (random_prompts(at + n, options.texts, 256) for n in (0, 1))
        walk, figures = walks.score(engine, rows, tolerance=1e-3, least_mass=0.9)
        plain, _ = generated(llm, at + 2, track=False)
        tracked, _ = generated(llm, at + 3, track=True)
        took = {
            "bare prefill": bare(llm, others),
            f"{len(walks.paths)} labels, {figures['requests']:.1f} requests": walk,
            "decode": plain,
            f"decode, {N_TRACKED_STEPS} tracked": tracked,
        }
        for work, each in took.items():
            seconds.setdefault(work, []).append(each)
    engine.close()
    # The first round compiles.
    return {work: min(each[1:]) for work, each in seconds.items()}, values


def print_times(few: dict[str, float], more: dict[str, float]) -> None:
    """Print the seconds of each work, and its ratio to the same without tracking."""
    bases = ("bare prefill", "decode")
    base = bases[0]
    for work, one in few.items():
        two = more[work]
        base = work if work in bases else base
        print(
            f"{work:24} {one:7.3f} s {two:7.3f} s, {one / two:.2f} times as fast; "
            f"{one / few[base]:.2f} and {two / more[base]:.2f} × {base}"
        )


def print_differences(one: Any, other: Any) -> None:
    """Print by how much values differ, and by how much wrong ones would."""
    (read_one, steps_one), (read_other, steps_other) = one, other
    difference = np.abs(read_one - read_other)
    control = np.median(np.abs(read_one - np.roll(read_one, 1, axis=0)))
    print(
        f"{difference.size:,} values after prompts: log p differs by at most "
        f"{difference.max():.2g}, median {np.median(difference):.2g}; p by "
        f"{np.abs(np.exp(read_one) - np.exp(read_other)).max():.2g}; two texts: median "
        f"{control:.2g}"
    )
    worst, n_steps, n_same = 0.0, 0, 0
    for a, b in zip(steps_one, steps_other, strict=True):
        same = np.array(a.token_ids) == np.array(b.token_ids)
        n_same += bool(same.all())
        # The step at which they part still had the same tokens before it.
        shared = len(same) if same.all() else int(same.argmin()) + 1
        n_steps += shared
        for token, tracked in a.tracked_logprobs.items():
            others = np.array(b.tracked_logprobs[token][:shared])
            worst = max(worst, float(np.abs(tracked[:shared] - others).max()))
    print(
        f"{n_steps:,} of {N_GENERATED * N_STEPS:,} generated steps after the same "
        f"tokens ({n_same} of {N_GENERATED} generations to the end): log p differs by "
        f"at most {worst:.2g}"
    )


def main() -> None:
    """Print seconds, their ratios, and differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="from shapes.py")
    parser.add_argument("--walks", required=True, help="from record_walks.py")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--texts", type=int, default=1024, help="of 256 tokens")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--gpus", type=int, nargs=2, default=[1, 2])
    parser.add_argument("--cpu", action="store_true", help="to try the script out")
    options = parser.parse_args()
    (few, values), (more, others) = (measured(n, options) for n in options.gpus)
    print_times(few, more)
    print_differences(values, others)


if __name__ == "__main__":
    main()
