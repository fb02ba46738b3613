"""The demo model's tokenizer: byte-level BPE, spaces as tokens of their own.

A word has the same token wherever it stands, after a space or at the start of an
answer. A model this small then finds an option again when it answers with it.
"""

from __future__ import annotations

import random
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from demo_model.examples import draw_example
from demo_model.prompts import BOS, CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS

VOCABULARY = 4096
MAX_LENGTH = 1024
_WORDS = r"[\p{L}\p{M}]+|\p{N}| |[^\S ]+|[^\s\p{L}\p{M}\p{N}]"


def train_tokenizer(seed: int, n_examples: int = 60_000) -> Tokenizer:
    """Train the tokenizer on generated examples.

    Parameters
    ----------
    seed : int
        Seed of the generator.
    n_examples : int, default=60_000
        How many examples to learn from.

    Returns
    -------
    Tokenizer
        Encoding adds the BOS token; control tokens are marked special.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    rng = random.Random(seed)
    texts = (
        "".join(part.text for part in draw_example(rng)) for _ in range(n_examples)
    )
    tokenizer.train_from_iterator(texts, trainer)
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, bos)]
    )
    return tokenizer


def wrap_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Give the tokenizer what transformers wants: roles, padding, chat template.

    Parameters
    ----------
    tokenizer : Tokenizer
        The trained tokenizer.

    Returns
    -------
    PreTrainedTokenizerFast
        Ready for ``save_pretrained``.
    """
    wrap: Any = PreTrainedTokenizerFast
    wrapped: PreTrainedTokenizerFast = wrap(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(SPECIAL_TOKENS[3:]),
        model_max_length=MAX_LENGTH,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped
