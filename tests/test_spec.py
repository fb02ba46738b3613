"""Each setting once: parameters, keys and options are spellings of the same fields."""

import inspect
import re
from dataclasses import fields

import pytest

from classify import PromptTemplate, Verbalizer, ZeroShotClassifier
from classify.config import Task
from classify.errors import ConfigError, InputError
from classify.parameters import settings_of
from classify.spec import ModelSpec, Scoring

GROUPS = (ModelSpec, Scoring, PromptTemplate, Verbalizer)
ESTIMATOR = inspect.signature(ZeroShotClassifier).parameters
# In a task file, beside the keys of the task itself; the others are in a mapping.
MAPPINGS = {PromptTemplate: "prompt", Verbalizer: "verbalizer"}
FLAT = [(kind, name) for kind in (ModelSpec, Scoring) for name in settings_of(kind)]


def documented(kind):
    """Return the parameters of a class's docstring, with their types."""
    text = inspect.cleandoc(kind.__doc__)
    listed = re.search(r"Parameters\n-+\n(.*?)\n\n[A-Z]\w+\n-+\n", text, re.DOTALL)
    return dict(re.findall(r"(?m)^(\w+) : (.*(?:\n    .*default=.*)?)$", listed[1]))


@pytest.mark.parametrize("kind", GROUPS, ids=lambda kind: kind.__name__)
def test_every_field_is_a_setting(kind):
    assert list(settings_of(kind)) == [each.name for each in fields(kind) if each.init]


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

KEYS = [(kind, name) for kind in (*GROUPS, Task) for name in settings_of(kind)]


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
