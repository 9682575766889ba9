"""Sphinx configuration; the reference pages are made from the code by `_ext/from_code.py`."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "The federation"
author = "the authors of the federation"
version = release = installed("federation")
extensions = ["myst_parser", "from_code"]
exclude_patterns = ["_build"]
nitpicky = True
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"The federation {version}"
html_show_copyright = False
