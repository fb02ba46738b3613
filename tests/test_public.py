"""What users may import: these modules, and these names of theirs.

All other modules are the package's own, and change without notice.
"""

import ast
import importlib
import json
import re
from collections.abc import Iterator

import pytest

from tests.test_repository import ROOT, relative, text_of

PUBLIC = {
    "classify": """
        ClassifyError Label LabelCalibrator LabelLogprobs LabelSet PriorShift
        PromptTemplate Question ReliabilityDisplay RiskCoverageDisplay
        SelectiveClassifier SplitConformalSets TaskClassifier TrackDisplay
        Verbalizer ZeroShotClassifier ZeroShotMultiLabelClassifier __version__
        calibration_error track tune_prompt
    """,
    "classify.calibration": """
        CalibrationWarning Fingerprint LabelCalibrator METHODS PROBE_METHODS
        PriorShift check_fingerprint fingerprint_of required_tolerance
    """,
    "classify.config": """
        Task task_yaml
    """,
    "classify.decision": """
        Decisions LabelThresholds SelectiveClassifier SplitConformalSets
        fit_thresholds
    """,
    "classify.demo": """
        TICKET_LABELS fresh_csv labelled_csv located model_folder tickets_csv
        tickets_yaml
    """,
    "classify.engines": """
        BaseEngine Engine FakeEngine check_request choose_engine clear_engines
        generate load_engine read
    """,
    "classify.engines.vllm": """
        LLM SamplingParams
    """,
    "classify.jobs": """
        CalibrationFit CalibrationWishes Classification ClassifiedChunk ErrorLimit
        Estimate JobRun JobWatcher LabelledRows LabelsFit Outcome Review
        ReviewFile RowColumns ScoredTexts Summary check_output check_table
        estimate_job evaluate evaluate_labels fit_artefact fit_labels_artefact
        job_folder open_table output_format parse_shard read_labelled run_job
        saved_fingerprint score_labelled select_rows selection_of stream_rows
    """,
    "classify.jobs.ray": """
        classify_dataset ray_pool
    """,
    "classify.metrics": """
        BootstrapInterval LogLoss ReliabilityDisplay RiskCoverageCurve
        RiskCoverageDisplay TrackDisplay augrc_score aurc_score bootstrap_interval
        calibration_error eaurc_score log_loss_from_log_proba mutual_information
        ranked_probability_score risk_coverage_curve smooth_calibration_error
    """,
    "classify.report": """
        Evaluation LabelsEvaluation check_matplotlib write_report
    """,
    "classify.serve": """
        ServeSettings make_app
    """,
    "classify.tokenizer": """
        Segment Tokenizer load_tokenizer
    """,
    "classify.tracking": """
        EdgeBounds EdgeLogprobs ReadRequest TokenList TokenTree TrackedGeneration
        TrackedRequest common_prefix_length logprobs_of updated
    """,
}
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))


def documented_code() -> Iterator[tuple[str, str]]:
    """Python that README, the pages and the notebooks show."""
    for path in DOCUMENTS:
        for block in re.findall(r"```python\n(.*?)```", text_of(path), re.DOTALL):
            yield relative(path), block
    for path in NOTEBOOKS:
        for cell in json.loads(text_of(path))["cells"]:
            if cell["cell_type"] == "code":
                lines = "".join(cell["source"]).splitlines()
                yield (
                    relative(path),
                    "\n".join(
                        line for line in lines if not line.startswith(("%", "!"))
                    ),
                )


def names_imported_by(code: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "classify"
        ):
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("module", PUBLIC)
def test_a_public_module_offers_these_names(module):
    assert sorted(importlib.import_module(module).__all__) == PUBLIC[module].split()


# Those of `classify.engines.vllm` are vLLM's, which takes half a minute to import.
@pytest.mark.parametrize("module", sorted(PUBLIC.keys() - {"classify.engines.vllm"}))
def test_public_names_explain_themselves(module):
    public = importlib.import_module(module)
    unexplained = [
        name
        for name in PUBLIC[module].split()
        if callable(value := getattr(public, name))
        if not (value.__doc__ or "").strip()
    ]
    assert public.__doc__
    assert unexplained == []


def test_documents_import_public_names_only():
    found = {
        (path, module, name)
        for path, code in documented_code()
        for module, name in names_imported_by(code)
    }
    assert {"README.md", "notebooks/01_quickstart.ipynb"} <= {
        path for path, *_ in found
    }
    assert [
        each for each in sorted(found) if each[2] not in PUBLIC.get(each[1], "").split()
    ] == []
