"""Sphinx directive `from-code`: puts a table or sections of `reference.py` or `measured.py` where it stands."""

from typing import Any

import measured
import reference
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

SECTIONS = reference.SECTIONS | measured.SECTIONS


class FromCode(SphinxDirective):
    """Puts one of SECTIONS here, as Markdown."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes of that section."""
        return self.parse_text_to_nodes(SECTIONS[self.arguments[0]](), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("from-code", FromCode)
    return {"parallel_read_safe": True}
