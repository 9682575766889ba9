"""What others wrote shows as it is in a terminal, and neither colours nor commands anything."""

import io
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from federation.cli.console import inert, table
from federation.cli.demo.stage import short, shown
from federation.foreign import visible

ATTACKS = {
    "\x1b[2J\x1b[31mred\x1b[0m": r"\x1b[2J\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x9b31mred": r"\x9b31mred",
    "over\rwritten": r"over\rwritten",
    "gone\x08\x7f": r"gone\x08\x7f",
    "user\u202etxt.exe": r"user\u202etxt.exe",
    "\u2066isolated\u2069": r"\u2066isolated\u2069",
    "ad\u200bmin\ufeff": r"ad\u200bmin\ufeff",
    "one\u2028two": r"one\u2028two",
    "half \ud800": r"half \ud800",
    "tag \U000e0041": r"tag \U000e0041",
}


def rendered(markup: str) -> str:
    """Return what a terminal with colours is sent."""
    sent = io.StringIO()
    Console(file=sent, force_terminal=True, color_system="truecolor", emoji=False, highlight=False, soft_wrap=True, width=10_000).print(markup)
    return sent.getvalue().removesuffix("\n")


@pytest.mark.parametrize(("text", "seen"), ATTACKS.items(), ids=ascii)
def test_what_commands_a_terminal_is_written_out(text: str, seen: str) -> None:
    assert visible(text) == seen
    assert rendered(inert(text)) == seen


@pytest.mark.parametrize("text", ["[red]", "[/]", "[link=https://x.example]x[/link]", "\\[red]", ":warning:", "[@click=app.bell]x"])
def test_markup_is_text(text: str) -> None:
    assert rendered(inert(text)) == text
    assert rendered(f"[bold]{inert(text)}[/]").count("\x1b") == 2


def test_backslash_at_the_end_does_not_show_the_tag_behind_it() -> None:
    assert rendered(f"[bold]{inert('a' + chr(92))}[/]") == "\x1b[1ma\\\x1b[0m"


@pytest.mark.parametrize("text", ["Grüße", "日本語", "👩‍💻 ❤️", "שלום", "می‌خواهم", "two\nlines\tand a tab"])
def test_words_of_all_scripts_stay(text: str) -> None:
    assert visible(text) == text


@given(st.text())
def test_nothing_but_breaks_and_joiners_is_left_without_a_shape(text: str) -> None:
    left = {character for character in visible(text) if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
    assert left <= {"\n", "\t", "\u200c", "\u200d"}


@given(st.text(alphabet="[]/\\=#:@ aZred\x1b\x07"))
def test_no_text_becomes_colour_or_command(text: str) -> None:
    assert "\x1b" not in rendered(inert(text))
    rows = table("what")
    rows.add_row(inert(text))
    sent = io.StringIO()
    Console(file=sent, force_terminal=True, color_system="truecolor", emoji=False, width=200).print(rows)
    # The head is bold; nothing else is anything.
    assert set(re.findall(r"\x1b\[([0-9;]*)m", sent.getvalue())) <= {"1", "0"}


def test_transcript_of_the_demo_shows_what_agents_say() -> None:
    assert short("\x1b[31m[red]\u202e") == r"\x1b[31m\[red]\u202e"
    assert shown({"says": "\x07[bold]"}, "says") == r"says=\x07\[bold]"
