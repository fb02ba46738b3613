"""What is known of an engine before it is loaded, and that nothing else is needed."""

import ast
import inspect
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import classify
from classify import ZeroShotClassifier
from classify.config import Task
from classify.demo import model_folder
from classify.engines import (
    BaseEngine,
    choose_engine,
    clear_engines,
    load_engine,
)
from classify.engines.kinds import SETTINGS
from classify.engines.registry import KINDS, candidates, kind_of, kinds
from classify.errors import ConfigError, MissingDependencyError
from classify.jobs import JobRun, RowColumns, open_table, run_job
from classify.jobs.identity import score_digest, versions
from classify.jobs.results import Classification
from classify.spec import ModelSpec
from tests.tiny_engine import KIND, TinyCommands, TinyEngine, registered

PACKAGE = Path(classify.__file__).parent
LABELS = ["billing", "shipping", "refund"]
TEXTS = ["Where is my parcel?", "I was charged twice.", "Send it back."]


@pytest.fixture
def tiny():
    clear_engines()
    with registered():
        yield
    clear_engines()


def refused(message, *arguments, **options):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_engine(*arguments, **options)


# ------------------------------------------------------------- one folder, one entry


def test_the_tiny_engine_runs_from_python(tiny):
    clf = ZeroShotClassifier(
        LABELS, engine="tiny", engine_options={"sharpness": 3.0}, tolerance=0
    )
    proba = clf.predict_proba(TEXTS)
    assert clf.load_engine().name == "tiny"
    again = ZeroShotClassifier(
        LABELS, engine=TinyEngine.load(model_folder(), sharpness=3.0), tolerance=0
    )
    np.testing.assert_array_equal(proba, again.predict_proba(TEXTS))


def test_the_tiny_engine_runs_a_task_file(tiny, tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text(
        "labels: [billing, shipping]\nengine: tiny\nengine_options: {sharpness: 1}\n"
    )
    clf = Task.from_yaml(path).classifier()
    assert set(clf.predict(TEXTS)) <= {"billing", "shipping"}
    assert clf.load_engine().name == "tiny"


@pytest.fixture(scope="module")
def run():
    """Give a function that runs `classify`, where the tiny engine is one of them."""

    def run(*arguments, code=0, **environment):
        result = commands.run(*arguments, **environment)
        assert result.code == code, result
        return result

    with TinyCommands() as commands:
        yield run


def test_the_tiny_engine_runs_a_job_from_the_command_line(tiny, run, tmp_path):
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\n" + "".join(f"{text}\n" for text in TEXTS))
    arguments = ("predict", source, "--labels", ",".join(LABELS), "--engine", "tiny")
    told = run(*arguments, "--output", out, "--probabilities").stderr
    assert "Engine tiny, context of 500 tokens.\n" in told
    clf = ZeroShotClassifier(LABELS, engine="tiny")
    rows = pd.read_csv(out)
    assert rows["label"].tolist() == clf.predict(TEXTS).tolist()
    # An option that selects an engine needs no --engine.
    shown = run(*arguments[:-2], "--engine-option", "seed_model=0", "-o", "-").stdout
    assert [line.split(",")[1] for line in shown.splitlines()[1:]] == [*rows["label"]]


def test_the_doctor_knows_the_tiny_engine(run):
    shown = run("doctor", "--engine", "tiny").stdout
    assert re.search(r"^Packages .*?numpy", shown, re.MULTILINE | re.DOTALL)
    assert re.search(r"^Engine +tiny, loaded in [\d.]+ s *$", shown, re.MULTILINE)
    assert re.search(r"^Context +500 tokens *$", shown, re.MULTILINE)
    sentence = (
        "--engine must be auto, transformers, vllm, server, llamacpp or tiny. Got "
        "'tinny' instead. Did you mean 'tiny'?"
    )
    assert run("doctor", "--engine", "tinny", code=2).stderr == f"Error: {sentence}\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--url", "http://h:1"),
            "--url is for --engine server: give that, or drop --url.",
        ),
        (
            ("--speculation", "ngram"),
            "--speculation is for --engine vllm: give that, or drop --speculation.",
        ),
        (
            ("--engine-option", "sharpness=high"),
            "--engine-option sharpness=… must be a number, at least 0. Got 'high'.",
        ),
        (
            ("--engine-option", "speed=2"),
            (
                "The tiny engine has no option 'speed'. Its options are patient, "
                "seed_model, sharpness; those of vLLM need --engine vllm."
            ),
        ),
        (
            ("--engine-option", "cache_bytes=2"),
            (
                "The tiny engine has no option 'cache_bytes'. Its options are patient, "
                "seed_model, sharpness; those of transformers need --engine "
                "transformers."
            ),
        ),
    ],
    ids=["url", "speculation", "value", "unknown", "another's"],
)
def test_what_the_tiny_engine_has_not_is_refused(run, arguments, sentence):
    told = run("doctor", "--engine", "tiny", *arguments, code=2).stderr
    assert told == f"Error: {sentence}\n"


def test_the_command_line_takes_no_setting_that_the_engine_refuses(tiny, run):
    run("doctor", "--engine", "tiny", CLASSIFY_DTYPE="bfloat16")
    refused(
        "The tiny engine has no choice of dtype: leave dtype out.",
        *("tiny", model_folder()),
        dtype="bfloat16",
    )


def test_auto_asks_the_tiny_engine(tiny):
    assert choose_engine("auto", "a-tiny") == ("tiny", "the name says so")
    assert choose_engine("auto", "m", device="cpu").name == "transformers"
    selected = choose_engine("auto", "m", options={"seed_model": 1})
    assert selected == ("tiny", "")


def test_scores_depend_on_the_options_that_change_values(tiny):
    def digest(**options):
        clf = ZeroShotClassifier(LABELS, engine="tiny", engine_options=options)
        return score_digest(clf.scorer())

    assert digest(patient=False) == digest()
    assert digest(sharpness=1.0) != digest()
    assert "numpy" in versions()


def test_a_job_of_the_tiny_engine_goes_on(tiny, tmp_path):
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\n" + "".join(f"{text}\n" for text in TEXTS))
    clf = ZeroShotClassifier(LABELS, engine="tiny", engine_options={"patient": True})
    stops = iter([False] * 4)

    def run_once(classifier, **options):
        job = Classification(classifier=classifier, columns=RowColumns())
        table = open_table(source)
        return run_job(job, table, out, run=JobRun(**options), part_rows=1)

    first = run_once(clf, stopping=lambda: next(stops, None) is not False)
    assert not first.is_complete
    clf.set_params(engine_options={"patient": False})
    assert run_once(clf).is_complete
    assert pd.read_csv(out)["label"].tolist() == clf.predict(TEXTS).tolist()


# --------------------------------------------------------- what kinds say of themselves


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_lists_what_its_load_takes(name):
    kind = kind_of(name)
    assert kind.name == name
    known = dict(inspect.signature(kind.engine_class().load).parameters)
    known.pop("model")
    is_open = known.pop("options", None) is not None
    assert is_open == kind.takes_other_options
    settings = [each for each in SETTINGS if each not in kind.refused]
    listed = {each.name for each in kind.options}
    assert set(known) <= {*settings, *listed}
    if not is_open:
        assert set(known) == {*settings, *listed}
    for setting in settings:
        assert known[setting].default == SETTINGS[setting]


def test_the_shared_settings_are_those_of_the_spec():
    assert ModelSpec().engine_arguments() == SETTINGS
    known = inspect.signature(load_engine).parameters
    assert {name: known[name].default for name in SETTINGS} == SETTINGS


@pytest.mark.parametrize("name", KINDS)
def test_an_engine_inherits_the_whole_protocol(name):
    engine = kind_of(name).engine_class()
    assert issubclass(engine, BaseEngine)
    assert engine.name == name


def test_what_every_option_is_for_is_one_sentence():
    for kind in kinds():
        for option in kind.options:
            assert re.fullmatch(r"[A-Z].*[^.]\.", option.help), option


VALUES = {
    "cache_bytes": ("transformers", "a lot", "a whole number, at least 0, or None"),
    "attn_implementation": ("transformers", 3, "a string, or None"),
    "url": ("server", 8000, "a string, or None"),
    "retries": ("server", True, "a whole number, at least 0"),
    "self_test": ("server", "no", "a boolean"),
    "max_num_seqs": ("vllm", 0, "a whole number, at least 1, or None"),
    "tensor_parallel_size": ("vllm", "two", "a whole number, at least 1"),
    "lora": ("vllm", 5, "the path of a folder, or None"),
}


@pytest.mark.parametrize("option", VALUES)
def test_a_value_that_is_not_allowed_is_refused_before_anything_is_loaded(option):
    name, value, allowed = VALUES[option]
    message = f"{option} must be {allowed}. Got {value!r}."
    refused(message, name, model_folder(), **{option: value})


def test_a_package_that_is_missing_is_named_with_its_command(tiny):
    needs = kind_of("server").requires._replace(module="no_such_module")
    absent = type(KIND)(**{**vars(KIND), "requires": needs})
    with pytest.raises(MissingDependencyError) as raised:
        absent.load(model_folder())
    assert str(raised.value) == (
        "The server engine needs httpx, which is not installed. Install it with: "
        "pip install 'classify-lm[server]'"
    )


def test_gpus_of_an_engine():
    options = {"tensor_parallel_size": 2, "pipeline_parallel_size": 3, "seed": 4}
    assert kind_of("vllm").n_gpus(options) == 6
    assert kind_of("vllm").n_gpus({}) == 1
    assert kind_of("server").n_gpus({}) == 0
    assert max(kind.n_gpus(options) for kind in candidates("auto", "a", options)) == 6
    at_a_url = {"url": "http://h", **options}
    assert [kind.name for kind in candidates("auto", "a", at_a_url)] == ["server"]


# ------------------------------------------------------- no engine's name anywhere else

_ENGINES = PACKAGE / "engines"
_FOLDERS = [_ENGINES / name for name in KINDS]
_SHARED = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != _ENGINES / "registry.py"
    and not any(path.is_relative_to(folder) for folder in _FOLDERS)
]


def names_in(code):
    """Yield what in a module depends on one engine: its name as a value, or imports.

    Names inside longer strings are messages and documentation. Imports of a folder
    elsewhere than in its own are late ones of its classes, too.
    """
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Constant(value=str(value)) if value in KINDS:
                yield value
            case ast.ImportFrom(module=str(module)):
                yield from (name for name in KINDS if f".engines.{name}" in module)
            case ast.Import(names=names):
                imported = " ".join(alias.name for alias in names)
                yield from (name for name in KINDS if f".engines.{name}" in imported)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("if engine.name == 'vllm': pass", ["vllm"]),
        ("FREE = {'server': ('url',)}", ["server"]),
        ("from classify.engines.vllm.engine import VllmEngine", ["vllm"]),
        ("import classify.engines.server", ["server"]),
        ("match name:\n    case 'transformers': pass", ["transformers"]),
        ("raise ValueError('use vllm')", []),
        ('def f():\n    """vllm or server."""', []),
        ("from transformers import AutoTokenizer", []),
    ],
)
def test_names_of_engines_are_found(code, expected):
    assert [*names_in(code)] == expected


def test_engines_are_named_in_their_folders_and_the_registry_only():
    found = {
        str(path.relative_to(PACKAGE)): [*names_in(path.read_text("utf-8"))]
        for path in _SHARED
    }
    assert len(found) > 100
    assert {path: names for path, names in found.items() if names} == {}


def test_no_caller_probes_an_engine_for_what_it_has():
    protocol = {name for name in dir(BaseEngine) if not name.startswith("_")}
    assert {"asynchronous", "closed", "describe", "open_line", "submit"} <= protocol
    found = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "hasattr")
        and isinstance(node.args[1], ast.Constant)
        and (name := node.args[1].value) in protocol
    ]
    assert found == []
