"""What a calibration was fitted on: model, tokenizer, prompt, labels, strategy.

A shift belongs to one model with one prompt and one set of label words, and does
harm with another (Zhao et al. 2021; RBCorr, arXiv 2602.12445). A fingerprint is a
flat mapping of strings, so that a person can read what differs. It is made of contents,
not of paths: a folder that was moved or renamed is still the same model.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias, cast

from classify.engines.files import parts_of
from classify.errors import ConfigError
from classify.labels import LabelSet
from classify.labels.tree import LevelLabels
from classify.prompts import CompiledPrompt, PromptTemplate
from classify.prompts.few_shot import example_settings
from classify.prompts.listing import answer_settings
from classify.prompts.parts import Field
from classify.prompts.shortlist import first_prompt
from classify.tokenizer import Segment, Tokenizer
from classify.verbalizer import Verbalizer
from classify.wording import parameter

__all__ = [
    "Fingerprint",
    "check_fingerprint",
    "differing_keys",
    "digest_of",
    "fingerprint_of",
    "is_folder",
]

Fingerprint: TypeAlias = Mapping[str, str]

# Of a weight file so many blocks of so many bytes are read, evenly spread from its
# first (which holds the names and shapes of the tensors) to its last.
_N_BLOCKS = 64
_BLOCK_BYTES = 1 << 16
# Keys of what a prompt is made of, and how much of it messages show.
# What a prompt is made of: these explain its digest.
_PART = "prompt."
# The date that the chat template writes as today's; empty if it writes none.
DATE = "prompt.date"
_N_SHOWN = 60
_WEIGHTS = ("*.safetensors", "*.bin")
# What of a fast tokenizer's state changes with use, and not what it encodes to.
_TRANSIENT = ("truncation", "padding")


def fingerprint_of(
    *,
    model: str | Path,
    template: PromptTemplate,
    verbalizer: Verbalizer,
    tokenizer: Tokenizer,
    labels: LabelSet,
    strategy: str,
    tolerance: float,
    reasoning: Mapping[str, Any] | None = None,
    revision: str | None = None,
    engine_options: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Return the fingerprint of how labels are scored.

    Parameters
    ----------
    model : str or Path
        A folder, of which configuration and weights are digested (a file of more than
        4 MiB by its size and 64 blocks spread over it, so that a large model takes a
        fraction of a second), a file, or all the files that a GGUF model was
        split into, digested in the same way, or a hub id, which is kept as
        ``id@revision``.
    template : PromptTemplate
        Digested as it reads for these labels, before the tokenizer's chat template
        wraps it, so that a calibration stays valid on another day if the
        chat template writes today's date; ``prompt.date`` holds it, and is not
        compared. The parts of the prompt are listed next to the digest
        (``prompt.template``, …), for people to read.
    verbalizer : Verbalizer
    tokenizer : Tokenizer
        Its vocabulary, its rules and its chat template are digested.
    labels : LabelSet
    strategy : str
    tolerance : float
    reasoning : mapping, default=None
        How the model thinks before it answers, if it does.
    revision : str, default=None
        Of a hub model.
    engine_options : mapping, default=None
        Folders among them, such as that of an adapter, are digested with the model.

    Returns
    -------
    dict of str to str
    """
    adapters = [
        f" {name}={_model(value, None)}"
        for name, value in sorted((engine_options or {}).items())
        if is_folder(value)
    ]
    words = {label.name: list(label.words) for label in labels}
    return {
        "model": "".join([_model(model, revision), *adapters]),
        "tokenizer": _tokenizer(tokenizer),
        **_prompt(template, tokenizer, labels, reasons=reasoning is not None),
        "labels": _named(list(labels.names)),
        "label_words": digest_of([words, asdict(verbalizer)]),
        **_levels(labels),
        "strategy": strategy,
        "tolerance": repr(float(tolerance)),
        **({} if reasoning is None else {"reasoning": _json(dict(reasoning))}),
    }


def is_folder(value: object) -> bool:
    """Return whether an option names a folder, so that its contents count.

    Examples
    --------
    >>> is_folder("."), is_folder("org/name"), is_folder(8)
    (True, False, False)
    """
    return isinstance(value, str | os.PathLike) and Path(value).expanduser().is_dir()


def check_fingerprint(
    saved: Fingerprint, present: Fingerprint, *, what: str, force: bool | None = False
) -> None:
    """Raise unless a calibration was fitted on the present fingerprint.

    Parameters
    ----------
    saved, present : mapping of str to str
    what : str
        Names the calibration, such as ``"The calibration 'shifts.json'"``.
    force : bool or None, default=False
        Allow differences. None: as False, without offering the choice in the message.

    Raises
    ------
    ConfigError
        Names each key that differs, and both values.

    Examples
    --------
    >>> check_fingerprint({"model": "a@main"}, {"model": "a@main"}, what="It")
    """
    different = []
    for key in differing_keys(saved, present):
        was, now = _readable(saved.get(key), present.get(key))
        different.append(f"{key}: fitted with {was}, now {now}")
    if different and not force:
        forced = f", or use it anyway with {parameter('force', True)}"
        raise ConfigError(
            f"{what} was fitted on something else. {'; '.join(different)}. Fit it "
            f"again{'' if force is None else forced}."
        )


def differing_keys(saved: Fingerprint, present: Fingerprint) -> list[str]:
    """Return the keys that differ.

    Of a prompt, those of its parts that do; its digest where no part explains it, as
    in a file that records none. Parts alone, such as the text of a template that reads
    the same for these labels, make no difference.

    Examples
    --------
    >>> saved = {"prompt": "sha256:1", "prompt.template": "a", "prompt.chat": "no"}
    >>> differing_keys(saved, saved | {"prompt": "sha256:2", "prompt.template": "b"})
    ['prompt.template']
    >>> differing_keys({"prompt": "sha256:1"}, saved)
    []
    """
    keys = [
        key
        for key in dict.fromkeys([*saved, *present])
        if saved.get(key) != present.get(key)
    ]
    parts = [key for key in keys if key.startswith(_PART)]
    keys = [key for key in keys if key not in parts]
    parts = [key for key in parts if key != DATE]  # no digest holds it
    if "prompt" not in keys:
        return keys
    recorded = f"{_PART}template" in saved and f"{_PART}template" in present
    by_labels = {"labels", "label_words"} & {*keys}
    explained = parts if recorded and (parts or by_labels) else ["prompt"]
    at = keys.index("prompt")
    return [*keys[:at], *explained, *keys[at + 1 :]]


def _readable(was: str | None, now: str | None) -> tuple[str, str]:
    """Return two values for a message; long ones from shortly before they differ."""
    values = [
        "nothing recorded" if value is None else value.replace("\n", "\\n") or "nothing"
        for value in (was, now)
    ]
    start = 0
    if max(map(len, values)) > _N_SHOWN:
        pairs = enumerate(zip(*values, strict=False))
        shared = next((at for at, (one, other) in pairs if one != other), 0)
        start = max(0, shared - _N_SHOWN // 2)
    first, second = (
        "…" * (start > 0)
        + value[start : start + _N_SHOWN]
        + "…" * (len(value) > start + _N_SHOWN)
        for value in values
    )
    return first, second


def _model(model: str | Path, revision: str | None) -> str:
    folder = Path(model).expanduser()
    digest = hashlib.sha256()
    if folder.is_file():
        for part in parts_of(folder):
            digest.update(f"{part.stat().st_size}\n".encode())
            _update_with_blocks(digest, part)
        return _shown(digest.hexdigest())
    if not folder.is_dir():
        return f"{model}@{revision or 'main'}"
    weights = {path for pattern in _WEIGHTS for path in folder.glob(pattern)}
    configs = [folder / "config.json", folder / "adapter_config.json"]
    for path in [*configs, *sorted(weights, key=lambda path: path.name)]:
        if path.is_file():
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            _update_with_blocks(digest, path)
    return _shown(digest.hexdigest())


def _update_with_blocks(digest: "hashlib._Hash", path: Path) -> None:
    size = path.stat().st_size
    if size <= _N_BLOCKS * _BLOCK_BYTES:
        digest.update(path.read_bytes())
        return
    with path.open("rb") as file:
        for at in range(_N_BLOCKS):
            file.seek((size - _BLOCK_BYTES) * at // (_N_BLOCKS - 1))
            digest.update(file.read(_BLOCK_BYTES))


def _tokenizer(tokenizer: Tokenizer) -> str:
    backend = tokenizer.backend
    fast = getattr(backend, "backend_tokenizer", None)
    if fast is None:
        rules: Any = [type(backend).__name__, sorted(backend.get_vocab().items())]
    else:
        state = json.loads(fast.to_str())
        rules = {key: state[key] for key in state if key not in _TRANSIENT}
    controls = {str(key): text for key, text in tokenizer.control_tokens.items()}
    chat = str(getattr(backend, "chat_template", None))
    return digest_of([rules, controls, list(tokenizer.bos_ids), chat])


def _prompt(
    template: PromptTemplate, tokenizer: Tokenizer, labels: LabelSet, *, reasons: bool
) -> dict[str, str]:
    recipe = template.resolved(labels, has_chat_template=tokenizer.has_chat_template)
    compiled = recipe.compile(cast(Tokenizer, _Transcript()), labels)
    parts = [
        {"field": part.name} if isinstance(part, Field) else part._asdict()
        for part in compiled.parts
    ]
    # What `too_long` is changes no score. Files keep the digest that they had with
    # "truncate", when it still counted.
    digested = [parts, compiled.is_chat, "truncate"]
    last = compiled.parts[-1]
    if (
        compiled.separator is None
        and isinstance(last, Segment)
        and not last.text[-1].isspace()
        and not compiled.separator_before("a")
    ):
        digested.append("no space")  # where earlier versions put one
    real = recipe.compile(tokenizer, labels, reasons=reasons)
    arguments = dict(recipe.template_arguments or {})
    arguments.pop("strftime_now", None)  # a part that explains: shifts outlive a day
    if arguments and recipe.chat:
        digested.append(arguments)
    digested += _new_in_slot(real)
    answered = answer_settings(recipe)
    if answered:
        digested.append(answered)
    if real.closing:
        digested.append(f"closed by {real.closing}")
    if real.thought is not None:
        digested.append(real.thought._asdict())
    if recipe.chooses_examples:
        digested.append(example_settings(recipe))
    if recipe.shortlist is not None:
        has_chat = tokenizer.has_chat_template
        first = first_prompt(recipe, labels, has_chat_template=has_chat)
        asked = _prompt(first, tokenizer, labels, reasons=reasons)
        digested.append(["first", asked["prompt"]])
    ensemble = [
        _prompt(each, tokenizer, labels, reasons=reasons) for each in recipe.ensemble
    ]
    if ensemble:
        digested.append([each["prompt"] for each in ensemble])
    dates = [real.date or "", *(each[DATE] for each in ensemble)]
    descriptions = {
        label.name: label.description for label in labels if label.description
    }
    return {
        "prompt": digest_of(digested),
        f"{_PART}template": recipe.template or "",
        f"{_PART}system": recipe.system or "",
        f"{_PART}options": recipe.options,
        f"{_PART}answer_prefix": recipe.answer_prefix,
        f"{_PART}template_arguments": _json(arguments) if arguments else "",
        DATE: next(filter(None, dates), ""),
        f"{_PART}examples": _examples(recipe),
        f"{_PART}chat": "yes" if recipe.chat else "no",
        **{f"{_PART}{name}": str(value) for name, value in answered.items()},
        **({f"{_PART}ensemble": _json(ensemble)} if ensemble else {}),
        f"{_PART}descriptions": _json(descriptions) if descriptions else "",
    }


def _examples(recipe: PromptTemplate) -> str:
    if recipe.chooses_examples:
        return _json(example_settings(recipe))
    return _json(list(recipe.listed_examples)) if recipe.examples else ""


def _new_in_slot(prompt: CompiledPrompt) -> list[str]:
    """Return what of an answer's place earlier versions did not see."""
    slot = prompt.slot
    if slot is None:
        return []
    found = []
    if slot.lead is not None and slot.lead.strip() != slot.generation_prompt.strip():
        found.append(slot.lead)
    controls = prompt.tokenizer.find_controls(slot.end)
    if controls and (len(controls) > 1 or controls[0][0] > 0):
        found.append(slot.end)
    return found


class _Transcript:
    """Stands for a tokenizer whose chat template names the role, and no more."""

    name = "a transcript"
    has_chat_template = True

    chat_source = ""

    def render_chat(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        add_generation_prompt: bool,
        **arguments: Any,
    ) -> str:
        if not add_generation_prompt:
            return ""  # where an answer belongs is another template's
        return "".join(f"{each['role']}: {each['content']}\n" for each in messages)

    def find_controls(self, literal: str) -> tuple[()]:
        return ()


def _levels(labels: LabelSet) -> dict[str, str]:
    """Return what is asked below each node, where a tree is asked level by level."""
    if not isinstance(labels, LevelLabels):
        return {}
    nodes = [[each.name, each.description, each.words] for each in labels.tree.labels]
    return {"levels": digest_of([nodes, labels.tree.parents])}


def _named(names: list[str]) -> str:
    shown = ", ".join(names)
    if len(shown) <= 80:
        return shown
    return f"{len(names)} labels, {digest_of(names)}"


def digest_of(value: Any) -> str:
    """Return a digest of what JSON can hold, as fingerprints show it."""
    text = _json(value).encode("utf-8", "surrogatepass")
    return _shown(hashlib.sha256(text).hexdigest())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _shown(hexadecimal: str) -> str:
    return f"sha256:{hexadecimal[:16]}"
