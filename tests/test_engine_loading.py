"""Engines by name, and the names of the package."""

import copy
import re
import subprocess
import sys

import pytest

import classify.engines
from classify.engines import FakeEngine, clear_engines, load_engine
from classify.errors import ConfigError
from tests.tiny_models import make_model


@pytest.fixture(autouse=True)
def _fresh():
    clear_engines()
    yield
    clear_engines()


def test_equal_arguments_share_an_engine(tmp_path):
    make_model("llama").save_pretrained(tmp_path)
    engine = load_engine("transformers", tmp_path, batch_size=2)
    assert load_engine("auto", str(tmp_path), batch_size=2) is engine
    assert load_engine("transformers", tmp_path, batch_size=3) is not engine
    clear_engines()
    assert load_engine("transformers", tmp_path, batch_size=2) is not engine


def test_a_model_object_is_known_again():
    model = copy.deepcopy(make_model("llama"))
    engine = load_engine("transformers", model)
    assert load_engine("transformers", model) is engine
    assert load_engine("transformers", copy.deepcopy(model)) is not engine


def test_a_closed_engine_is_loaded_anew():
    model = copy.deepcopy(make_model("llama"))
    engine = load_engine("transformers", model)
    engine.close()
    assert load_engine("transformers", model) is not engine


def test_only_two_are_kept():
    models = [copy.deepcopy(make_model("llama")) for _ in range(3)]
    first, second, third = (load_engine("transformers", model) for model in models)
    assert load_engine("transformers", models[2]) is third
    assert load_engine("transformers", models[1]) is second
    assert load_engine("transformers", models[0]) is not first


@pytest.mark.parametrize(
    ("name", "hint"),
    [("transformer", " Did you mean 'transformers'?"), ("xyz", "")],
)
def test_an_unknown_name_gives_the_nearest(name, hint):
    message = (
        f"There is no engine {name!r}: it must be one of auto, transformers.{hint}"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_engine(name, "model")


def test_names_of_the_package():
    assert classify.engines.__all__ == sorted(classify.engines.__all__)
    for name in classify.engines.__all__:
        assert hasattr(classify.engines, name)
    assert dir(classify.engines) == sorted(classify.engines.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Manager'"):
        classify.engines.Manager  # noqa: B018
    assert classify.engines.FakeEngine is FakeEngine


def test_importing_the_package_loads_no_torch():
    code = (
        "import sys, classify.engines; classify.engines.FakeEngine;"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
