"""`classify doctor`, and what it is told by the engines."""

import re
import shutil
from contextlib import closing

import pytest
from typer.testing import CliRunner

import classify
from classify import ZeroShotClassifier
from classify.cli import app
from classify.cli.audit_labels import example_fact
from classify.cli.doctor import _rounding
from classify.config import Task
from classify.demo import model_folder
from classify.engines import FakeEngine
from classify.engines.diagnosis import Finding, describe, environment, findings
from classify.engines.transformers import TransformersEngine
from classify.tokenizer import load_tokenizer
from tests.tiny_models import make_model


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["doctor", *arguments])
    assert result.exit_code == code, result.output
    return result


def facts_of(shown):
    """Return the value of each name; lines without one go on with the last."""
    facts = {}
    name = ""
    for line in shown.splitlines():
        name = line[:16].strip() or name
        facts[name] = f"{facts.get(name, '')} {line[17:].strip()}".strip()
    return facts


def test_what_is_shown_of_the_demo_model():
    shown = run("--engine", "transformers").stdout
    assert max(map(len, shown.splitlines())) <= 80
    facts = facts_of(shown)
    assert facts["Packages"].startswith(f"classify {classify.__version__}, torch ")
    assert re.search(r"(^|; )cpu, \d+ threads?$", facts["Devices"])
    assert re.match(r"(transformers|vllm): \w", facts["auto chooses"])
    assert re.fullmatch(r"transformers, loaded in \d+\.\d s", facts["Engine"])
    assert facts["Model"] == "LlamaForCausalLM, 3.6 M parameters"
    assert re.fullmatch(r"float32 on (cpu|cuda:0)", facts["Weights"])
    assert facts["Reads"] == "tree: all label paths of a text in one pass"
    assert facts["Context"] == "1,024 tokens"
    assert shown.endswith("\n")
    assert facts["ok"] == (
        "tree reads against plain forward passes: the same "
        "forked reads against plain forward passes: the same "
        "cached reads against plain forward passes: the same"
    )


def with_template(folder, template):
    """Return a folder with the demo model and a chat template."""
    shutil.copytree(model_folder(), folder)
    tokenizer = load_tokenizer(folder).backend
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def test_where_the_label_is_read_is_shown_as_labels_shows_it(tmp_path):
    model = with_template(
        tmp_path / "model",
        "{% for message in messages %}{{ message.role }}: "
        "{% if message.role == 'assistant' %}<think>\n"
        "{{ message.reasoning_content | default('') }}\n</think>\n\n{% endif %}"
        "{{ message.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
    )
    facts = facts_of(run("--engine", "transformers", "--model", str(model)).stdout)
    arguments = ["labels", "--labels", "yes,no", "--model", str(model)]
    shown = CliRunner().invoke(app, arguments).stdout
    assert facts["Prompt starts"] == "as the model's chat template writes it"
    assert facts["Thinking"] == (
        "the model can think; the thinking block is closed before the label"
    )
    assert f"Prompt ends    {facts['Prompt ends']}\n" in shown
    assert facts["Example"].startswith("user: ")
    assert facts["Example"].endswith("assistant: <think> </think> [label]")


def test_an_example_shows_where_thought_and_label_come_and_leaves_out_the_middle():
    labels = [f"label number {at}" for at in range(200)]
    audit = ZeroShotClassifier(labels, strategy="reason").audit()
    name, shown = example_fact(audit)
    assert name == "Example"
    head, tail = shown.plain.split("\n…\n")
    assert head == audit.prompt_text[:600]
    assert tail == audit.prompt_text[-600:] + "[thought]\nAnswer:[label]<|end|>"


def test_a_template_that_is_refused_does_not_keep_the_engine_from_its_tests(tmp_path):
    model = with_template(
        tmp_path / "model", "{{ raise_exception('Roles must alternate.') }}"
    )
    facts = facts_of(run("--engine", "transformers", "--model", str(model)).stdout)
    assert "Roles must alternate." in facts["Prompt"]
    assert facts["ok"].startswith("tree reads against plain forward passes: the same")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--engine", "vlm"),
            (
                "--engine must be auto, transformers, vllm, server or llamacpp. Got "
                "'vlm' instead. Did you mean 'vllm'?"
            ),
        ),
        (
            ("--engine", "transformers", "--speculation", "labels"),
            "--speculation is for --engine vllm: give that, or drop --speculation.",
        ),
    ],
    ids=["engine", "speculation"],
)
def test_mistakes_are_misuse(arguments, sentence):
    assert run(*arguments, code=2).stderr == f"Error: {sentence}\n"


def test_how_much_is_rounded_is_measured_against_float32():
    spec = {"model": str(model_folder()), "engine": "transformers", "device": "cpu"}
    task = Task.parse(spec)
    with closing(task.classifier().load_engine()) as engine:
        assert _rounding(task, engine) == "none against float32 on the CPU"

    options = [f"--{name}={value}" for name, value in spec.items()]
    ended = run(*options, "--dtype", "bfloat16", "--rounding")
    assert ended.stderr == ""
    shown = re.fullmatch(
        r"log p of a label is off by (\S+) nats on average, (\S+) at most, and p by "
        r"(\S+) at most, against float32 on the CPU",
        facts_of(ended.stdout)["Rounding"],
    )
    mean, most, most_of_p = map(float, shown.groups())
    # With one part in 256 for each factor.
    assert 1e-4 < mean < most < 1
    assert 0 < most_of_p < most


def test_where_there_is_no_float32_to_compare_with_it_is_said(tmp_path):
    task = Task.parse({"model": str(tmp_path / "none"), "labels": ["a", "b"]})
    engine = FakeEngine.from_function(lambda _: [0.0], 1, context_length=1234)
    assert _rounding(task, engine).startswith("not compared: ")


def test_a_way_of_reading_that_is_wrong_for_a_model_is_no_failure():
    # ALiBi knows no positions, so that a tree mask cannot be right.
    found = findings(TransformersEngine(make_model("bloom_alibi")))
    assert [each.is_fault for each in found] == [False] * 3
    assert found[0].name == "tree reads against plain forward passes"
    assert found[0].detail.startswith("not taken: ")
    assert found[1] == Finding(
        "forked reads against plain forward passes", "the same", is_fault=False
    )


def test_an_engine_of_ones_own_is_described_as_far_as_it_goes():
    engine = FakeEngine.from_function(lambda _: [0.0], 1, context_length=1234)
    assert describe(engine) == {
        "shows": "exact log-probabilities of every token",
        "context": "1,234 tokens",
    }
    assert findings(engine) == []


def test_the_environment_names_every_package():
    facts = environment()
    assert list(facts) == ["Python", "Packages", "Devices"]
    assert [part.split()[0] for part in facts["Packages"].split(", ")][:3] == [
        "classify",
        "torch",
        "transformers",
    ]
