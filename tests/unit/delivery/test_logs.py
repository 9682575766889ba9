"""A line of the log is for a file: it has an event, its fields, and no colours."""

import logging

import pytest

from federation.delivery.logs import JsonFormatter, TextFormatter


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_line_has_its_fields_and_no_colours(formatter: logging.Formatter) -> None:
    said = {"msg": "outbox.swept", "sent": 3, "color_message": "\x1b[36moutbox.swept\x1b[0m"}
    line = formatter.format(logging.makeLogRecord(said))
    assert "outbox.swept" in line
    assert "sent" in line
    assert "color" not in line
    assert "\x1b" not in line
