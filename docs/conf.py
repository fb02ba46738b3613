"""Sphinx: `make docs`. What the program says of itself is written at each build."""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import cli_reference
from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

from classify import __version__

project = "classify"
author = "The classify developers"
project_copyright = author
version = release = __version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# The notebooks are stored without outputs. They run here, once until they change; they
# find the repository in the folder above theirs.
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE.parent / "build" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_excludepatterns = [] if find_spec("vllm") else ["*_vllm.ipynb"]
nb_execution_timeout = 600
nb_merge_streams = True
templates_path = ["_templates"]
smartquotes = False  # -- would become a dash
html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "classify"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {"**": ["pages.html"]}
html_theme_options = {
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_center": [],
    "footer_start": ["copyright"],
    "footer_end": [],
}

default_role = "py:obj"
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say them
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Links to what other projects document would need their inventories from the network.
# Docstrings name modules of ours, too, which have no page: where a thing is done.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!classify\.).*"),
    (
        "py:(class|obj)",
        r"classify\.(decision|engines|jobs|prompts)\.\w+(\.\w+)?|classify\.tracking\.EdgeLogprobs",
    ),
]

# Of a name that has gone, a page would be left over.
shutil.rmtree(HERE / "generated", ignore_errors=True)
if not (HERE / "notebooks").exists():
    (HERE / "notebooks").symlink_to(Path("..", "notebooks"))
(HERE / "cli.md").write_text(cli_reference.reference(), "utf-8")


def setup(app):
    app.connect("autodoc-skip-member", skipped)
    # Browsers read MathML; MathJax would be fetched from elsewhere by each reader.
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))


def skipped(app, what, name, member, skip, options):
    """Leave out what scikit-learn adds to every estimator, and documents itself."""
    home = getattr(member, "__module__", None) or ""
    return True if home.startswith("sklearn.") else None


def inline_math(translator, node):
    translator.body.append(str(tex2mathml(node.astext())))
    raise SkipNode


def block_math(translator, node):
    translator.body.append(str(tex2mathml(node.astext(), as_block=True)))
    raise SkipNode
