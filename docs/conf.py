"""Sphinx settings. Pages that could drift are made from the code first."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import render  # noqa: E402

from hostler import __version__  # noqa: E402

render.write(HERE / "generated")

project = "hostler"
version = release = __version__
extensions = ["cliff.sphinxext", "sphinx.ext.graphviz"]
graphviz_output_format = "svg"
exclude_patterns = ["_build", "generated"]
html_theme = "furo"
html_title = f"hostler {__version__}"
html_show_copyright = False
autoprogram_cliff_application = "hostler"
autoprogram_cliff_app_dist_name = "hostler"
# each command has them; the page says once what they do
autoprogram_cliff_ignored = [
    *("--help", "-f", "-c", "--noindent", "--max-width", "--fit-width", "--print-empty", "--quote"),
    *("--sort-column", "--sort-ascending", "--sort-descending", "--prefix", "--variable"),
]
smartquotes = False
#: (page, name, what it is, authors, section of the manual)
man_pages = [
    ("commands", "hostler", "move and resize virtual machines between libvirt hosts", [], 1),
    ("settings", "hostler.conf", "settings of hostler", [], 5),
    ("worker", "hostler-worker", "carry out the migrations of a host", [], 8),
]
