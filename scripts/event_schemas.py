"""Writes the JSON Schemas of all events' payloads into docs/reference/schemas; one that is there under another version stays."""

import json
from pathlib import Path

from federation.store.payloads import catalogue

DOCS = Path(__file__).parents[1] / "docs"

for event_type in catalogue.PAYLOADS:
    path = DOCS / catalogue.file_name(event_type)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(catalogue.schema(event_type), indent=2, ensure_ascii=False) + "\n")
