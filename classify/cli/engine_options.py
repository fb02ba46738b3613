"""The options that say what runs the model, and how they are spelled in a shell."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from classify.cli.choices import completion
from classify.errors import ConfigError

__all__ = ["parse_engine_options", "parse_speculation", "parse_template_arguments"]

_MODEL = "Model"

EngineOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="auto, transformers, vllm or server.",
        show_default="auto: vllm on a GPU",
        envvar="CLASSIFY_ENGINE",
        autocompletion=completion("engine"),
        rich_help_panel=_MODEL,
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="A running vLLM server, such as http://localhost:8000; --model names "
        "its tokenizer.",
        envvar="CLASSIFY_URL",
        rich_help_panel=_MODEL,
    ),
]
ApiKeyEnvOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Environment variable that holds the server's API key.",
        envvar="CLASSIFY_API_KEY_ENV",
        rich_help_panel=_MODEL,
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Number format of the weights, such as bfloat16.",
        show_default="float32 on a CPU",
        envvar="CLASSIFY_DTYPE",
        autocompletion=completion("dtype"),
        rich_help_panel=_MODEL,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Where to compute: cpu, cuda, cuda:1, mps, …",
        show_default="a GPU, if there is one",
        envvar="CLASSIFY_DEVICE",
        autocompletion=completion("device"),
        rich_help_panel=_MODEL,
    ),
]
BatchSizeOption = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Texts in one batch.",
        show_default="auto",
        autocompletion=completion("batch_size"),
        rich_help_panel=_MODEL,
    ),
]
SpeculationOption = Annotated[
    str | None,
    typer.Option(
        metavar="METHOD",
        help="vLLM's speculative decoding: labels, ngram, …, or "
        "method=eagle,model=FOLDER.",
        autocompletion=completion("speculation"),
        rich_help_panel=_MODEL,
    ),
]
EngineOptionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-option",
        metavar="KEY=VALUE",
        help="Any other option of the engine, such as max_model_len=4096. Can be "
        "repeated.",
        rich_help_panel=_MODEL,
    ),
]


def parse_speculation(text: str) -> str | dict[str, Any]:
    """Return what ``--speculation`` says: a method's name, or a mapping.

    Examples
    --------
    >>> parse_speculation("ngram")
    'ngram'
    >>> parse_speculation("method=eagle,model=head,num_speculative_tokens=3")
    {'method': 'eagle', 'model': 'head', 'num_speculative_tokens': 3}
    >>> parse_speculation('{"method": "mtp"}')
    {'method': 'mtp'}
    """
    if text.lstrip().startswith("{"):
        try:
            parsed: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(
                f"--speculation {text!r} is not JSON: {error}. Or give it as "
                "method=NAME,KEY=VALUE."
            ) from None
        return parsed
    if "=" not in text:
        return text.strip()
    return dict(_pair(part, "--speculation") for part in text.split(","))


def parse_engine_options(texts: Sequence[str]) -> dict[str, Any]:
    """Return what ``--engine-option`` says, given any number of times.

    Values are JSON where they can be, else text.

    Examples
    --------
    >>> parse_engine_options(["seed=3", "enforce_eager=true", "quantization=fp8"])
    {'seed': 3, 'enforce_eager': True, 'quantization': 'fp8'}
    """
    return dict(_pair(text, "--engine-option") for text in texts)


def parse_template_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Return what ``--template-argument`` says, given any number of times.

    Examples
    --------
    >>> parse_template_arguments(["thinking=false", "reasoning_effort=low"])
    {'thinking': False, 'reasoning_effort': 'low'}
    """
    return dict(_pair(text, "--template-argument") for text in texts)


def _pair(text: str, option: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if option != "--template-argument":  # a template's names are its own
        key = key.replace("-", "_")
    if not equals or not key.isidentifier():
        raise ConfigError(
            f"{option} {text!r} must be KEY=VALUE, such as {_EXAMPLE[option]}."
        )
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value.strip()


_EXAMPLE = {
    "--engine-option": "max_model_len=4096",
    "--template-argument": "thinking=false",
    "--speculation": "method=draft_model,model=FOLDER",
}
