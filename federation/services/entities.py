"""Names of things in a text, and how its sentences relate them, by rules alone: the same text names the same things always.

Knows no database and no model: what only the federation knows, such as who its agents are, is given.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

# Of one text; what names more is a list, and not a statement about them.
MOST = 24
# Of a name, and of what is read of one text.
LONGEST, READ = 200, 20_000
MENTIONED = "mentioned with"

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z«\"'(])|\n+")
# Ends of names that are files; others with a dot in them may be hosts.
_ENDINGS = (
    "c|cc|cfg|conf|cpp|cs|css|csv|go|h|hpp|html|ini|ipynb|java|js|json|jsx|kt|lock|log|lua|md|mjs|php|pl|proto|py|pyi|rb|rs|rst|scala|sh|sql|svg"
    "|swift|tf|toml|ts|tsx|txt|vue|xml|yaml|yml"
)
_DOMAINS = "com|org|net|io|dev|ai|local|lan|internal|intern|example|test|invalid|de|eu|cloud|corp"
UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_PATH = rf"(?:[\w.@-]+/)*[\w@-][\w.@-]*\.(?:{_ENDINGS})"

# In the order in which they are looked for: what one has found another does not read again.
_RULES: Sequence[tuple[str, re.Pattern[str]]] = (
    ("host", re.compile(r"\bhttps?://(?:[^\s/@]+@)?(?P<name>[\w.-]+)(?::\d+)?(?:/[^\s)»\"']*)?")),
    ("uuid", re.compile(rf"(?:\b(?P<kind>task|session|consensus|decision|vote):)?\b(?P<name>{UUID})\b")),
    ("resource", re.compile(r"(?<![\w:])(?P<name>(?:file|deploy|service|db|queue|topic|branch|env):[\w@.][\w@./*-]*[\w*])")),
    ("cve", re.compile(r"\b(?P<name>CVE-\d{4}-\d{4,7})\b")),
    ("issue", re.compile(r"(?<![\w#&])(?P<name>#\d{1,7})\b")),
    ("file", re.compile(rf"(?<![\w.@/-])(?P<name>/?{_PATH})(?![\w/])")),
    ("file", re.compile(r"(?<![\w.@/:-])(?P<name>/?(?:[\w.@-]+/){2,}[\w.@-]*\w)")),
    ("address", re.compile(r"(?<![\w.:])(?P<name>\d{1,3}(?:\.\d{1,3}){3})(?![\w.]*\d)")),
    ("address", re.compile(r"(?<![\w:.])(?P<name>(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4})(?![\w:])")),
    ("host", re.compile(rf"(?<![\w@./-])(?P<name>(?:[a-zA-Z0-9-]+\.)+(?:{_DOMAINS}))(?![\w/-])")),
    (
        "version",
        re.compile(
            r"(?:\b(?P<of>[A-Za-z][\w-]{0,60})(?:==| v?| version ))?(?<![\w.])v?(?P<name>\d+\.\d+(?:\.\d+)*(?:-?(?:rc|a|b|beta|alpha)\.?\d*)?)\b"
        ),
    ),
    ("error", re.compile(r"(?<![\w.])(?P<name>(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Timeout))\b")),
)
# What stands before a version without being its name.
_NO_NAMES = {"", "a", "an", "and", "at", "by", "for", "from", "in", "is", "of", "on", "or", "since", "than", "the", "to", "until", "was", "with"}
_WORD = re.compile(r"(?<![\w@./:-])@?(?P<name>[A-Za-z0-9](?:[\w./:@-]{0,98}\w)?)")
_NOT = re.compile(r"\b(?:not|never|no longer|neither|without)\b|n't\b", re.IGNORECASE)
# What stands between two names of a sentence says how the first relates to the second; the other way round with `by`.
_VERBS: Sequence[tuple[str, re.Pattern[str], bool]] = tuple(
    (relation, re.compile(rf"\b(?:{words})\b", re.IGNORECASE), turned)
    for relation, words, turned in (
        ("depends on", "depends? on|relies on|rely on|needs|requires", False),
        ("runs on", "runs? on|lives? on|is hosted on|deployed (?:on|to)", False),
        ("causes", "(?:was |is |are |were )?caused by|comes? from|came from|because of|due to", True),
        ("causes", "causes?|caused|leads? to|led to|breaks?|broke", False),
        ("blocks", "(?:is |was |are )?blocked by|waits? for", True),
        ("blocks", "blocks?|blocked", False),
        ("fixes", "(?:is |was |are )?(?:fixed|repaired|solved) (?:by|in|with)", True),
        ("fixes", "fix(?:es|ed)?|repairs?|repaired|solves?|solved", False),
        ("replaces", "(?:is |was |are )?replaced (?:by|with)", True),
        ("replaces", "replaces?|replaced|supersedes?", False),
        ("uses", "(?:is |was |are )?(?:used|called|imported) (?:by|in)", True),
        ("uses", "uses?|calls?|imports?|reads?|writes? to|talks? to|connects? to", False),
        ("owns", "(?:is |was |are )?(?:owned|maintained) by", True),
        ("owns", "owns?|maintains?|works? on|takes? care of", False),
    )
)


@dataclass(frozen=True, slots=True)
class Mention:
    """A thing that a text names: kind and name, and where."""

    entity: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Known:
    """What the federation knows by name: each as it is written → the thing (`bob` → `agent:bob`)."""

    names: Mapping[str, str]


def candidates(text: str) -> set[str]:
    """Return the words of a text that could be a name or an id of the federation's own: those to look up for `Known`."""
    text = text[:READ]
    return {found["name"] for found in _WORD.finditer(text)} | {found["name"].lower() for found in _RULES[1][1].finditer(text)}


def mentions(text: str, known: Known) -> list[Mention]:
    """Return the things that a text names, in its order; none overlaps another, and of each the first 200 characters count."""
    found: list[Mention] = []
    taken = [False] * len(text)
    for kind, rule in _RULES:
        for match in rule.finditer(text):
            if any(taken[match.start() : match.end()]):
                continue
            entity = _entity(kind, match, known)
            if entity is not None:
                found.append(Mention(entity[:LONGEST], match.start(), match.end()))
            if entity is not None or kind == "address":
                # What looks like an address and is none is no version either.
                taken[match.start() : match.end()] = [True] * (match.end() - match.start())
    words = (match for match in _WORD.finditer(text) if match["name"] in known.names and not any(taken[match.start() : match.end()]))
    found += [Mention(known.names[match["name"]][:LONGEST], match.start(), match.end()) for match in words]
    return sorted(found, key=lambda each: each.start)


def relations(text: str, known: Known) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Return the things that a text names, MOST of them, and how neighbours in one sentence relate: subject, relation, object."""
    text = text[:READ]
    listed = mentions(text, known)
    named = list(dict.fromkeys(each.entity for each in listed))[:MOST]
    kept, related = set(named), dict[tuple[str, str, str], None]()
    for start, end in _sentences(text):
        inside = [each for each in listed if start <= each.start < end and each.entity in kept]
        for one, other in pairwise(inside):
            if one.entity != other.entity:
                related[_related(one.entity, text[one.end : other.start], other.entity)] = None
    return named, list(related)


def _related(one: str, between: str, other: str) -> tuple[str, str, str]:
    if not _NOT.search(between):
        for relation, words, turned in _VERBS:
            if words.search(between):
                return (other, relation, one) if turned else (one, relation, other)
    # It holds both ways, so it is said one way.
    return (min(one, other), MENTIONED, max(one, other))


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for end in _SENTENCE.finditer(text):
        yield start, end.start()
        start = end.end()
    yield start, len(text)


def _entity(kind: str, match: re.Match[str], known: Known) -> str | None:
    """Return what a rule has found as kind and name; None if it is nothing after all."""
    name = match["name"]
    match kind:
        case "uuid":
            return known.names.get(name.lower())
        case "resource":
            return name
        case "address":
            return _address(name)
        case "file":
            return f"file:{name.rstrip('.')}"
        case "version":
            of = match["of"] or ""
            # A number with one dot may count something: then nothing says that it is a version.
            said = name.count(".") > 1 or re.search(rf"(?:==|version |v){re.escape(name)}$", match[0])
            return None if not said else f"version:{name}" if of.lower() in _NO_NAMES else f"version:{of} {name}"
    return f"{kind}:{name.lower() if kind == 'host' else name}"


def _address(name: str) -> str | None:
    try:
        found = ipaddress.ip_address(name)
    except ValueError:
        return None
    # `::` and the like are syntax of other things.
    return f"host:{found}" if found.version == 4 or name.count(":") > 2 else None
