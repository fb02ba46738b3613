"""The examples of docstrings run as they stand; `test_wheel.py` runs README's."""

import doctest
import importlib
import pkgutil

import pytest

import classify

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(classify.__path__, "classify.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name, tmp_path, monkeypatch):
    if name.startswith("classify.engines.vllm."):
        pytest.importorskip("vllm", exc_type=ImportError)
    if name.endswith("_kernel"):
        pytest.importorskip("triton")
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


def test_docstrings_are_found():
    # `testmod` is silent where it finds nothing.
    labels = importlib.import_module("classify.labels.label_set")
    assert doctest.testmod(labels).attempted >= 3
