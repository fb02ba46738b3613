"""Servers that list only the most likely next tokens: bounds for all others."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from classify.engines.answers import Answer, Request
from classify.engines.decoding import Generation, start_generations
from classify.engines.server.connection import SHORT, Connection
from classify.engines.server.endpoint import Endpoint
from classify.engines.server.listing import Entry, Listing, entries_of, token_list
from classify.engines.server.reading import together
from classify.engines.server.retrying import Patience
from classify.engines.server.selftest import (
    SelfTestCase,
    check_decimals,
    check_sum,
    run_cases,
)
from classify.engines.server.spelling import Spelling
from classify.errors import AnswerError, EngineError, InputError
from classify.tracking import (
    EdgeBounds,
    ReadRequest,
    TokenList,
    TrackedGeneration,
    TrackedRequest,
)
from classify.wording import parameter

__all__ = ["ListEndpoint"]

# Texts whose lists are compared before the first text.
_PROBES = ("The weather today is", "Question: Where is my parcel?\nAnswer:", "1, 2, 3,")
# What must change no value, if values are those before sampling.
_GREEDY: Mapping[str, float] = MappingProxyType({"temperature": 0.0})
_SAMPLED: Mapping[str, float] = MappingProxyType({"temperature": 1.0, "top_p": 0.5})
_NOTHING = np.empty(0)


class _Listed(NamedTuple):
    """The tokens listed after a prompt, its length, and whether the answer ends."""

    entries: list[Entry]
    n_read: int | None
    is_end: bool


class ListEndpoint(Endpoint):
    """A model of a server that lists the most likely tokens.

    Parameters
    ----------
    connection : Connection
    model : str
    vocab_size, context_length : int
    n_listed : int
        How many tokens to ask for.
    spelling : Spelling or None
        How tokens are written. None: the server tells ids, and there is nothing to
        compare them with.
    takes_ids : bool
        Whether prompts are sent as ids, not as text.
    """

    def __init__(
        self,
        connection: Connection,
        model: str,
        *,
        vocab_size: int,
        context_length: int,
        n_listed: int,
        spelling: Spelling | None,
        takes_ids: bool,
    ) -> None:
        super().__init__(
            connection, model, vocab_size=vocab_size, context_length=context_length
        )
        self.n_listed = min(n_listed, vocab_size)
        self._spelling = spelling
        self._takes_ids = takes_ids
        #: What the server itself puts before a text.
        self._start: tuple[int, ...] = ()
        #: By how much a sum of its probabilities may be off.
        self._rounding = 1e-5
        if spelling is not None:
            prompt = (*spelling.start, *spelling.ids_of("a"))
            self.simple = ReadRequest(prompt, self.simple.tree, (0,))

    @property
    def shows(self) -> str:  # type: ignore[override]
        """Which log-probabilities it shows, in words."""
        if self.n_listed >= self.vocab_size:
            return f"exact log-probabilities: all {self.vocab_size:,} tokens are listed"
        return (
            f"bounds: the {self.n_listed:,} most likely tokens are listed; any other "
            "token has at most the probability of the last one"
        )

    @abstractmethod
    def _question(
        self, prompt: list[int] | str, n_listed: int, sampling: Mapping[str, float]
    ) -> tuple[str, dict[str, Any]]:
        """Return the address and the fields of a request for one token."""

    @staticmethod
    @abstractmethod
    def _listing_of(body: Any) -> Listing:
        """Return the answer; ValueError as in `Connection.post`."""

    async def answer(
        self, request: Request, patience: Patience | None = None
    ) -> Answer:
        """Answer a request; see `Endpoint`."""
        self._sent(request.prompt_token_ids)
        if isinstance(request, ReadRequest):
            return await self._read(request, patience)
        work = [self._generate(each, patience) for each in start_generations(request)]
        return tuple(await together(work))

    def check(self, request: Request) -> None:
        """Raise InputError for what lists do not tell; see `Endpoint`."""
        if isinstance(request, ReadRequest):
            return
        for is_asked, what in (
            (bool(request.track_token_ids), "track tokens while it generates"),
            (request.allowed is not None, "generate along given paths"),
            (request.temperature > 0.0, "sample with a given seed"),
            (request.top_logprobs > self.n_listed, f"list {request.top_logprobs}"),
        ):
            if is_asked:
                raise InputError(
                    f"The server only lists the {self.n_listed} most likely tokens, "
                    f"so it cannot {what}: use {parameter('strategy', 'exact')}."
                )

    async def self_test(self) -> list[SelfTestCase]:
        """Ask questions whose answers must agree, up to the first that do not."""
        prompts = [self._probe(text) for text in _PROBES]
        lists: list[_Listed] = []

        async def ask(prompt: Sequence[int], **how: Any) -> _Listed:
            how = {"n_listed": self.n_listed, "patience": SHORT, **how}
            return await self._counted(prompt, **how)

        async def listed() -> float:
            for prompt in prompts:
                lists.append(await ask(prompt))
                check_sum(self._known(lists[-1]).values())
            check_decimals(each.logprob for found in lists for each in found.entries)
            return math.nan

        async def named() -> float:
            for found in lists:
                for entry in found.entries:
                    self._check_name(entry)
            return math.nan

        async def compare(**how: Any) -> float:
            found = await together(ask(prompt, **how) for prompt in prompts)
            return _difference(map(self._known, found), map(self._known, lists))

        return await run_cases(
            ("lists of the most likely tokens", listed),
            ("tokens by their names", named),
            ("lists of one token", lambda: compare(n_listed=1)),
            ("lists of sampled answers", lambda: compare(sampling=_SAMPLED)),
            ("lists again, at the same time", compare),
        )

    def describe(self) -> Mapping[str, Any]:
        """Return which values are shown, and how prompts are sent."""
        sent = "token ids" if self._takes_ids else "text, whose tokens are counted"
        return {"shows": self.shows, "prompts": sent}

    async def likeliest(
        self, token_ids: Sequence[int], patience: Patience | None
    ) -> TokenList:
        """Return what is listed after a prompt; nothing if it cannot be sent."""
        if self._form(token_ids) is None:
            return TokenList({}, 0.0)
        found = await self._counted(token_ids, self.n_listed, patience=patience)
        return self._token_list(found)

    def _known(self, found: _Listed) -> Mapping[int, float]:
        return self._token_list(found).known

    def _token_list(self, found: _Listed) -> TokenList:
        return token_list(
            found.entries,
            self._spelling,
            n_listed=self.n_listed,
            vocab_size=self.vocab_size,
            rounding=self._rounding,
            is_end=found.is_end,
        )

    async def _listed(
        self,
        prompt: list[int] | str,
        n_listed: int,
        *,
        sampling: Mapping[str, float] = _GREEDY,
        patience: Patience | None = None,
    ) -> _Listed:
        """Return the most likely tokens after a prompt.

        Where the model's answer ends, some servers list none.
        """
        url, fields = self._question(prompt, n_listed, sampling)
        logprobs, n_read, is_end = await self._connection.post(
            url, fields, understand=self._listing_of, patience=patience
        )
        entries = [] if is_end and not logprobs else entries_of(logprobs)
        spelling = self._spelling
        if spelling is not None and any(_shows_space(each.written) for each in entries):
            spelling.may_strip = False
        n_read = n_read if isinstance(n_read, int) else None
        return _Listed(entries, n_read, is_end)

    async def _counted(
        self, token_ids: Sequence[int], n_listed: int, **how: Any
    ) -> _Listed:
        """Return the list, if the server read as many tokens as were sent."""
        found = await self._listed(self._sent(token_ids), n_listed, **how)
        n_read = found.n_read
        if n_read is None and not self._takes_ids:
            raise EngineError(
                "the server does not report how many tokens it read, so its tokenizer "
                "cannot be checked"
            )
        if n_read is not None and n_read != len(token_ids):
            await self._check_controls(token_ids)
            raise AnswerError(
                f"The server read {n_read} tokens of a prompt of {len(token_ids)}: it "
                "has a different tokenizer, or truncated the prompt."
            )
        return found

    async def _check_controls(self, token_ids: Sequence[int]) -> None:
        """Raise EngineError if the server reads a prompt's control tokens as text."""
        if self._takes_ids or self._spelling is None:
            return
        own = token_ids[len(self._start) :]
        control = next(filter(None, map(self._spelling.controls.get, own)), None)
        if control is None:
            return
        n_meant = len((*self._start, *self._spelling.ids_of(f"a{control}a")))
        found = await self._listed(f"a{control}a", 1, patience=SHORT)
        if found.n_read != n_meant:
            raise EngineError(
                f"The server at {self._connection.base} takes text, and reads control "
                f"tokens such as {control!r} in it as plain text, so the model's chat "
                f"template cannot be used: set {parameter('chat', False)}, or use a "
                "server that takes token ids."
            )

    async def find_start(self) -> None:
        """Find out whether the server puts something before every text.

        Raises
        ------
        EngineError
            It puts something there that the model's tokenizer does not.
        """
        if self._takes_ids:
            return
        assert self._spelling is not None
        n_meant = len(self._spelling.ids_of("a"))
        n_read = (await self._listed("a", 1, patience=SHORT)).n_read
        if n_read == n_meant + len(self._spelling.start):
            self._start = self._spelling.start
        elif n_read is not None and n_read != n_meant:
            raise EngineError(
                f"The server at {self._connection.base} reads {n_read} tokens where "
                f"the tokenizer of the model given here produces {n_meant}: give the "
                "model that the server runs."
            )

    def _probe(self, text: str) -> tuple[int, ...]:
        if self._spelling is not None:
            return (*self._spelling.start, *self._spelling.ids_of(text))
        # Any tokens will do where there is nothing to compare.
        return tuple(ord(each) % self.vocab_size for each in text)

    def _form(self, token_ids: Sequence[int]) -> list[int] | str | None:
        """Return how a prompt is sent; None if no text has these tokens."""
        if self._takes_ids:
            return list(token_ids)
        assert self._spelling is not None
        start = len(self._start)
        if tuple(token_ids[:start]) != self._start:
            return None
        return self._spelling.text_of(token_ids[start:])

    def _sent(self, token_ids: Sequence[int]) -> list[int] | str:
        form = self._form(token_ids)
        if form is None:
            raise AnswerError(
                "The server takes text, and no text has exactly the tokens of this "
                "prompt: it spells out a control token, contains part of a character, "
                "or lacks the BOS token that the server adds."
            )
        return form

    def _check_name(self, entry: Entry) -> None:
        """Raise EngineError if a token has another name in the model given here."""
        if self._spelling is None:
            return
        written = entry.written
        shown = (
            written.decode("utf-8", "replace")
            if isinstance(written, bytes)
            else written
        )
        ids = self._spelling.shown_as(shown)
        if entry.token_id is None:
            if not ids:
                raise EngineError(
                    f"the server lists the token {shown!r}, which the model given "
                    "here does not have: give the model that the server runs"
                )
            return
        ours = self._spelling.bytes_of(entry.token_id)
        is_other = ids and entry.token_id not in ids
        if is_other or (isinstance(written, bytes) and ours != written):
            raise EngineError(
                f"token {entry.token_id} is {written!r} on the server, but {ours!r} in "
                "the model given here: give the model that the server runs"
            )

    async def _read(
        self, request: ReadRequest, patience: Patience | None
    ) -> EdgeBounds:
        prompt, tree = request.prompt_token_ids, request.tree
        nodes = list(dict.fromkeys(request.nodes))
        lists = await together(
            self.likeliest((*prompt, *tree.path(node)), patience) for node in nodes
        )
        listed = dict(zip(nodes, lists, strict=True))
        return EdgeBounds.of_lists(tree, listed, self.vocab_size)

    async def _generate(
        self, generation: Generation, patience: Patience | None
    ) -> TrackedGeneration:
        """Take the most likely token, a request each."""
        request: TrackedRequest = generation.request
        ends = request.stop_token_ids is None or bool(request.stop_token_ids)
        while generation.finish_reason is None:
            token_ids = (*request.prompt_token_ids, *generation.token_ids)
            found = await self._counted(token_ids, self.n_listed, patience=patience)
            if ends and found.is_end:
                # The most likely token ends the answer; some servers do not show it.
                generation.finish_reason = "stop"
                break
            listed = self._token_list(found)
            order = sorted(listed.known, key=lambda token: -listed.known[token])
            if (
                not order
                or max(listed.unclear.values(), default=-math.inf)
                >= listed.known[order[0]]
            ):
                raise AnswerError(
                    "The server does not show which token is the most likely: several "
                    "tokens have the text that it lists first, or it lists none, since "
                    "the answer ends here."
                )
            top = {
                token: listed.known[token] for token in order[: request.top_logprobs]
            }
            generation.append(order[0], _NOTHING, top)
        return generation.finished()


def _shows_space(written: bytes | str) -> bool:
    return written[:1] in (" ", b" ") and bool(written.strip())


def _difference(
    found: Iterable[Mapping[int, float]], expected: Iterable[Mapping[int, float]]
) -> float:
    """Return by how much the values of tokens in two lists differ at most."""
    differences = [
        abs(first[token] - second[token])
        for first, second in zip(found, expected, strict=True)
        for token in first.keys() & second.keys()
    ]
    if not differences:
        raise EngineError("the same prompts give entirely different tokens")
    return max(differences)
