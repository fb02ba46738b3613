"""A copy of a tokenizer in which control tokens have names that no text spells.

A text may spell ``<|end|>``. With the copy, the prompt's own ``<|end|>`` is encoded as
a control token and the text's as text, in one pass over the joint text: the prompt's is
written under its new name, and the old one means nothing.
"""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["respelled"]


def respelled(fast: Any, names: Mapping[str, str]) -> Any:
    """Return a copy of a tokenizer with some of its tokens renamed.

    Parameters
    ----------
    fast : tokenizers.Tokenizer
    names : mapping of str to str
        The new name of each added token that gets one.

    Raises
    ------
    ValueError
        There can be no such copy, for example because a part of the tokenizer is
        written in Python.

    Examples
    --------
    >>> from tokenizers import Tokenizer, models
    >>> fast = Tokenizer(models.WordLevel({"<end>": 0, "hello": 1}))
    >>> fast.add_special_tokens(["<end>"])
    1
    >>> copy = respelled(fast, {"<end>": "[8e1f]"})
    >>> fast.encode("<end>hello").ids, copy.encode("[8e1f]hello").ids
    ([0, 1], [0, 1])
    """
    from tokenizers import Tokenizer

    # The library raises exceptions of no kind of its own.
    try:
        parts = json.loads(fast.to_str())
        _rename(parts, names)
        copy = Tokenizer.from_str(json.dumps(parts))
    except Exception as error:
        raise ValueError(f"The tokenizer cannot be copied: {error}") from error
    if any(
        fast.token_to_id(old) != copy.token_to_id(new) for old, new in names.items()
    ):
        raise ValueError("The tokenizer's copy has other token ids.")
    return copy


def _rename(parts: dict[str, Any], names: Mapping[str, str]) -> None:
    # What a pass over one text alone depends on is kept.
    parts.update(truncation=None, padding=None, post_processor=None)
    for token in parts["added_tokens"]:
        if token["content"] in names:
            token["content"] = names[token["content"]]
            # The name must be found in the text as it is written, wherever it stands.
            token.update(normalized=False, single_word=False)
    model = parts["model"]
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        model["vocab"] = {names.get(each, each): at for each, at in vocab.items()}
    else:  # Unigram: pairs of token and score
        model["vocab"] = [[names.get(each, each), score] for each, score in vocab]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        # No merge may give a control token: its old name is text now.
        model["merges"] = [
            merge
            for merge in model["merges"]
            if "".join(merge.split(" ") if isinstance(merge, str) else merge)
            not in names
        ]
