"""Sphinx settings. The built site works from a file, with no network: nothing is loaded from anywhere else."""

import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]

import _architectures  # noqa: E402  # found on the path set above
import _gallery  # noqa: E402  # likewise
import _gather  # noqa: E402  # likewise
import _tutorials  # noqa: E402  # likewise

import sae_lab  # noqa: E402  # likewise

project = "sae_lab"
author = "the sae_lab authors"
copyright = "the sae_lab authors, Apache-2.0"
version = release = sae_lab.__version__

extensions = [
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_generated", "demo_saes"]

# What the pages need from elsewhere in the repository is gathered here before Sphinx looks for its sources.
GENERATED = DOCS / "_generated"
STATIC = GENERATED / "static"
STATIC.mkdir(parents=True, exist_ok=True)
shutil.copyfile(ROOT / "sae_lab" / "widgets" / "static" / "host.js", STATIC / "sael-host.js")
_gather.write_quickstart(ROOT, DOCS / "quickstart.ipynb")
_architectures.write_architectures(GENERATED / "architectures.md")
_tutorials.write_tutorials(ROOT, DOCS, STATIC)
_gather.write_dashboard(ROOT, GENERATED / "home.json", GENERATED / "home.html")
_gallery.write_gallery(ROOT, GENERATED / "gallery.json", GENERATED / "gallery", STATIC / "explorer.html")

# Notebooks come as they are, nothing of them is run here. `make demo` leaves an executed quickstart in build/.
nb_execution_mode = "off"
nb_ipywidgets_js = {"sael-host.js": {"defer": "defer"}}  # our host draws saved widgets; the default is two CDN scripts
myst_enable_extensions = ["colon_fence", "attrs_inline"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
autosummary_generate = True
autosummary_ignore_module_all = False
numpydoc_show_class_members = False  # the class template lists the members
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_title = "sae_lab"
html_static_path = ["_static", "_generated/static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navbar_align": "left",
    "show_prev_next": False,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": [], "gallery": []},
    "footer_start": ["copyright"],
    "footer_end": [],
}
# pages that stand alone have nothing to list beside them, and tables to show
ALONE = "index gallery quickstart tutorials methods architectures ground_truth comparisons formats demo_saes testing"
html_sidebars = {page: [] for page in ALONE.split()}
