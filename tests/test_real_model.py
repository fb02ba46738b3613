"""A model that was made by others, end to end: SmolLM2-135M-Instruct.

Its numbers are held to one uncached float32 forward pass per label over the joint text.
"""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from classify import PromptTemplate, ZeroShotClassifier, tune_prompt
from classify.cli import app
from classify.demo import labelled_csv
from classify.metrics import mutual_information
from tests.real_model import transformers_folder

pytestmark = pytest.mark.slow

LABELS = ["billing", "shipping", "New York", "New", "naïve 😀", "technical problem"]
TEXTS = ["My invoice is wrong!", "Wo bleibt mein Paket? 日本語 <|im_end|> text"]


@pytest.fixture(scope="module")
def folder(pytestconfig):
    return transformers_folder(pytestconfig.cache.mkdir("smollm2"))


@pytest.fixture(scope="module")
def tickets():
    return pd.read_csv(labelled_csv()).groupby("label").head(1)


@pytest.fixture(scope="module")
def slow(folder):
    """log p(label and the end of the answer | text), of a prompt as people write it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def encode(whole, *, is_text=False):
        return tokenizer(whole, split_special_tokens=is_text)["input_ids"]

    def chat(text):
        content = "Which of these categories describes the text best: "
        content += f"{', '.join(LABELS)}?\n\nText: \0\n\nAnswer with the category only."
        messages = [{"role": "user", "content": content}]
        rendered = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        head, question, tail = rendered.partition("Which of")
        question += tail
        question, end, header = question.partition("<|im_end|>")
        asked = encode(question.replace("\0", text), is_text=True)
        return encode(head) + asked + encode(end + header)

    def plain(text):
        return encode(f"{text}\nTopic:", is_text=True)

    @torch.inference_mode()
    def label_logprobs(kind, text):
        prompt = {"chat": chat, "plain": plain}[kind](text)
        values = []
        for label in LABELS:
            written = label if kind == "chat" else f" {label}"
            answer = [*encode(written, is_text=True), tokenizer.eos_token_id]
            logits = model(
                torch.tensor([prompt + answer]),
                use_cache=False,
                logits_to_keep=len(answer) + 1,  # those of the prompt are not needed
            ).logits[0]
            logprobs = torch.log_softmax(logits.double(), dim=-1)
            values.append(
                sum(float(logprobs[at, token]) for at, token in enumerate(answer))
            )
        return values

    return label_logprobs


@pytest.mark.parametrize("kind", ["chat", "plain"])
def test_it_is_read_exactly(folder, slow, kind):
    template = None if kind == "chat" else "{text}\nTopic:"
    clf = ZeroShotClassifier(
        LABELS,
        str(folder),
        engine="transformers",
        prompt=PromptTemplate(template, chat=kind == "chat"),
        tolerance=0.0,
    )
    found = clf.label_logprobs(TEXTS)
    order = [LABELS.index(label) for label in found.classes]
    expected = np.array([slow(kind, text) for text in TEXTS])[:, order]
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=1e-4)
    bounded = clf.set_params(tolerance=1e-2).label_logprobs(TEXTS)
    assert (bounded.lower - 1e-4 <= expected).all()
    assert (expected <= bounded.upper + 1e-4).all()


def test_the_prompt_that_says_most_about_the_texts_is_chosen(folder, tickets):
    clf = ZeroShotClassifier(
        sorted(set(tickets.label)), str(folder), engine="transformers"
    )
    prompts = {"plain": PromptTemplate("{text}\nCategory:", chat=False)}
    tuning = tune_prompt(clf, tickets.text.tolist(), prompts=prompts)
    assert {each.name for each in tuning.prompts} == {"current", "plain"}
    information = [each.information for each in tuning.prompts]
    assert information == sorted(information, reverse=True)
    proba = clf.set_params(prompt=tuning.best).predict_proba(tickets.text.tolist())
    assert mutual_information(proba) == pytest.approx(information[0], abs=1e-3)


def test_a_table_is_labelled_from_the_command_line_as_in_python(
    folder, tickets, tmp_path
):
    source, output = tmp_path / "tickets.csv", tmp_path / "labelled.jsonl"
    tickets[["text"]].to_csv(source, index=False)
    labels = sorted(set(tickets.label))
    command = ["predict", source, "--labels", ",".join(labels), "--model", folder]
    done = CliRunner().invoke(app, list(map(str, [*command, "-q", "-o", output])))
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    clf = ZeroShotClassifier(labels, str(folder), engine="transformers")
    proba = pd.DataFrame(clf.predict_proba(tickets.text.tolist()), columns=labels)
    assert [row["label"] for row in rows] == proba.idxmax(axis=1).tolist()
    found = [row["probability"] for row in rows]
    np.testing.assert_allclose(found, proba.max(axis=1), atol=1e-4)
