"""Self-checks are remembered where they passed, and for models of one kind only."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from classify.distribution import VERSION
from classify.engines import read
from classify.engines.transformers import TransformersEngine
from classify.engines.transformers.passed_checks import (
    Check,
    PassedChecks,
    identity,
)
from classify.errors import ModelLoadError
from classify.tracking import ReadRequest
from tests.tiny_models import Reference, make_model, random_prompt, random_tree

TREE = random_tree(n_paths=12)
INNER = tuple(TREE.inner_nodes.tolist())


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    """The file of this test."""
    monkeypatch.setenv("CLASSIFY_SELF_CHECKS", str(tmp_path / "made" / "when needed"))
    return tmp_path / "made" / "when needed" / "self-checks.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Give the folder of a saved model by the name of its architecture."""
    root = tmp_path_factory.mktemp("models")

    def saved(architecture):
        if not (root / architecture).is_dir():
            make_model(architecture).save_pretrained(root / architecture)
        return root / architecture

    return saved


def load(path, **options):
    return TransformersEngine.load(path, device="cpu", **options)


def remembered(memory):
    """The checks that passed, of all kinds of models."""
    kinds = json.loads(memory.read_text())["passed"].values()
    return [Check(*fields) for kind in kinds for fields in kind]


def pretend(memory, *ways):
    """Let all kinds of models in the file have passed these checks on a sample."""
    content = json.loads(memory.read_text())
    for checks in content["passed"].values():
        checks += [list(Check(way)) for way in ways]
    memory.write_text(json.dumps(content))


def test_what_passed_is_not_asked_again(folder, memory):
    # Its window counts slots: what it answers under a tree mask is wrong.
    assert load(folder("gpt_neo_local")).read_mode == "forked"
    assert remembered(memory) == [Check("forked")]
    assert load(folder("gpt_neo_local")).read_mode == "forked"
    pretend(memory, "tree")
    assert load(folder("gpt_neo_local")).read_mode == "tree"


def test_what_failed_is_asked_again(folder, memory):
    for _ in range(3):
        assert load(folder("gpt_neo_local")).read_mode == "forked"
        assert [each.way for each in remembered(memory)] == ["forked"]


def test_another_dtype_is_checked_itself(folder, memory):
    load(folder("gpt_neo_local"))
    pretend(memory, "tree")
    engine = load(folder("gpt_neo_local"), dtype="bfloat16")
    assert engine.read_mode == "forked"


def test_another_shape_is_checked_itself(folder, memory, tmp_path):
    load(folder("gpt_neo_local"))
    pretend(memory, "tree")
    config = AutoConfig.from_pretrained(folder("gpt_neo_local"), window_size=7)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "other")
    assert load(tmp_path / "other").read_mode == "forked"


def test_models_that_bring_code_and_models_in_memory_are_always_checked(folder, memory):
    load(folder("llama"), trust_remote_code=True)
    TransformersEngine.load(make_model("llama"))
    assert not memory.exists()


def test_longer_texts_are_remembered_too(folder, memory):
    for length in (20, 60):
        read(
            load(folder("phi3_longrope")),
            [ReadRequest(random_prompt(length), TREE, INNER)],
        )
    passed = {each for each in remembered(memory) if not each.across}
    # Beyond 16 tokens a tree is wrong: nothing but that it is right below.
    assert {each.length for each in passed if each.way == "tree"} == {0, 16}
    assert {each.length for each in passed if each.way == "cached"} >= {24}


def test_values_are_the_same_with_and_without(folder):
    engines = [load(folder("phi3_longrope")) for _ in range(2)]
    expected = Reference(make_model("phi3_longrope"))
    for engine in engines:
        for length in (9, 15, 24, 50):
            prompt = random_prompt(length, length)
            [edges] = read(engine, [ReadRequest(prompt, TREE, INNER)])
            np.testing.assert_allclose(
                edges, expected.edges(prompt, TREE, INNER), atol=3e-5, rtol=0
            )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_damaged_weights_are_checked_whatever_is_remembered(
    folder, memory, tmp_path, value
):
    load(folder("llama"))
    assert remembered(memory) == [Check("fused tree")]
    model = copy.deepcopy(make_model("llama"))
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = value
    model.save_pretrained(tmp_path / "damaged")
    with pytest.raises(ModelLoadError, match="is not a causal language model"):
        load(tmp_path / "damaged")
    # Attention on a CPU turns this into plausible numbers, in most ways of reading.
    model = copy.deepcopy(make_model("llama"))
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.fill_(value)
    model.save_pretrained(tmp_path / "hidden")
    assert load(tmp_path / "hidden").read_mode == "cached"


def test_a_longer_check_implies_a_shorter_one():
    long = Check("tree", 16, 128, across=False)
    assert long.implies(long)
    assert long.implies(Check("tree", 16, 64, across=False))
    assert not long.implies(Check("tree", 16, 256, across=False))
    assert not long.implies(Check("cached", 16, 64, across=False))
    assert not long.implies(Check("tree", 32, 64, across=False))
    assert not long.implies(Check("tree", 16, 64, across=True))
    edge = Check("tree", 16, 128, across=True)
    assert edge.implies(edge)
    assert not edge.implies(Check("tree", 16, 64, across=True))
    assert not edge.implies(Check("tree", 16, 64, across=False))


def test_a_kind_is_all_but_the_weights():
    described = identity(make_model("llama"))
    assert described["classify"] == VERSION
    assert described["packages"]["torch"] == torch.__version__
    assert described["packages"]["transformers"] == transformers.__version__
    assert described["model"].endswith(".LlamaForCausalLM")
    assert described["dtypes"] == ["torch.float32"]
    assert len(described["code"]) == 64
    other = copy.deepcopy(make_model("llama", seed=1))
    other.config._name_or_path = "elsewhere"
    other.config.dtype = make_model("llama").config.dtype
    assert described == identity(other)
    other.set_attn_implementation("eager")
    assert described != identity(other)
    changed = copy.deepcopy(make_model("llama"))
    changed.model.layers[0].mlp = torch.nn.Identity()
    assert described != identity(changed)
    assert described != identity(copy.deepcopy(make_model("llama")).bfloat16())
    assert described != identity(make_model("qwen2"))


BROKEN = [
    b"",
    b"\xff\x00{",
    b"[]",
    b"17",
    b'{"format": "classify self-checks 2", "passed": {}}',
    b'{"format": "classify self-checks 1"}',
    b'{"format": "classify self-checks 1", "passed": []}',
    b'{"format": "classify self-checks 1", "passed": {"x": 5}}',
    b'{"format": "classify self-checks 1", "passed": {"x": [["tree", 0, 0]]}}',
    b'{"format": "classify self-checks 1", "passed": {"x": [["tree", 0, 0, 1]]}}',
]


@pytest.mark.parametrize("content", BROKEN)
def test_damage_is_ignored_and_mended(memory, content, caplog):
    memory.parent.mkdir(parents=True)
    memory.write_bytes(content)
    checks = PassedChecks("x", memory)
    assert not checks.imply(Check("tree"))
    checks.add(Check("tree"))
    assert PassedChecks("x", memory).imply(Check("tree"))
    assert caplog.messages == []


def test_a_folder_that_cannot_be_written_costs_nothing(
    folder, tmp_path, monkeypatch, caplog
):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CLASSIFY_SELF_CHECKS", str(tmp_path / "file"))
    assert load(folder("llama")).read_mode == "tree"
    (tmp_path / "self-checks.json").mkdir()
    monkeypatch.setenv("CLASSIFY_SELF_CHECKS", str(tmp_path))
    assert load(folder("llama")).read_mode == "tree"
    assert caplog.messages == []


def test_it_can_be_switched_off(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSIFY_SELF_CHECKS", "off")
    monkeypatch.chdir(tmp_path)
    assert load(folder("llama")).read_mode == "tree"
    assert list(tmp_path.iterdir()) == []


def test_what_two_processes_remember_adds_up(memory):
    mine, yours = PassedChecks("x", memory), PassedChecks("x", memory)
    others = PassedChecks("y", memory)
    mine.add(Check("tree"))
    others.add(Check("uncached"))
    yours.add(Check("cached"))
    assert PassedChecks("x", memory).imply(Check("tree"))
    assert PassedChecks("x", memory).imply(Check("cached"))
    assert not PassedChecks("x", memory).imply(Check("uncached"))


def test_the_file_stays_small(memory):
    for number in range(203):
        PassedChecks(f"{number}", memory).add(Check("tree"))
    kinds = json.loads(memory.read_text())["passed"]
    assert list(kinds) == [f"{number}" for number in range(3, 203)]


def test_without_a_variable_it_is_the_cache_folder_of_the_user(
    folder, tmp_path, monkeypatch
):
    monkeypatch.delenv("CLASSIFY_SELF_CHECKS")
    for variable in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    load(folder("llama"))
    [file] = Path(tmp_path).rglob("self-checks.json")
    assert re.fullmatch(r"classify.self-checks\.json", "/".join(file.parts[-2:]))
