"""Engines by name, and the names of the package."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import classify.engines
from classify.engines import (
    FakeEngine,
    choose_engine,
    clear_engines,
    load_engine,
    loading,
)
from classify.errors import ConfigError
from tests.tiny_models import make_model


@pytest.fixture(autouse=True)
def _fresh():
    clear_engines()
    yield
    clear_engines()


def test_equal_arguments_share_an_engine(tmp_path):
    make_model("llama").save_pretrained(tmp_path)
    options = {"batch_size": 2, "device": "cpu"}
    engine = load_engine("transformers", tmp_path, **options)
    assert load_engine("auto", str(tmp_path), **options) is engine
    assert load_engine("transformers", tmp_path, batch_size=2) is not engine
    clear_engines()
    assert load_engine("transformers", tmp_path, **options) is not engine


def test_a_model_object_is_known_again():
    model = copy.deepcopy(make_model("llama"))
    engine = load_engine("transformers", model)
    assert load_engine("transformers", model) is engine
    assert load_engine("transformers", copy.deepcopy(model)) is not engine


def test_a_closed_engine_is_loaded_again():
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
        f"There is no engine {name!r}: it must be one of auto, transformers, vllm, "
        f"server, llamacpp.{hint}"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_engine(name, "model")


def test_options_in_another_order_are_the_same(tmp_path):
    make_model("llama").save_pretrained(tmp_path)
    options = {"cache_bytes": 1 << 20, "attn_implementation": "eager"}
    engine = load_engine("transformers", tmp_path, **options)
    turned = dict(reversed(options.items()))
    assert load_engine("transformers", tmp_path, **turned) is engine
    turned["cache_bytes"] = 1 << 21
    assert load_engine("transformers", tmp_path, **turned) is not engine


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": {"c": [1, 2]}}, {"b": {"c": [1, 2]}, "a": 1}),
        ("ngram", "ngram"),
        (None, None),
    ],
)
def test_equal_options_have_equal_keys(one, other):
    assert loading._frozen(one) == loading._frozen(other)
    assert hash(loading._frozen(one)) == hash(loading._frozen(other))
    for different in ({"a": 1, "b": {"c": [2, 1]}}, {"a": "1"}, "ngran"):
        assert loading._frozen(different) != loading._frozen(one)


@pytest.mark.parametrize("name", ["transformers", "auto"])
def test_what_the_engine_does_not_know_is_named(name):
    # A GPU and vLLM make no difference: "auto" runs a model object with transformers.
    which = "The transformers engine"
    which += " (auto: for a model object)" if name == "auto" else ""
    for options, message in (
        (
            {"speculation": "ngram"},
            (
                f"{which} has no speculative decoding: use engine='vllm', or leave "
                "speculation out."
            ),
        ),
        (
            {"max_model_len": 5, "lora": "x"},
            (
                f"{which} has no option 'lora', 'max_model_len'. Its options are "
                "attn_implementation, cache_bytes; those of vLLM need engine='vllm'."
            ),
        ),
    ):
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            load_engine(name, make_model("llama"), **options)


# ------------------------------------------------------------------- which engine


def test_auto_stays_with_transformers_where_vllm_cannot_compute():
    model = make_model("llama")
    assert choose_engine("auto", model) == ("transformers", "for a model object")
    assert choose_engine("auto", "m", device="cpu") == (
        "transformers",
        "for device 'cpu'",
    )
    assert choose_engine("transformers", "m") == ("transformers", "")


def test_auto_says_once_why(caplog):
    model = copy.deepcopy(make_model("llama"))
    loading._told.clear()
    with caplog.at_level("INFO", "classify.engines.loading"):
        for _ in range(2):
            load_engine("auto", model)
            clear_engines()
    assert caplog.messages == ["Engine transformers: for a model object."]


def in_a_process_with_vllm(folder, version, module, code):
    """Run code where `import vllm` finds a package of our own making."""
    (folder / "vllm").mkdir()
    (folder / "vllm" / "__init__.py").write_text(module)
    if version is not None:
        information = folder / f"vllm-{version}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Name: vllm\nVersion: {version}\n")
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[1])])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_old_vllm_is_not_taken(tmp_path):
    code = (
        "from classify.engines import choose_engine;"
        "print(choose_engine('auto', 'm').reason);"
        "choose_engine('vllm', 'm')"
    )
    process = in_a_process_with_vllm(tmp_path, "0.25.1", "raise Exception", code)
    assert process.stdout == "vLLM 0.25.1 is older than 0.26\n"
    assert process.stderr.endswith(
        "MissingDependencyError: The vllm engine needs vLLM 0.26 or newer; vLLM 0.25.1 "
        "is installed: pip install --upgrade 'vllm>=0.26', or use "
        "engine='transformers'.\n"
    )


def test_a_broken_vllm_is_an_error_or_a_warning(tmp_path):
    model = tmp_path / "model"
    make_model("llama").save_pretrained(model)
    code = f"""
from classify.engines import load_engine, loading
from classify.errors import MissingDependencyError
try:
    load_engine("vllm", {str(model)!r})
except MissingDependencyError as error:
    print(error)
# What "auto" does where there is a GPU.
print(loading._load("vllm", {str(model)!r}, {{}}, "there is a GPU for it").name)
"""
    module = "raise ImportError('libcuda.so: no such file')"
    process = in_a_process_with_vllm(tmp_path, "0.30.0", module, code)
    assert process.returncode == 0, process.stderr
    broken = (
        "vLLM is installed, but cannot be imported: libcuda.so: no such file. Install "
        "it again, in the version and for the device that fit the installed torch."
    )
    assert process.stdout == f"{broken}\ntransformers\n"
    assert (
        f"The transformers engine is used instead of vllm. {broken}\n" in process.stderr
    )


# ------------------------------------------------------------------------ the names


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
