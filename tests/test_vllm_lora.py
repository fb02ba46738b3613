"""A LoRA adapter on vLLM: the same numbers as a model that it is merged into."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from classify import ZeroShotClassifier
from classify.demo import model_folder
from classify.engines.vllm.engine import VllmEngine
from tests.vllm_engines import in_this_process

LABELS = ["billing", "billing dispute", "shipping", "account access", "refund"]
TEXTS = [
    "Where is my parcel?",
    "I was charged twice.",
    "I cannot log in any more.",
    "How do I get my money back?",
    "The courier left it in the rain.",
    "Please close my account.",
]
RANK, ALPHA = 8, 20


def adapter(folder):
    """Write a random adapter for queries and values, as peft writes them."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "r": RANK,
                "lora_alpha": ALPHA,
                "lora_dropout": 0.0,
                "bias": "none",
                "target_modules": ["q_proj", "v_proj"],
            }
        )
    )
    draws = torch.Generator().manual_seed(0)
    weights = {}
    for name, weight in load_file(model_folder() / "model.safetensors").items():
        if name.endswith(("q_proj.weight", "v_proj.weight")):
            n_out, n_in = weight.shape
            module = f"base_model.model.{name.removesuffix('.weight')}"
            for part, shape in (("A", (RANK, n_in)), ("B", (n_out, RANK))):
                factor = 0.1 * torch.randn(shape, generator=draws)
                weights[f"{module}.lora_{part}.weight"] = factor
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


def merged(folder, adapter_folder):
    """Write the demo model in float32 with an adapter added to its weights."""
    shutil.copytree(model_folder(), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float32"}))
    factors = load_file(adapter_folder / "adapter_model.safetensors")
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        weights[name] = weight.float()
        if f"{module}.lora_A.weight" in factors:
            inner = factors[f"{module}.lora_A.weight"]
            outer = factors[f"{module}.lora_B.weight"]
            weights[name] += outer @ inner * (ALPHA / RANK)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def scores(model, **options):
    classifier = ZeroShotClassifier(LABELS, model, tolerance=0.0, **options)
    return classifier.label_logprobs(TEXTS)


@pytest.mark.slow
def test_an_adapter_gives_what_the_merged_model_gives(tmp_path, vllm_engines):
    pytest.importorskip("vllm")
    vllm_engines.close()  # one engine of vLLM at a time
    folder = adapter(tmp_path / "adapter")
    on_cpu = {"engine": "transformers", "device": "cpu"}
    expected = scores(str(merged(tmp_path / "merged", folder)), **on_cpu)
    base = scores("demo", **on_cpu)
    assert np.abs(expected.values - base.values).max(axis=1).min() > 0.1
    with in_this_process():
        engine = VllmEngine.load(
            model_folder(), lora=folder, max_model_len=512, batch_size=16
        )
    try:
        found = scores("demo", engine=engine)
    finally:
        engine.close()
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-4)
