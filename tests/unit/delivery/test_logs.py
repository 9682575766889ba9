"""A line of the log is for a file: it has an event, its fields, and no colours; what others wrote makes no line of its own."""

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


FORGED = "text\n2030-01-01 00:00:00,000 INFO federation access.granted\x1b[2J\u2028\r"


@pytest.mark.parametrize("said", [{"msg": FORGED}, {"msg": "gate.refused: %s", "args": (FORGED,)}, {"msg": "gate.refused", "content_type": FORGED}])
def test_what_others_wrote_stays_in_the_line_of_its_record(said: dict[str, object]) -> None:
    line = TextFormatter().format(logging.makeLogRecord(said))
    assert line.isprintable()
    assert r"text\n2030-01-01 00:00:00,000 INFO federation access.granted\x1b[2J\u2028\r" in line


def test_lines_of_a_traceback_stand_further_in_than_records() -> None:
    error = ValueError(FORGED)
    failed = logging.makeLogRecord({"msg": "task.failed", "exc_info": (type(error), error, None)})
    first, *others = TextFormatter().format(failed).split("\n")
    assert first.endswith("task.failed")
    assert others[0] == "    ValueError: text"
    assert all(line.startswith("    ") and line.isprintable() for line in others)
