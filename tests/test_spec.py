"""Each setting once: parameters, keys and options are spellings of the same fields."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import pytest
from typer.main import get_command

from classify import PromptTemplate, Verbalizer, ZeroShotClassifier
from classify.cli import app
from classify.cli.options import options_of
from classify.cli.task import task_options
from classify.config import Task
from classify.errors import ConfigError, InputError
from classify.labels.use import LabelUse
from classify.parameters import (
    BOOLEAN,
    TEXT,
    Setting,
    instance_of,
    number,
    one_of,
    optional,
    settings_of,
)
from classify.questions.decision_rules import DecisionRules
from classify.questions.yes_no import YesNo
from classify.spec import ModelSpec, Scoring

GROUPS = (ModelSpec, Scoring, LabelUse, PromptTemplate, Verbalizer)
ESTIMATOR = inspect.signature(ZeroShotClassifier).parameters
# In a task file, beside the keys of the task itself; the others are in a mapping.
MAPPINGS = {PromptTemplate: "prompt", Verbalizer: "verbalizer"}
# What only Python code sets, for an estimator of its own kind.
NO_SETTINGS = {"asks"}
FLAT = [(kind, name) for kind in GROUPS[:3] for name in settings_of(kind)]


def documented(kind):
    """Return the parameters of a class's docstring, with their types."""
    text = inspect.cleandoc(kind.__doc__)
    listed = re.search(r"Parameters\n-+\n(.*?)\n\n[A-Z]\w+\n-+\n", text, re.DOTALL)
    return dict(re.findall(r"(?m)^(\w+) : (.*(?:\n    .*default=.*)?)$", listed[1]))


@pytest.mark.parametrize("kind", GROUPS, ids=lambda kind: kind.__name__)
def test_every_field_is_a_setting(kind):
    names = [each.name for each in fields(kind) if each.init]
    assert list(settings_of(kind)) == [
        name for name in names if name not in NO_SETTINGS
    ]


@pytest.mark.parametrize("kind", GROUPS, ids=lambda kind: kind.__name__)
def test_defaults_are_allowed(kind):
    made = kind()
    for name, setting in settings_of(kind).items():
        assert setting.allowed.holds(getattr(made, name)), name


@pytest.mark.parametrize(("kind", "name"), FLAT)
def test_the_estimator_has_each_setting_with_its_default(kind, name):
    assert ESTIMATOR[name].default == getattr(kind(), name)


@pytest.mark.parametrize(("kind", "name"), FLAT)
def test_the_estimator_checks_each_setting_as_the_spec_does(kind, name):
    bad = object()
    says = settings_of(kind)[name].allowed.says
    message = (
        f"The {name!r} parameter of ZeroShotClassifier must be {says}. Got {bad!r} "
        "instead."
    )
    for use in (
        lambda: kind(**{name: bad}),
        lambda: ZeroShotClassifier(["a", "b"]).set_params(**{name: bad}).classes_,
    ):
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            use()


@pytest.mark.parametrize(
    "kind", [ZeroShotClassifier, PromptTemplate, Verbalizer], ids=lambda k: k.__name__
)
def test_docstrings_list_parameters_with_their_defaults(kind):
    signature = inspect.signature(kind).parameters
    parameters = documented(kind)
    assert sorted(parameters) == sorted(signature)
    for name, says in parameters.items():
        default = signature[name].default
        shown = {"0.001": "1e-3"}.get(repr(default), repr(default))
        assert says.endswith(f"default={shown.replace(chr(39), chr(34))}"), name


# -------------------------------------------------------------------------- task files

OF_TASKS = (YesNo, DecisionRules, Task)
KEYS = [(kind, name) for kind in (*GROUPS, *OF_TASKS) for name in settings_of(kind)]


def in_a_file(kind, name, value):
    """Return the settings of a task file, and the path of the key."""
    if kind in MAPPINGS:
        return {MAPPINGS[kind]: {name: value}}, f"{MAPPINGS[kind]}.{name}"
    return {name: value}, name


@pytest.mark.parametrize(("kind", "name"), KEYS)
def test_a_task_file_has_each_setting_with_its_check(kind, name):
    bad = object()
    settings, path = in_a_file(kind, name, bad)
    allowed = settings_of(kind)[name].allowed
    says = allowed.written or allowed.says
    shown = f"{path!r} must be {says}. Got {bad!r} instead."
    with pytest.raises(
        InputError, match=f"^{re.escape(shown)}$|^Labels cannot be read "
    ):
        Task.parse(settings)


@pytest.mark.parametrize(("kind", "name"), KEYS)
def test_a_task_file_says_what_the_default_says(kind, name):
    default = getattr(kind(), name)
    settings, _ = in_a_file(kind, name, default)
    assert Task.parse(settings) == Task()
    assert Task.parse(settings).given == settings.keys()


# ------------------------------------------------------------------------ command line

COMMANDS = get_command(app).commands
SHOWN = [(kind, name) for kind, name in KEYS if settings_of(kind)[name].help]


def options(command):
    """Return the options of a command by the names of their parameters."""
    return {each.name: each for each in COMMANDS[command].params}


@pytest.mark.parametrize(("kind", "name"), SHOWN)
def test_the_command_line_has_each_setting_with_its_help_and_default(kind, name):
    setting, option = settings_of(kind)[name], options("predict")[name]
    assert option.help.startswith(setting.help)
    spelled = setting.option or f"--{name.replace('_', '-')}"
    assert [*option.opts, *option.secondary_opts] == re.split("[ /]", spelled)
    variable = f"CLASSIFY_{name.upper()}" if setting.has_variable else None
    assert option.envvar == variable
    assert option.is_flag == (True in setting.allowed.values)
    default = getattr(kind(), name)
    unset = (None, "", ())
    if not setting.default and not option.is_flag and default not in unset:
        assert option.default == str(default)
    if default in unset and not option.is_flag:
        assert option.default is None


def test_every_setting_with_a_heading_is_one_that_every_command_has():
    headings = ("Model", "Prompt", "Scoring")
    asking = {each.name for each in task_options(panels=headings)}
    for command in ("predict", "tune", "calibrate", "evaluate"):
        assert asking <= options(command).keys(), command
    others = (*OF_TASKS, LabelUse)
    assert {name for kind, name in SHOWN if kind not in others} <= asking


@pytest.mark.parametrize("command", COMMANDS)
def test_options_of_a_command_have_one_meaning(command):
    function = inspect.unwrap(COMMANDS[command].callback)
    groups = [
        each.annotation
        for each in inspect.signature(function).parameters.values()
        if each.annotation.__module__.startswith("classify.cli")
        and hasattr(each.annotation, "__dataclass_fields__")
    ]
    names = [each.name for group in groups for each in options_of(group)]
    assert len(names) == len(set(names))
    assert not set(names) & {name for _, name in SHOWN}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_at_most_ten_parameters_of_its_own(command):
    function = inspect.unwrap(COMMANDS[command].callback)
    assert len(inspect.signature(function).parameters) <= 10


@dataclass(frozen=True)
class Chains:
    """Settings of every kind, as one adds them."""

    n_chains: Annotated[
        int, Setting("Chains.", number("from 1", lambda n: n >= 1, whole=True))
    ] = 1
    budget: Annotated[
        int | None,
        Setting("Tokens.", optional(number("from 1", lambda n: n >= 1, whole=True))),
    ] = None
    share: Annotated[float, Setting("Share.", number("from 0", lambda x: x >= 0))] = 0.5
    kept: Annotated[bool, Setting("Kept.", BOOLEAN)] = False
    answer: Annotated[str, Setting("Answer.", one_of("text", "code"))] = "text"
    folder: Annotated[Path | None, Setting("Folder.", TEXT)] = None
    pairs: Annotated[
        Mapping[str, Any] | None,
        Setting("Pairs.", instance_of("a mapping", Mapping), metavar="KEY=VALUE"),
    ] = None
    hidden: Annotated[int, Setting("", number("", lambda n: True, whole=True))] = 3


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("n_chains", "8", 8),
        ("budget", "512", 512),
        ("share", "1e-3", 0.001),
        ("share", "2", 2.0),
        ("kept", True, True),
        ("answer", " Code", "code"),
        ("folder", "a/b", Path("a/b")),
        ("pairs", ["a=1", "b-c=x"], {"a": 1, "b_c": "x"}),
    ],
)
def test_an_option_is_read_as_its_setting_is_typed(name, typed, value):
    options = {each.name: each for each in options_of(Chains)}
    assert sorted(options) == sorted({*settings_of(Chains)} - {"hidden"})
    read = options[name].read(typed, "--x")
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "typed", "sentence"),
    [
        ("n_chains", "0", "--x must be a whole number from 1. Got 0 instead."),
        ("n_chains", "1.5", "--x must be a whole number from 1. Got '1.5' instead."),
        ("budget", "x", "--x must be a whole number from 1. Got 'x' instead."),
        ("share", "nan", "--x must be a number from 0. Got nan instead."),
        (
            "answer",
            "cod",
            "--x must be text or code. Got 'cod' instead. Did you mean 'code'?",
        ),
        ("pairs", ["a"], "--x 'a' must be KEY=VALUE."),
    ],
)
def test_an_option_that_its_setting_does_not_allow(name, typed, sentence):
    options = {each.name: each for each in options_of(Chains)}
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        options[name].read(typed, "--x")
