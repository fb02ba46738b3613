import re
from pathlib import Path

import pytest

from classify import Label, LabelSet, PromptTemplate, Verbalizer
from classify.config import Task
from classify.demo import tickets_yaml
from classify.errors import ConfigError, InputError, LabelError, PromptError

CONFIGS = Path(__file__).parents[1] / "configs"
KEYS = (
    "labels, prompt, verbalizer, kind, min_node_probability, tree_scoring, escape, "
    "yes_words, no_words, strategy, tolerance, max_reasoning_tokens, n_chains, "
    "chain_temperature, chain_seed, calibration, threshold, target_risk, sets, target, "
    "questions, text_column, labels_column, model, engine, "
    "dtype, device, batch_size, revision, trust_remote_code, speculation, "
    "engine_options"
)


def raises(message, error=ConfigError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a file and returns its path."""

    def write(content, name="task.yaml"):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write


def test_an_empty_task_is_the_classifiers_defaults():
    ours = Task.parse({}).classifier().get_params()
    assert ours.pop("prompt") == PromptTemplate()
    assert ours.pop("verbalizer") == Verbalizer()
    from classify import ZeroShotClassifier

    theirs = ZeroShotClassifier().get_params()
    assert ours == {name: theirs[name] for name in ours}


def test_a_task_file_becomes_a_classifier(written):
    path = written(
        """
labels:
  pos: {description: happy, words: [positive, good]}
  neg: sad
prompt:
  template: "{title}: {text} {labels}"
  system: Hello
  examples:
    - {text: Bad., title: No, label: neg}
  chat: true
  options: inline
  answer_prefix: "It is"
  too_long: error
  template_arguments: {enable_thinking: false}
verbalizer: {case_variants: true, end: always, end_token: newline}
strategy: generate
tolerance: 1e-2
model: some/model
engine: vllm
speculation: {method: draft_model, model: a/draft}
engine_options: {max_model_len: 4096, quantization: fp8}
dtype: float16
device: cuda
batch_size: 4
revision: abc
trust_remote_code: true
text_column: body
labels_column: options
calibration: calibration.json
""".replace("title: No", 'title: "No"')
    )
    task = Task.from_yaml(path)
    assert (task.text_column, task.labels_column) == ("body", "options")
    assert task.classifier().get_params() == {
        "labels": LabelSet(
            [Label("pos", "happy", ("positive", "good")), Label("neg", "sad")]
        ),
        "prompt": PromptTemplate(
            "{title}: {text} {labels}",
            system="Hello",
            examples=(({"text": "Bad.", "title": "No"}, "neg"),),
            chat=True,
            options="inline",
            answer_prefix="It is",
            too_long="error",
            template_arguments={"enable_thinking": False},
        ),
        "verbalizer": Verbalizer(case_variants=True, end="always", end_token="newline"),
        "kind": "choice",
        "min_node_probability": 0.8,
        "tree_scoring": "paths",
        "escape": None,
        "strategy": "generate",
        "tolerance": 0.01,
        "max_reasoning_tokens": 512,
        "n_chains": 1,
        "chain_temperature": 0.7,
        "chain_seed": 0,
        "model": "some/model",
        "engine": "vllm",
        "speculation": {"method": "draft_model", "model": "a/draft"},
        "calibrator": Path("calibration.json"),
        "engine_options": {"max_model_len": 4096, "quantization": "fp8"},
        "dtype": "float16",
        "device": "cuda",
        "batch_size": 4,
        "revision": "abc",
        "trust_remote_code": True,
        "tokenizer": None,
    }


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_the_task_files_of_the_repository_are_valid(config):
    parts = Task.from_yaml(config).by_question()
    assert all(len(part.labels) >= 2 for part in parts.values())


def test_the_task_file_for_vllm_says_what_runs_it():
    task = Task.from_yaml(CONFIGS / "support_tickets_vllm.yaml")
    assert (task.model.engine, task.scoring.strategy) == ("vllm", "generate")
    assert task.model.speculation == {"method": "labels", "num_speculative_tokens": 5}
    assert task.model.engine_options == {
        "max_model_len": 1024,
        "gpu_memory_utilization": 0.9,
    }
    others = Task.from_yaml(tickets_yaml())
    assert task.labels.names == others.labels.names


def test_a_string_is_a_template():
    task = Task.parse({"prompt": "{text}\nTopic:"})
    assert task.prompt == PromptTemplate("{text}\nTopic:")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"tolerence": 1},
            (
                f"Unknown key 'tolerence' in the settings. Did you mean 'tolerance'? "
                f"Allowed: {KEYS}."
            ),
        ),
        ({3: 4}, f"Unknown key '3' in the settings. Allowed: {KEYS}."),
        (
            {"prompt": {"optons": "none"}},
            (
                "Unknown key 'prompt.optons' in the settings. Did you mean 'options'? "
                "Allowed: template, system, examples, n_examples, example_choice, "
                "example_seed, max_example_tokens, example_text_column, "
                "example_label_column, chat, options, text_position, answer_prefix, "
                "answer, n_orders, shortlist, too_long, template_arguments, "
                "ensemble."
            ),
        ),
        (
            {"verbalizer": {"ends": "always"}},
            (
                "Unknown key 'verbalizer.ends' in the settings. Did you mean 'end'? "
                "Allowed: case_variants, space_variants, end, end_token."
            ),
        ),
        (
            {"prompt": {"chat": 1}},
            "'prompt.chat' must be true, false or auto. Got 1 instead.",
        ),
        (
            {"prompt": 3},
            "'prompt' must be a mapping, or a template as a string. Got 3 instead.",
        ),
        (
            {"prompt": {"examples": ["good"]}},
            (
                "'prompt.examples' must be the path of a table with labels; or a list "
                "of examples, each {text: …, label: …}, with further columns if the "
                "template has them. Got ['good'] instead."
            ),
        ),
        (
            {"tolerance": 1},
            "'tolerance' must be a number from 0 (exact) to below 1. Got 1 instead.",
        ),
        (
            {"tolerance": "little"},
            (
                "'tolerance' must be a number from 0 (exact) to below 1. "
                "Got 'little' instead."
            ),
        ),
        (
            {"tolerance": True},
            "'tolerance' must be a number from 0 (exact) to below 1. Got True instead.",
        ),
        (
            {"batch_size": 0},
            "'batch_size' must be auto or an integer above 0. Got 0 instead.",
        ),
        (
            {"strategy": "best"},
            "'strategy' must be exact, generate or reason. Got 'best' instead.",
        ),
        ({"model": 7}, "'model' must be a string. Got 7 instead."),
        (
            {"speculation": 3},
            (
                "'speculation' must be the name of a method, or a mapping with its "
                "method. Got 3 instead."
            ),
        ),
        (
            {"speculation": {"method": "eagle"}},
            (
                "Speculation by 'eagle' needs 'model', a folder or hub id: "
                "speculation={'method': 'eagle', 'model': '…'}."
            ),
        ),
        (
            {"engine_options": "seed=1"},
            (
                "'engine_options' must be a mapping of names to values. Got 'seed=1' "
                "instead."
            ),
        ),
        (
            {"text_column": ["x" * 100]},
            f"'text_column' must be a string. Got ['{'x' * 75}… instead.",
        ),
    ],
    ids=str,
)
def test_bad_settings_are_named_with_their_path(settings, message):
    with raises(message):
        Task.parse(settings)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"tolerance": "2"},
            ConfigError,
            "--tolerance must be a number from 0 (exact) to below 1. Got 2.0 instead.",
        ),
        (
            {"options": "all"},
            ConfigError,
            (
                "--options must be auto, inline, lines, verbatim or none. Got 'all' "
                "instead."
            ),
        ),
        (
            {"template": "Topic:"},
            PromptError,
            (
                "The template 'Topic:' is the same for every text: put {text}, or "
                "the name of a column in braces, where the text belongs."
            ),
        ),
        (
            {"labels": ["a", "a"]},
            LabelError,
            (
                "Labels must be unique. 'a' declared more than once: remove or "
                "rename the repeats."
            ),
        ),
        (
            {"labels": ["a"]},
            LabelError,
            (
                "Classification needs at least two labels. Got only 'a' instead: add "
                "the others, for example 'other'."
            ),
        ),
    ],
    ids=str,
)
def test_bad_options_are_named_as_options(changes, error, message):
    with raises(message, error):
        Task.parse({}).changed(changes)


def test_options_override_a_task_and_leave_the_rest():
    task = Task.parse({"labels": ["a", "b"], "prompt": {"system": "Hi"}, "model": "m"})
    changed = task.changed({"options": "none", "model": "n"})
    assert changed.prompt.system == "Hi"
    assert changed.prompt.options == "none"
    assert changed.model.model == "n"
    assert changed.labels == task.labels
    assert task.model.model == "m"


# --------------------------------------------------------------------------- YAML


def test_sentences_name_the_task_file(written):
    path = written("labels: [a, b]\ntolerence: 0.1\n")
    with raises(
        f"Unknown key 'tolerence' in task file '{path}'. Did you mean 'tolerance'? "
        f"Allowed: {KEYS}."
    ):
        Task.from_yaml(path)
    path = written("prompt: {options: all}\n")
    with raises(
        f"'prompt.options' in task file '{path}' must be auto, inline, lines, verbatim "
        "or none. Got 'all' instead."
    ):
        Task.from_yaml(path)
    path = written("labels: [a]\n")
    with raises(
        f"Task file '{path}': Classification needs at least two labels. Got only 'a' "
        "instead: add the others, for example 'other'.",
        LabelError,
    ):
        Task.from_yaml(path)


def test_yaml_errors_name_the_line(written):
    path = written("labels: [a, b]\nprompt: Topic: {text}\n")
    with raises(
        f"The task file '{path}' is not YAML (line 2, column 14): mapping values are "
        "not allowed here. Text with ': ', '#' or braces in it needs quotes."
    ):
        Task.from_yaml(path)


def test_a_repeated_key_is_an_error(written):
    path = written("labels:\n  billing: invoices\n  shipping: parcels\n  billing: x\n")
    with raises(
        f"The task file '{path}' is not YAML (line 4, column 3): the key 'billing' "
        "occurs twice (first in line 2). Text with ': ', '#' or braces in it needs "
        "quotes."
    ):
        Task.from_yaml(path)


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "just text"])
def test_a_task_file_must_be_a_mapping(written, content):
    with pytest.raises(
        ConfigError, match=r"^Task file '.*' must hold keys such as labels: and prompt:"
    ):
        Task.from_yaml(written(content))


def test_files_that_cannot_be_read(tmp_path):
    missing = tmp_path / "none.yaml"
    with raises(f"There is no task file '{missing}'."):
        Task.from_yaml(missing)
    with raises(f"The task file '{tmp_path}' cannot be read: Is a directory."):
        Task.from_yaml(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("labels: [café, thé]".encode("latin-1"))
    with raises(
        f"The task file '{latin}' is not UTF-8: byte 12 cannot be decoded. Save it as "
        "UTF-8."
    ):
        Task.from_yaml(latin)


@pytest.mark.parametrize(
    "content",
    [
        "[yes, no]",
        "{yes: agreed, no: refused}",
        "[name: yes, name: no]",
        "{agreed: [yes, aye], refused: ['no', nay]}",
        "{agreed: {words: [on]}, refused: x}",
    ],
)
def test_booleans_must_be_quoted(written, content):
    path = written(f"labels: {content}")
    with raises(
        f"Task file '{path}': a label or word is a boolean: YAML reads yes, on or true "
        'so. Put it in quotes, such as "yes".',
        InputError,
    ):
        Task.from_yaml(path)


def test_numbers_must_be_quoted(written):
    path = written("[1, 2, 3]", "labels.yaml")
    with raises(
        f"Label file '{path}': a label or word is 1, which is not a string. Put it in "
        'quotes, such as "1".',
        InputError,
    ):
        LabelSet.from_yaml(path)


@pytest.mark.parametrize(
    "content", ["[a, b]", "{a: null, b: null}", "labels: [a, b]\nmodel: m", "- a\n- b"]
)
def test_label_files(written, content):
    assert LabelSet.from_yaml(written(content)) == LabelSet.parse(["a", "b"])


def test_a_label_file_without_labels(written):
    path = written("")
    with raises(
        f"There are no labels in label file '{path}': list their names.", LabelError
    ):
        LabelSet.from_yaml(path)
