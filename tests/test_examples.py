"""The examples of docstrings and of README run as they stand."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import classify

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(classify.__path__, "classify.")
    if not module.name.endswith("__main__")
)
README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name, tmp_path, monkeypatch):
    if name.startswith("classify.engines.vllm."):
        pytest.importorskip("vllm", exc_type=ImportError)
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


def test_docstrings_are_found():
    # `testmod` is silent where it finds nothing.
    labels = importlib.import_module("classify.labels")
    assert doctest.testmod(labels).attempted >= 3


def test_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for what they write
    blocks = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["clf"].predict(["Where is my parcel?"]).tolist() == ["shipping"]
    assert 0 < names["scores"].label_mass[0] <= 1
