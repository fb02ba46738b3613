"""`classify labels`: what the model will be asked, with the demo model's tokenizer."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from classify import ZeroShotClassifier
from classify.cli import app
from classify.cli.audit_labels import shared_prefixes
from classify.config import Task
from tests.chat_templates import chat_tokenizer

NOTE = "Using the bundled demo model's tokenizer: choose with --model.\n"


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["labels", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_the_table_fits_80_columns_and_shows_every_word(tmp_path):
    task = tmp_path / "task.yaml"
    task.write_text(
        "labels:\n  good news: [good news, good]\n  bad news: terrible things\n"
    )
    result = run("--task", task)
    assert result.stderr == NOTE
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["label", "word", "tokens", "token", "ids"]
    shown = result.stdout
    assert "good news" in shown
    assert "bad news" in shown
    assert "since 'good' begins 'good news'" in " ".join(shown.split())
    assert "Trie " in shown
    assert "begins good news, good" in shown


def test_no_end_token_where_none_is_needed():
    shown = run("--labels", "billing,shipping").stdout
    assert "End token      none: no word is a prefix of another" in shown
    assert "Shared" not in shown


def test_json_holds_the_whole_audit():
    found = json.loads(run("--labels", "New,New York,Boston", "--json").stdout)
    audit = ZeroShotClassifier(["New", "New York", "Boston"]).audit()
    assert [word["token_ids"] for word in found["words"]] == [
        list(word.token_ids) for word in audit.words
    ]
    assert found["words"][0]["prefix_of"] == ["New York"]
    assert found["shared_prefixes"][0]["words"] == ["New", "New York"]
    # Text, not the tokenizer's own spelling of white space.
    assert found["words"][0]["pieces"][0] == "New"
    assert found["prompt_pieces"][-1] == "\n"
    for name in ("end", "n_nodes", "n_inner", "n_branching", "max_depth", "per_text"):
        assert found[name] == getattr(audit, name)


def test_shared_prefixes_are_the_longest_common_ones():
    labels = ["technical problem", "technical help", "billing"]
    audit = ZeroShotClassifier(labels).audit()
    [shared] = shared_prefixes(audit)
    assert shared.words == ("technical problem", "technical help")
    first, second = (word.token_ids for word in audit.words[:2])
    n = len(shared.token_ids)
    assert first[:n] == second[:n] == shared.token_ids
    assert first[n] != second[n]


def test_options_change_the_prompt():
    plain = json.loads(
        run(
            "--labels", "a,b", "--no-chat", "--template", "{text} Topic:", "--json"
        ).stdout
    )
    assert "".join(plain["prompt_pieces"]).endswith(":")
    chat = json.loads(run("--labels", "a,b", "--json").stdout)
    assert chat["prompt_pieces"] != plain["prompt_pieces"]


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (
            "{yes please: [ok], no thanks: [ok]}",
            (
                "The word 'ok' stands for label 'yes please' and for label 'no "
                "thanks': an answer could not be told apart. Give each label words "
                "of its own."
            ),
        ),
    ],
)
def test_collisions_are_misuse(tmp_path, labels, sentence):
    path = tmp_path / "labels.yaml"
    path.write_text(labels)
    result = run("--labels-file", path, code=2)
    assert result.stdout == ""
    assert result.stderr == f"Error: Label file '{path}': {sentence}\n"


def test_words_that_become_the_same_tokens_are_misuse(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text("labels: [Good, good]\nverbalizer: {case_variants: true}\n")
    result = run("--task", path, code=2)
    assert result.stderr.startswith(f"{NOTE}Error: The word ")
    assert "the model cannot tell them apart" in result.stderr


TEMPLATE = (
    "{% if mood is defined %}<|im_start|>system\n{{ mood }} {{ level + 1 }}<|im_end|>\n"
    "{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}<think>\n"
    "{{ message.reasoning_content | default('') }}\n</think>\n\n{% endif %}"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def thinker(tmp_path):
    """Return a folder with a tokenizer whose template knows thinking and moods."""
    chat_tokenizer(TEMPLATE).backend.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_template_arguments_reach_the_chat_template(thinker):
    given = ["--template-argument", "mood=kind", "--template-argument", "level=3"]
    run("--model", thinker, "--labels", "a,b", *given)
    task = Task.parse({"labels": ["a", "b"], "model": str(thinker)}).changed(
        {"template_arguments": {"mood": "kind", "level": 3}}
    )
    prompt = task.classifier().scorer().model.space(task.labels).prompt
    shown = "".join(part.text for part in prompt.render({"text": "x"}))
    assert shown.startswith("<|im_start|>system\nkind 4<|im_end|>")


def test_the_slot_and_the_end_of_an_answer_are_shown(thinker):
    shown = run("--model", thinker, "--labels", "a,b").stdout
    assert (
        "Thinking       the model can think; the thinking block is closed before the "
        "label\n" in shown.replace("\n               ", " ")
    )
    assert "Answer ends    <|im_end|>\n" in shown
    found = json.loads(run("--model", thinker, "--labels", "a,b", "--json").stdout)
    assert (found["thinking"], found["answer_end"]) == ("closed", "<|im_end|>")
    assert found["date"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--template-argument", "mood"],
            (
                "Error: --template-argument 'mood' must be KEY=VALUE, such as "
                "thinking=false.\n"
            ),
        ),
        (
            ["--template-argument", "mood=kind", "--no-chat"],
            (
                "Error: --template-argument needs a chat template, but this prompt is "
                "plain: leave it out, or use --chat and a chat model.\n"
            ),
        ),
        (
            ["--template-argument", "messages=[]"],
            (
                "Error: --template-argument must be a mapping of names to values, "
                "strftime_now a date such as 2026-11-29. "
                "Got {'messages': []} instead.\n"
            ),
        ),
    ],
)
def test_template_arguments_that_cannot_be_used(arguments, message):
    result = run("--labels", "a,b", *arguments, code=2)
    assert result.stderr.replace(NOTE, "") == message


def test_examples_of_a_table_are_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = Path("labelled.csv")
    table.write_text(
        "text,label\nMy card was charged twice,billing\n"
        f"Where is it? {'Where? ' * 20},shipping\nmy CARD was charged twice,billing\n"
    )
    labels = ("--labels", "billing,shipping")
    shown = run(*labels, "--examples", table).stdout
    assert max(map(len, shown.splitlines())) <= 80
    words = " ".join(shown.split())
    assert "Examples 2 of 2 rows of 'labelled.csv', balanced " in words
    assert "billing: My card was charged twice" in words
    assert "shipping: Where is it? Where? Where?" in words
    found = json.loads(run(*labels, "--examples", table, "--json").stdout)["examples"]
    assert found["n_rows"] == 2
    assert ["My card was charged twice", "billing"] in found["shown"]
    nearest = (*labels, "--examples", table, "--example-choice", "nearest")
    assert "the nearest to each text of 2 rows of" in run(*nearest).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--n-examples", "8"],
            "--n-examples is for --examples: give it, or drop --n-examples.",
        ),
        (
            ["--n-examples", "3"],
            (
                "--n-examples is for --examples from a table: give that, or drop "
                "--n-examples."
            ),
        ),
        (
            ["--examples", "missing.csv"],
            "There is no file 'missing.csv'.",
        ),
    ],
)
def test_examples_that_cannot_be_chosen_are_refused(arguments, message):
    result = run("--labels", "billing,shipping", *arguments, code=2)
    assert result.stderr == f"Error: {message}\n"
