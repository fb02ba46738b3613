import re

import numpy as np
import pytest

from classify import LabelSet, PromptTemplate, Verbalizer
from classify.errors import LabelError, PromptError, PromptTooLongError
from tests.tiny_tokenizers import byte_level, metaspace, quoting, with_tags

TOKENIZERS = [byte_level, metaspace, with_tags]
NO_LIMIT = 10**6
TEXTS = ["My invoice is wrong.", "Is it 5", "ends in space ", "list:\n", "日本語", "!"]


def space_of(
    labels, template="{text}\nTopic:", tokenizer=None, *, chat=False, **options
):
    labels = LabelSet.parse(labels)
    verbalizer = Verbalizer(
        **{
            k: options.pop(k)
            for k in list(options)
            if k in Verbalizer.__dataclass_fields__
        }
    )
    tokenizer = byte_level() if tokenizer is None else tokenizer
    prompt = PromptTemplate(template, chat=chat, **options).compile(tokenizer, labels)
    return verbalizer.compile(prompt, labels)


def leaves_of(trie):
    """Return each path of a trie, and the label that it belongs to."""
    labels = np.empty(len(trie.tree.leaves), dtype=int)
    for label in range(trie.n_labels):
        edges = np.full(trie.tree.n_nodes, -1.0)
        for at, leaf in enumerate(trie.tree.leaves):
            alone = edges.copy()
            alone[leaf] = -0.5
            mass = trie.label_mass(trie.log_masses(alone)).estimate
            base = trie.label_mass(trie.log_masses(edges)).estimate
            if mass[label] > base[label]:
                labels[at] = label
    return list(zip(trie.tree.paths, labels.tolist(), strict=True))


def paths_of(space, text="My invoice is wrong."):
    """Return the token paths that hang on one text's prompt, and the prompt's ids."""
    [prompt] = space.encode([{"text": text}], NO_LIMIT)
    return prompt.token_ids, prompt.trie.tree.paths


@pytest.mark.parametrize("make", TOKENIZERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    "template", ["{text}\nTopic:", "{text}\nTopic: ", "{text} ", "{text}"]
)
@pytest.mark.parametrize("text", TEXTS)
def test_prompt_and_path_are_the_tokens_of_the_joint_text(make, template, text):
    tokenizer = make()
    names = ["billing", "shipping", "New York", "refund request", "-dash", "😀", "请求"]
    space = space_of(names, template, tokenizer)
    token_ids, paths = paths_of(space, text)
    before = template.format(text=text)
    joint = []
    for name in names:
        gap = "" if template[-1].isspace() or name == "请求" else " "
        joint.append(tuple(tokenizer.backend(before + gap + name)["input_ids"]))
    assert [(*token_ids, *path) for path in paths] == joint
    # The prompt ends as late as those encodings, and its own, allow.
    own = tuple(tokenizer.backend(before)["input_ids"])
    assert own[: len(token_ids)] == token_ids
    longer = own[: len(token_ids) + 1]
    assert longer == token_ids or any(
        tokens[: len(longer)] != longer for tokens in joint
    )


@pytest.mark.parametrize("make", TOKENIZERS, ids=lambda make: make.__name__)
def test_chat_answers_follow_the_template(make):
    tokenizer = make()
    space = space_of(["billing", "shipping"], "{text}", tokenizer, chat=True)
    token_ids, paths = paths_of(space)
    rendered = tokenizer.render_chat(
        [{"role": "user", "content": "My invoice is wrong."}],
        add_generation_prompt=True,
    )
    for name, path in zip(["billing", "shipping"], paths, strict=True):
        joint = tokenizer.backend(rendered + name, add_special_tokens=False)[
            "input_ids"
        ]
        assert (*token_ids, *path) == tuple(joint)


def test_boundary_moves_back_where_tokens_merge():
    space = space_of(["billing", "shipping"], "{text}\nTopic: ")
    audit = space.audit()
    assert audit.n_boundary_tokens == 1
    assert audit.words[0].pieces == (" billing",)


def test_labels_that_merge_with_the_text_are_encoded_with_it(caplog):
    # "bill" + "ing": nothing stands between the text and its label.
    labels = LabelSet.parse({"a": ["ing"], "b": ["s"]})
    prompt = PromptTemplate("{text}", chat=False).compile(byte_level(), labels)
    unspaced = Verbalizer(space_variants=True).compile(prompt, labels)
    assert unspaced.per_text
    assert "The label words merge with the end of the text" in caplog.text
    for text in ["bill", "billing", "ship", "!"]:
        [scorable] = unspaced.encode([{"text": text}], NO_LIMIT)
        spelled = [(word.strip(), gap) for gap in (" ", "") for word in ("ing", "s")]
        joint = {
            tuple(byte_level().backend(text + gap + word)["input_ids"])
            for word, gap in spelled
        }
        paths = {(*scorable.token_ids, *path) for path in scorable.trie.tree.paths}
        assert {path[: len(path) - space_end(unspaced)] for path in paths} == joint


def space_end(space):
    return 0 if space.audit().end is None else 1


@pytest.mark.parametrize("names", [["New", "New York"], ["New York", "a", "New"]])
def test_prefix_labels_get_an_end(names):
    space = space_of(names)
    _, paths = paths_of(space)
    assert all(path[-1] == byte_level().eos_id for path in paths)
    audit = space.audit()
    assert audit.end == "<|end|>"
    assert {word.label: word.prefix_of for word in audit.words}["New"] == ("New York",)


def test_no_end_where_none_is_needed():
    space = space_of(["New York", "billing"])
    assert space.audit().end is None


def test_end_always():
    _, paths = paths_of(space_of(["New York", "billing"], end="always"))
    assert all(path[-1] == byte_level().eos_id for path in paths)


def test_newline_as_the_end():
    space = space_of(["New", "New York"], end_token="newline")
    _, paths = paths_of(space)
    assert {byte_level().pieces(path[-1:]) for path in paths} == {("\n",)}
    assert space.audit().end == "\n"


def test_newline_where_the_tokenizer_has_no_end_token():
    tokenizer = with_tags()
    eos, tokenizer.backend.eos_token = tokenizer.backend.eos_token, None
    try:
        assert space_of(["New", "New York"], tokenizer=tokenizer).audit().end == "\n"
    finally:
        tokenizer.backend.eos_token = eos


def test_no_such_end():
    message = (
        "end_token='end_of_turn', but there is none with the tokenizer of 'byte-level' "
        "and this prompt: use end_token='auto'."
    )
    with pytest.raises(LabelError, match=r"^" + re.escape(message) + "$"):
        space_of(["a", "b"], end="always", end_token="end_of_turn")


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ('{"label": "', '"'),
        ("'", "'"),
        ("`", "`"),
        ("[", "]"),
        ("(", ")"),
        ("{", "}"),
        ("<", ">"),
        ("「", "」"),
        ("“", "”"),
        ("«", "»"),
        ("<topic>", "</topic>"),
    ],
)
def test_an_answer_ends_where_its_frame_is_closed(opening, closing, chat):
    tokenizer = quoting()
    names = ["refund", "refund status", "billing"]
    space = space_of(names, "{text}\n", tokenizer, chat=chat, answer_prefix=opening)
    audit = space.audit()
    assert audit.end == closing
    assert {word.label: word.prefix_of for word in audit.words}["refund"] == (
        "refund status",
    )
    [prompt] = space.encode([{"text": "a text"}], NO_LIMIT)
    before = tokenizer.decode(prompt.token_ids)
    gap = " " if opening == "<topic>" else ""
    vocabulary = {token: tokenizer.decode([token]) for token in range(len(tokenizer))}
    for at, name in enumerate(names):
        # The path of the joint text, and all tokens with which it may be closed.
        joint = tokenizer.backend(
            tokenizer.decode(prompt.token_ids) + gap + name + closing
        )["input_ids"]
        *word, last = joint[len(prompt.token_ids) :]
        ends = {
            token
            for token, spelled in vocabulary.items()
            if token not in tokenizer.control_ids
            and spelled.startswith(vocabulary[last])
            and not spelled[len(vocabulary[last]) :][:1].isalnum()
        }
        assert last in ends
        if "\N{REPLACEMENT CHARACTER}" in vocabulary[last]:
            ends = {last}  # it has several tokens, a part of a character each
        own = {path for path, label in leaves_of(prompt.trie) if label == at}
        assert own == {(*word, end) for end in ends}
    assert before.endswith(opening) or opening == "'"


def test_all_tokens_that_close_an_answer_end_it():
    tokenizer = quoting()
    space = space_of(["it", "it's", "U.S."], "{text}\n'", tokenizer, end="always")
    # A word that holds the mark: the end of a turn or text is the end then.
    assert space.audit().end == "<|end|>"
    space = space_of(["U.S.", "billing"], '{text}\n"', tokenizer, end="always")
    ends = {tokenizer.decode(path[-1:]) for path, _ in leaves_of(space.trie)}
    assert {'"', '"}', '",', '."', '."}'} <= ends
    space = space_of(["refund", "refund it"], "{text}\n'", tokenizer)
    ends = {tokenizer.decode(path[-1:]) for path, _ in leaves_of(space.trie)}
    assert "']" in ends or "'," in ends
    assert "'s" not in ends


def test_other_ends_of_a_frame_on_demand():
    named = space_of(["New", "New York"], '{text}\n"', end_token="eos").audit()
    assert named.end == "<|end|>"
    message = (
        "end_token='closing', but there is none with the tokenizer of 'byte-level' and "
        "this prompt: use end_token='auto'."
    )
    with pytest.raises(LabelError, match=f"^{re.escape(message)}$"):
        space_of(["New", "New York"], end_token="closing")


def test_several_words_of_a_label():
    space = space_of({"pos": ["good", "great"], "neg": ["bad"]})
    assert space.trie.n_labels == 2
    assert [word.label for word in space.audit().words] == ["pos", "pos", "neg"]


def test_variants():
    space = space_of(["billing", "shipping"], case_variants=True, space_variants=True)
    spelled = {byte_level().decode(path) for path in space.trie.tree.paths}
    assert spelled == {
        gap + word
        for gap in (" ", "")
        for name in ("billing", "shipping")
        for word in (name, name.capitalize(), name.upper())
    }


def test_variants_that_collide_are_an_error():
    with pytest.raises(LabelError, match="have the same tokens"):
        space_of(["us", "US"], case_variants=True)


def test_truncation_leaves_room_for_the_longest_label():
    space = space_of(["refund request", "billing"], "{text}\nTopic:")
    [prompt] = space.encode([{"text": "parcel " * 200}], 60)
    assert prompt.truncated
    assert 56 <= len(prompt.token_ids) + prompt.trie.tree.max_depth <= 60
    assert byte_level().decode(prompt.token_ids).endswith("\nTopic:")


def test_too_long_as_an_error():
    space = space_of(["billing", "shipping"], too_long="error")
    with pytest.raises(PromptTooLongError):
        space.encode([{"text": "parcel " * 200}], 60)


def test_no_token_at_all():
    space = space_of(
        ["billing", "shipping"], "{text}", tokenizer=byte_level(adds_bos=False)
    )
    with pytest.raises(PromptError, match=r"^The prompt is empty: "):
        space.encode([{"text": ""}], NO_LIMIT)


def test_audit_counts_the_trie():
    audit = space_of(["New York", "New Jersey", "billing"]).audit()
    tree = space_of(["New York", "New Jersey", "billing"]).trie.tree
    assert audit.n_nodes == tree.n_nodes
    assert audit.n_inner == len(tree.inner_nodes)
    assert audit.n_branching == 2
    assert audit.bos == ("<|bos|>",)
    assert audit.prompt_pieces[-2:] == ("Topic", ":")


def test_control_tokens_in_a_label_word_are_text():
    space = space_of(["<|end|>", "billing"])
    assert byte_level().control_ids.isdisjoint(space.trie.tree.tokens[1:].tolist())


def test_values_are_checked():
    message = (
        "The 'end' parameter of Verbalizer must be one of 'auto', 'always'. Got "
        "'never' instead."
    )
    with pytest.raises(LabelError, match=r"^" + re.escape(message) + "$"):
        Verbalizer(end="never")
