"""Names and numbers that a summary has and its source has not are found; those that the source has are not, however they are written."""

import re
from importlib.metadata import metadata

import pytest

from federation.engines.grounding import unsupported
from federation.engines.sentences import sentences_of

TALK = """\
ada: The auth module of aorus leaks 10,000 bytes a request; kombu.pidbox in 5.7.0 is to blame, since 10:15.
bob: I profiled src/auth.py for three hours. Shall we ship on Friday? It took 200 MB, about 5 % of what Grafana shows.
ada: Agreed. GPT-4 proposes OAuth2 for the memory-leak dashboard."""
AGENTS = ("ada", "bob", "eve", "mark")


@pytest.mark.parametrize(
    "summary",
    [
        "Ada says that the auth module leaks 10000 bytes a request. Bob profiled auth.py for 3 hours, and asks whether to ship on Friday.",
        "However, KOMBU.PIDBOX 5.7.0 is to blame. Since 10:15 it leaks ten thousand bytes? No: 10,000.".replace("ten thousand", "10'000"),
        "Memory grows by 200 MB. It was Ada's module, five percent of Grafana's memory.",
        "They agreed on OAuth2, which GPT-4 proposes.\n- The dashboard is open.\n- «Memory-Dashboard» too.",
        "I was told that nobody knows. They work on it.",
        "",
    ],
)
def test_what_was_said_is_found_however_it_is_written(summary: str) -> None:
    assert unsupported(summary, TALK, names=AGENTS) == []


@pytest.mark.parametrize(
    ("summary", "invented"),
    [
        ("Carol profiled it.", ["Carol"]),
        ("It was profiled by eve, and Mark agreed.", ["eve", "Mark"]),
        ("Ship it on Monday, not on Friday.", ["Monday"]),
        ("It leaks 10,001 bytes, 1,000 or 0 of them on boron.", ["10001", "1000", "0"]),
        ("kombu 5.7 and 5.7.0.1 are to blame, since 10:5 or 15.", ["5.7", "5.7.0.1", "10:5", "15"]),
        ("It took 200 GB, and four hours.", ["GB", "4"]),
        ("src/main.py and auth.js leak at https://example.org.", ["src/main.py", "auth.js", "https://example.org"]),
        ("OAuth3 is in GPT-5, says the Grafana-Board.", ["OAuth3", "GPT-5", "Grafana-Board"]),
        ("Participants met. The Team agreed.", ["Participants", "Team"]),
        ("Carol and Carol.", ["Carol"]),
        ("ensureConnection fails.", ["ensureConnection"]),
    ],
)
def test_what_nobody_said_is_named(summary: str, invented: list[str]) -> None:
    assert unsupported(summary, TALK, names=AGENTS) == invented


# What others have written about their programs, as it was installed.
PACKAGES = ("alembic", "celery", "fastmcp", "hypothesis", "kombu", "psycopg", "pydantic", "pytest", "rich", "sqlalchemy", "uvicorn")


def prose(package: str) -> list[str]:
    """Return the sentences of what a package says of itself."""
    described = metadata(package).get_payload() or metadata(package)["Description"]
    assert isinstance(described, str)
    return [sentence for sentence in sentences_of(described) if len(sentence.split()) >= 6]


@pytest.mark.parametrize("package", PACKAGES)
def test_sentences_of_a_real_text_are_said_there_and_with_one_more_name_or_number_are_not(package: str) -> None:
    sentences = prose(package)
    text = "\n".join(sentences)
    assert len(sentences) >= 3
    for sentence in sentences:
        assert unsupported(sentence, text) == [], sentence
        ending = sentence.rstrip(".!?:;, ")
        # «Quetzalcoatl» has no part in any of them.
        assert unsupported(f"{ending} by Quetzalcoatl.", text) == ["Quetzalcoatl"], sentence
        assert unsupported(f"Quetzalcoatl says: {ending}.", text) == ["Quetzalcoatl"], sentence
        for number in re.findall(r"(?<![\w.,:/-])\d+(?![\w.,:/%-])", ending):
            other = f"{number}98765"
            assert unsupported(re.sub(rf"(?<![\w.,:/-]){number}(?![\w.,:/%-])", other, ending), text) == [other], sentence


@pytest.mark.parametrize("package", PACKAGES)
def test_sentences_of_another_text_are_seldom_said_there(package: str) -> None:
    """Of the sentences about another program that name anything, most name something that this text has not."""
    text = "\n".join(prose(package))
    others = [sentence for other in PACKAGES if other != package for sentence in prose(other)]
    named = [sentence for sentence in others if unsupported(sentence, "")]
    passed = [sentence for sentence in named if not unsupported(sentence, text)]
    assert len(named) > 50
    assert len(passed) < len(named) / 4, passed[:10]
