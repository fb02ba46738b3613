"""Train the demo model: tokenizer, weights, model folder.

python -m demo_model.train --output classify/demo/model
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from demo_model.batches import Batch, ExampleStream, batches
from demo_model.prompts import BOS, END, PAD
from demo_model.tokenizer import MAX_LENGTH, train_tokenizer, wrap_tokenizer

ATTENTION_DROPOUT = 0.1
WARM_UP = 0.02  # share of the steps


@dataclass(frozen=True)
class Settings:
    """Settings of a training run.

    Parameters
    ----------
    seed : int
        Seed of weights and data.
    n_steps : int
        Optimizer steps.
    tokens_per_batch : int
        Tokens a step, padding included.
    learning_rate : float
        Highest rate; linear warm-up, then a cosine.
    token_dropout : float
        Share of input tokens whose embedding is set to zero.
    weight_decay : float
        Of AdamW.
    n_workers : int
        Processes that write examples.
    device : str
        ``"cuda"`` or ``"cpu"``.
    compiled : bool
        Whether to compile the layers, which pays off after some minutes.
    max_seconds : float
        The schedule ends then, if the steps are not done by then.
    """

    seed: int
    n_steps: int
    tokens_per_batch: int
    learning_rate: float
    token_dropout: float
    weight_decay: float
    n_workers: int
    device: str
    compiled: bool
    max_seconds: float


class _TokenDropout:
    """Hide some input tokens, so that no single one decides."""

    def __init__(self, settings: Settings) -> None:
        self.keep = 1 - settings.token_dropout

    def __call__(
        self, module: torch.nn.Module, inputs: object, output: torch.Tensor
    ) -> torch.Tensor:
        shown = torch.rand(output.shape[:2], device=output.device) < self.keep
        return output * shown[..., None]


def build_model(tokenizer: Tokenizer) -> LlamaForCausalLM:
    """Build the untrained network.

    Parameters
    ----------
    tokenizer : Tokenizer
        Gives the vocabulary and the ids of the control tokens.

    Returns
    -------
    LlamaForCausalLM
        3.6 million parameters in float32.
    """
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=192,
        intermediate_size=448,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id(BOS),
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(PAD),
        initializer_range=0.05,
        attention_dropout=ATTENTION_DROPOUT,
    )
    return LlamaForCausalLM(config)


def train_model(
    model: LlamaForCausalLM, tokenizer: Tokenizer, settings: Settings, log: Path
) -> LlamaForCausalLM:
    """Train a model.

    Parameters
    ----------
    model : LlamaForCausalLM
        The network, in float32; it is changed in place.
    tokenizer : Tokenizer
        The trained tokenizer.
    settings : Settings
        Steps, sizes, seed.
    log : Path
        File for one JSON line per 100 steps.

    Returns
    -------
    LlamaForCausalLM
        The trained model.
    """
    torch.set_float32_matmul_precision("high")
    cast("torch.nn.Module", model).to(settings.device).train()
    model.model.embed_tokens.register_forward_hook(_TokenDropout(settings))
    on_gpu = settings.device == "cuda"
    optimizer = torch.optim.AdamW(
        model.parameters(),
        betas=(0.9, 0.95),
        weight_decay=settings.weight_decay,
        fused=on_gpu,
    )
    if settings.compiled:
        for layer in model.model.layers:
            layer.compile(dynamic=False)
    loss_of = torch.compile(_loss, dynamic=False) if settings.compiled else _loss
    source = ExampleStream(tokenizer, seed=settings.seed + 1, n_items=10**9)
    stream = batches(
        source,
        tokens_per_batch=settings.tokens_per_batch,
        n_workers=settings.n_workers,
    )
    started, total, n_rows = time.monotonic(), torch.tensor(0.0), 0
    for step in range(1, settings.n_steps + 1):
        elapsed = time.monotonic() - started
        progress = max(step / settings.n_steps, elapsed / settings.max_seconds)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(progress)
        batch = Batch(*(part.to(settings.device) for part in next(stream)))
        with torch.autocast(settings.device, torch.bfloat16, enabled=on_gpu):
            logits = model(input_ids=batch.token_ids, use_cache=False).logits
        loss = loss_of(logits, batch.token_ids, batch.weights)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total = total + loss.detach()
        n_rows += len(batch.token_ids)
        if step % 100 == 0 or progress >= 1:
            line = {
                "step": step,
                "n_examples": n_rows,
                "loss": round(float(total) / (step % 100 or 100), 4),
                "seconds": round(time.monotonic() - started, 1),
            }
            total = torch.tensor(0.0)
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        if progress >= 1:
            break
    return model


def save_model(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the model folder, weights in bfloat16.

    Parameters
    ----------
    model : LlamaForCausalLM
        The trained model.
    tokenizer : Tokenizer
        Its tokenizer.
    folder : Path
        Where to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.config.attention_dropout = 0.0  # training is over
    plain = LlamaForCausalLM(model.config)
    plain.load_state_dict(model.state_dict())
    make_generation_config: Any = GenerationConfig
    plain.generation_config = make_generation_config(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    cast("torch.nn.Module", plain).to(torch.bfloat16)
    plain.save_pretrained(folder)
    wrap_tokenizer(tokenizer).save_pretrained(folder)
    _settle_tokenizer_config(folder / "tokenizer_config.json")


def _settle_tokenizer_config(path: Path) -> None:
    # The class name that every version of transformers and vLLM knows.
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _schedule(progress: float) -> float:
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _loss(
    logits: torch.Tensor, token_ids: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    # (B, T, V) at position t predicts token t + 1.
    nll = cross_entropy(
        logits[:, :-1].float().flatten(0, 1),
        token_ids[:, 1:].flatten(),
        reduction="none",
    )
    weight = weights[:, 1:].flatten()
    return (nll * weight).sum() / weight.sum()


def _write_report(path: Path, report: dict[str, Any], *, goes_on: bool) -> None:
    stages: list[dict[str, Any]] = []
    if goes_on and path.exists():
        stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
    text = json.dumps({"stages": [*stages, report], "note": ""}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("classify/demo/model"))
    parser.add_argument("--report", type=Path, default=Path("demo_model/training.json"))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--tokens-per-batch", type=int, default=65_536)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--token-dropout", type=float, default=0.03)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--start-from", type=Path, help="folder of a trained model")
    parser.add_argument("--max-seconds", type=float, default=1e9)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--tokenizer-examples", type=int, default=60_000)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = Settings(
        seed=args.seed,
        n_steps=args.steps,
        tokens_per_batch=args.tokens_per_batch,
        learning_rate=args.learning_rate,
        token_dropout=args.token_dropout,
        weight_decay=args.weight_decay,
        n_workers=args.workers,
        device=device,
        max_seconds=args.max_seconds,
        compiled=device == "cuda" and not args.no_compile,
    )
    started = time.monotonic()
    torch.manual_seed(args.seed)
    if args.start_from is None:
        tokenizer = train_tokenizer(args.seed, args.tokenizer_examples)
        model = build_model(tokenizer)
    else:
        tokenizer = Tokenizer.from_file(str(args.start_from / "tokenizer.json"))
        model = LlamaForCausalLM.from_pretrained(
            args.start_from, dtype=torch.float32, attention_dropout=ATTENTION_DROPOUT
        )
    log = args.report.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    model = train_model(model, tokenizer, settings, log)
    save_model(model, tokenizer, args.output)
    report = {
        **asdict(settings),
        "started_from": str(args.start_from or "scratch"),
        "hardware": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "date": time.strftime("%Y-%m-%d"),
        "n_parameters": model.num_parameters(),
        "last": json.loads(log.read_text(encoding="utf-8").splitlines()[-1]),
    }
    _write_report(args.report, report, goes_on=args.start_from is not None)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
