"""Text to token ids; users' text is strictly separated from our own.

A prompt is a sequence of segments: *literal* ones, which the author of the prompt wrote
(chat-template control tokens included), and *data*, which came from anywhere. They are
encoded together, because a tokenizer's merges run across the seam and a model should
see the tokens that the whole text has; but only literals can become control tokens.
"""

import functools
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from classify.engines import forks  # noqa: F401 keeps a forked tokenizer quiet
from classify.engines.byte_marks import BYTE_OF_MARK, MARK_OF_BYTE
from classify.engines.turns import Turns
from classify.errors import PromptError, first_line
from classify.tokenizer.respelled import respelled

__all__ = ["Segment", "Tokenizer"]

# Added tokens that are not flagged special but steer the model all the same, such as
# <think> or <tool_call>. Plain words and runs of white space stay text.
_TAG = re.compile(r"[<\[{|].*[>\]}|]", re.DOTALL)

# Tokens for the bytes of characters that have no token of their own.
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
# What tokenizers write for a space, a line break and a tab.
_WHITE_SPACE = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n", "ĉ": "\t"})


class Segment(NamedTuple):
    """A piece of a rendered prompt: its text, and whether it is data."""

    text: str
    is_data: bool


class Tokenizer:
    """A Hugging Face tokenizer with the few operations that prompts need.

    Parameters
    ----------
    backend : transformers.PreTrainedTokenizerBase
        The tokenizer; fast or slow.
    name : str
        Where it came from, for messages.

    Attributes
    ----------
    control_ids : frozenset of int
        Ids that data must never spell: special tokens, and added tokens that look like
        tags.
    unknown_id : int or None
        The id of the token that stands for any character outside the vocabulary. Such
        characters become it in data too, as the model would see them.
    unknown : str
        How that token is spelled, or "".
    bos_ids : tuple of int
        What the tokenizer's own encoding puts before a text; often one BOS or nothing.
    """

    def __init__(self, backend: Any, name: str) -> None:
        self.backend = backend
        self.name = name
        added = {
            token_id: token.content
            for token_id, token in backend.added_tokens_decoder.items()
            if token.special or _TAG.fullmatch(token.content.strip())
        }
        for token_id, content in zip(
            backend.all_special_ids, backend.all_special_tokens, strict=True
        ):
            added.setdefault(token_id, content)
        added = {i: each for i, each in added.items() if not _BYTE.fullmatch(each)}
        self.control_tokens: dict[int, str] = dict(sorted(added.items()))
        self.control_ids = frozenset(added)
        self.unknown_id = _unknown_id(backend)
        self._spelled_ids = self.control_ids - {self.unknown_id}
        self.unknown = {None: "", **added}.get(self.unknown_id, "")
        # The backend has settings that some calls change, such as whether special
        # tokens are parsed: another thread's text must not be encoded with them.
        self._turns = Turns()
        contents = sorted(filter(None, added.values()), key=len, reverse=True)
        self._control_pattern = (
            re.compile("|".join(map(re.escape, contents))) if contents else None
        )
        self._id_of_control = {content: i for i, content in added.items()}
        with_added = backend("a")["input_ids"]
        without = backend("a", add_special_tokens=False)["input_ids"]
        start = next(
            (
                at
                for at in range(len(with_added) - len(without) + 1)
                if with_added[at : at + len(without)] == without
            ),
            0,
        )
        self.bos_ids: tuple[int, ...] = tuple(with_added[:start])
        self._renderings = functools.lru_cache(maxsize=256)(self._render_chat)
        self._literal_controls = functools.lru_cache(maxsize=256)(self._find_controls)

    def __sklearn_clone__(self) -> "Tokenizer":
        return self  # it holds no state that a clone could share by mistake

    def __repr__(self) -> str:
        return f"Tokenizer({self.name!r}, {len(self)} tokens)"

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return bool(getattr(self.backend, "chat_template", None))

    @property
    def eos_id(self) -> int | None:
        """The id of the end-of-sequence token, if there is one."""
        value = self.backend.eos_token_id
        return None if value is None else int(value)

    def __len__(self) -> int:
        return len(self.backend)

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """Return the text of each token, a space before a word included.

        Parts of a character are given as bytes (``<E8 AF>``).
        """
        return tuple(self._piece(token_id) for token_id in token_ids)

    def _piece(self, token_id: int) -> str:
        own = str(self.backend.convert_ids_to_tokens(int(token_id)))
        # A token alone would be decoded without the space before it by some.
        if own.lstrip("ĠĊĉ▁").isascii():
            return own.translate(_WHITE_SPACE)
        decoded = self.decode([token_id])
        if "\N{REPLACEMENT CHARACTER}" not in decoded:
            return decoded
        try:
            spelled = " ".join(f"{BYTE_OF_MARK[mark]:02X}" for mark in own)
        except KeyError:
            return own
        return f"<{spelled}>"

    def writes(self, text: str) -> bool:
        """Return whether the tokenizer has tokens for a text after another.

        Some drop white space, and some have one token for everything unknown.
        """
        alone, joint = self.encode_text("a"), self.encode_text("a" + text)
        return alone != joint and self.unknown_id not in joint

    def may_span(self, seam: str) -> bool:
        """Return whether a token holds the characters of `seam` after others.

        Of the last character, the first byte is enough.
        """
        marks = [MARK_OF_BYTE[byte] for byte in seam.encode()]
        n_last = len(seam[-1:].encode())
        in_bytes = "".join(marks[: len(marks) - n_last + 1])
        spelled = (seam, seam.replace(" ", "▁"), in_bytes)
        return any(each.casefold() in self._insides for each in spelled)

    @functools.cached_property
    def _insides(self) -> str:
        """All tokens without their first characters, one after the other."""
        tokens = filter(lambda token: isinstance(token, str), self.backend.get_vocab())
        return "\0".join(token[1:].casefold() for token in tokens)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, control tokens included."""
        return str(self.backend.decode(list(token_ids), skip_special_tokens=False))

    @property
    def chat_source(self) -> str:
        """The text of the chat template that is used."""
        return str(self.backend.get_chat_template())

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool,
        **template_arguments: Any,
    ) -> str:
        """Return the chat template's text for these messages; the last are kept.

        Parameters
        ----------
        messages : sequence of mapping
        add_generation_prompt : bool
        **template_arguments
            Variables of the template, of types that JSON has. ``strftime_now`` is a
            date, as ISO 8601 writes it, which the template takes for today's.

        Raises
        ------
        PromptError
            The template refuses the messages, for example a system role it lacks.
        """
        given = [messages, add_generation_prompt, template_arguments]
        key = json.dumps(given, ensure_ascii=False)
        return self._renderings(key, str(self.backend.chat_template))

    def _render_chat(self, key: str, source: str) -> str:
        messages, generate, arguments = json.loads(key)
        if "strftime_now" in arguments:
            today = datetime.fromisoformat(arguments["strftime_now"])
            arguments["strftime_now"] = today.strftime
        try:
            return str(
                self.backend.apply_chat_template(
                    messages,
                    tokenize=False,
                    add_generation_prompt=generate,
                    **arguments,
                )
            )
        # A template is a program, and may fail in any way.
        except Exception as error:
            roles = ", ".join(message["role"] for message in messages)
            raise PromptError(
                f"The chat template of {self.name!r} cannot render messages with the "
                f"roles {roles}: {first_line(error)}."
            ) from error

    def encode(
        self, prompts: Sequence[Sequence[Segment]], *, add_bos: bool = False
    ) -> list[tuple[int, ...]]:
        """Encode prompts; data never becomes a control token.

        The tokens are those that the tokenizer gives for the whole joined text. Only
        where data would then form a control token is the text split at the literals'
        control tokens and encoded with special-token parsing off.

        Parameters
        ----------
        prompts : sequence of sequences of Segment
            The rendered prompts.
        add_bos : bool, default=False
            Put `bos_ids` first.

        Returns
        -------
        list of tuple of int
            The token ids of each prompt.

        Raises
        ------
        PromptError
            A prompt contains a lone surrogate, or spells a control token that cannot be
            split.
        """
        if not prompts:
            return []
        return self._turns.run(lambda: self._encode(prompts, add_bos=add_bos))

    def _encode(
        self, prompts: Sequence[Sequence[Segment]], *, add_bos: bool
    ) -> list[tuple[int, ...]]:
        joined = ["".join(segment.text for segment in prompt) for prompt in prompts]
        for text in joined:
            _check_characters(text)
        encoded = self.backend(
            joined, add_special_tokens=False, split_special_tokens=False, verbose=False
        )["input_ids"]
        prefix = self.bos_ids if add_bos else ()
        rows = []
        for prompt, text, token_ids in zip(prompts, joined, encoded, strict=True):
            if not self._is_right(prompt, text, token_ids):
                token_ids = self._encode_spelled(prompt)
            rows.append((*prefix, *token_ids))
        return rows

    def _is_right(
        self, prompt: Sequence[Segment], joined: str, token_ids: Sequence[int]
    ) -> bool:
        """Return whether the encoding of the joint text has the literals' controls."""
        spelled = self._spelled_ids
        found = [token for token in token_ids if token in spelled]
        spans, at = [], 0
        for segment in prompt:
            if not segment.is_data:
                controls = self._literal_controls(segment.text)
                spans += [(at + start, at + end, i) for start, end, i in controls]
            at += len(segment.text)
        expected = [i for _, _, i in spans if i in spelled]
        if found == expected and (not self.unknown or self.unknown not in joined):
            return True
        # A tokenizer may leave alone what a literal spells. That is its right as long
        # as no control token comes from the data, or from the seam.
        left = iter(spans)
        return set(spans) == set(self._find_controls(joined)) and all(
            any(token == i for _, _, i in left) for token in found
        )

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Encode one piece of text that holds no control token."""
        return self.encode([[Segment(text, is_data=True)]])[0]

    def find_controls(self, literal: str) -> tuple[tuple[int, int, int], ...]:
        """Return (start, end, token id) of each control token that a literal spells."""
        return self._literal_controls(literal)

    def _find_controls(self, literal: str) -> tuple[tuple[int, int, int], ...]:
        if self._control_pattern is None:
            return ()
        return tuple(
            (match.start(), match.end(), self._id_of_control[match.group()])
            for match in self._control_pattern.finditer(literal)
        )

    def _encode_spelled(self, prompt: Sequence[Segment]) -> list[int]:
        """Encode a prompt whose data spells control tokens."""
        if self._respelled is None:
            return self._encode_apart(prompt)
        fast, names = self._respelled
        text = ""
        for segment in prompt:
            at = 0
            if not segment.is_data:
                for start, end, control in self._literal_controls(segment.text):
                    text += segment.text[at:start] + names[control]
                    at = end
            text += segment.text[at:]
        token_ids: list[int] = fast.encode(text, add_special_tokens=False).ids
        return token_ids

    @functools.cached_property
    def _respelled(self) -> tuple[Any, dict[int, str]] | None:
        """The tokenizer with new names for control tokens, and the names."""
        fast = getattr(self.backend, "backend_tokenizer", None)
        # Drawn at random, so that no text can spell one.
        mark = secrets.token_hex(16)
        names = {i: f"\ufdd0{mark}.{i}\ufdd1" for i in self.control_ids}
        old = {content: names[i] for i, content in self.control_tokens.items()}
        try:
            return None if fast is None else (respelled(fast, old), names)
        except ValueError:
            return None

    def _encode_apart(self, prompt: Sequence[Segment]) -> list[int]:
        """Encode a prompt, run by run between controls, with a tokenizer in Python."""
        token_ids: list[int] = []
        run = ""
        for segment in prompt:
            if segment.is_data:
                run += segment.text
                continue
            at = 0
            for start, end, control in self._literal_controls(segment.text):
                token_ids += self._encode_run(run + segment.text[at:start])
                token_ids.append(control)
                run, at = "", end
            run += segment.text[at:]
        return token_ids + self._encode_run(run)

    def _encode_run(self, run: str) -> list[int]:
        if not run:
            return []
        encoded = self.backend(run, add_special_tokens=False, split_special_tokens=True)
        token_ids: list[int] = list(encoded["input_ids"])
        if self._spelled_ids.isdisjoint(token_ids):
            return token_ids
        # This tokenizer parses control tokens all the same (added tokens without the
        # special flag always are): cut each one's spelling in two.
        assert self._control_pattern is not None
        pieces, at = [], 0
        for match in self._control_pattern.finditer(run):
            middle = match.start() + max(1, len(match.group()) // 2)
            pieces.append(run[at:middle])
            at = middle
        pieces.append(run[at:])
        token_ids = [
            token
            for piece in pieces
            if piece
            for token in self.backend(
                piece, add_special_tokens=False, split_special_tokens=True
            )["input_ids"]
        ]
        found = self._spelled_ids.intersection(token_ids)
        if found:
            spelled = ", ".join(repr(self.control_tokens[i]) for i in sorted(found))
            raise PromptError(
                f"The text spells {spelled}, which the tokenizer of {self.name!r} "
                "turns into control tokens whatever it is asked: remove it."
            )
        return token_ids


def _unknown_id(backend: Any) -> int | None:
    """Return the id that the tokenizer's model gives for unknown characters."""
    model = getattr(getattr(backend, "backend_tokenizer", None), "model", None)
    # A Unigram model does not tell: the tokenizer's own is taken.
    name = getattr(model, "unk_token", backend.unk_token)
    found = None if name is None else backend.convert_tokens_to_ids(name)
    return None if found is None else int(found)


def _check_characters(text: str) -> None:
    """Raise PromptError for half a surrogate pair: tokenizers crash or make it up."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"The prompt contains a lone surrogate, {text[error.start]!r}: \\ud800 to "
            "\\udfff must come in pairs. Remove it from the text, the labels or the "
            "template."
        ) from None
