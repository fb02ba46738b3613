import re

import pytest

from classify.errors import ModelLoadError, PromptError
from classify.tokenizer import Segment, load_tokenizer
from classify.tracking import common_prefix_length
from tests.tiny_tokenizers import SPECIAL, byte_level, metaspace, with_tags

ALL = [byte_level, metaspace, with_tags]


def literal(text: str) -> Segment:
    return Segment(text, is_data=False)


def data(text: str) -> Segment:
    return Segment(text, is_data=True)


@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_ordinary_text_has_the_tokenizers_own_tokens(make):
    tokenizer = make()
    prompt = [literal("<|user|>\n"), data("My invoice is"), literal(" wrong.<|end|>\n")]
    own = tokenizer.backend(
        "<|user|>\nMy invoice is wrong.<|end|>\n", add_special_tokens=False
    )["input_ids"]
    assert tokenizer.encode([prompt]) == [tuple(own)]


@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_bos_is_added_exactly_when_the_tokenizer_adds_it(make):
    tokenizer = make()
    [token_ids] = tokenizer.encode([[data("billing")]], add_bos=True)
    assert list(token_ids) == tokenizer.backend("billing")["input_ids"]


def test_no_bos_where_the_tokenizer_adds_none():
    assert byte_level(adds_bos=False).bos_ids == ()
    assert byte_level().bos_ids == (0,)


@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_no_special_token_can_come_from_data(make):
    tokenizer = make()
    for content in [*tokenizer.control_tokens.values(), "".join(SPECIAL)]:
        prompt = [literal("<|user|>\n"), data(f"a {content}b"), literal("<|end|>\n")]
        [token_ids] = tokenizer.encode([prompt])
        controls = [token for token in token_ids if token in tokenizer.control_ids]
        assert [tokenizer.control_tokens[i] for i in controls] == [
            "<|user|>",
            "<|end|>",
        ]
        # Nothing is lost either: the text is still there to be read.
        kept = tokenizer.decode(token_ids).replace(" ", "")
        assert f"a{content}b".replace(" ", "") in kept


def test_a_control_token_cannot_form_across_the_seam():
    tokenizer = byte_level()
    [token_ids] = tokenizer.encode([[data("x <|e"), literal("nd|> y")]])
    assert tokenizer.control_ids.isdisjoint(token_ids)
    assert tokenizer.decode(token_ids) == "x <|end|> y"


def test_a_control_token_cannot_swallow_a_literal_one():
    tokenizer = byte_level()
    prompt = [data("<|end|>"), literal("<|end|>")]
    [token_ids] = tokenizer.encode([prompt])
    assert token_ids[-1] == tokenizer.eos_id
    assert token_ids.count(tokenizer.eos_id) == 1


def test_tags_without_the_special_flag_are_control_tokens_too():
    tokenizer = with_tags()
    assert {"<think>", "[TOOL]"} <= set(tokenizer.control_tokens.values())


def test_merges_run_across_the_seam():
    tokenizer = byte_level()
    [token_ids] = tokenizer.encode([[literal("Topic:"), data(" billing")]])
    assert tokenizer.pieces(token_ids) == ("Topic", ":", " billing")


def test_many_prompts_come_back_in_order():
    tokenizer = byte_level()
    prompts = [[data(text)] for text in ("billing", "<|end|>", "shipping")]
    assert tokenizer.encode(prompts) == [tokenizer.encode([p])[0] for p in prompts]
    assert tokenizer.encode([]) == []


def test_missing_folder():
    with pytest.raises(
        ModelLoadError, match=r"^There is no model 'no/such': no such folder in "
    ):
        load_tokenizer("no/such")


def test_common_prefix_length():
    assert common_prefix_length([(1, 2, 3), (1, 2, 4), (1, 2)]) == 2
    assert common_prefix_length([(1,)]) == 1
    assert common_prefix_length([(1,), ()]) == 0


def test_pieces_can_be_read():
    tokenizer = byte_level()
    pieces = tokenizer.pieces(tokenizer.encode_text("Topic: billing é 请"))
    assert pieces[:3] == ("Topic", ":", " billing")
    assert pieces[-3:] == ("<E8>", "<AF>", "<B7>")


@pytest.mark.parametrize("half", ["\ud83d", "\ud83d \ude00", "\ude00\ud83d"])
def test_half_a_character_is_refused_before_a_tokenizer_sees_it(half):
    message = (
        f"The prompt contains a lone surrogate, {half[0]!r}: \\ud800 to \\udfff must "
        "come in pairs. Remove it from the text, the labels or the template."
    )
    for tokenizer in (byte_level(), metaspace()):
        with pytest.raises(PromptError, match=f"^{re.escape(message)}$"):
            tokenizer.encode([[Segment("fine é", True)], [Segment(half, True)]])
        whole = tokenizer.encode([[Segment("\U0001f600", True)]])
        assert tokenizer.decode(whole[0]).strip() == "\U0001f600"
