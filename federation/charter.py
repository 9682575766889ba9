"""The charter: which roles there are and what agents of each may do, read from one TOML file; knows no agent and no task.

Refuses a file in which a value does not fit: it names the file, the key, what it got and what it wants.
"""

import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from federation.errors import NotFound, SettingsError
from federation.settings import settings, variable

# These are always there: the nodes that ship have them, and so have agents that were added under another charter.
BUILT_IN = ("lead", "developer", "analyst", "human", "observer", "service")
# Of those who do what is left to a person.
PERSON = "human"
ROLE_PATTERN = "^[a-z][a-z0-9_-]{0,39}$"

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = (_PACKAGE.parent / "charter.toml", _PACKAGE / "_charter.toml")

# No `*` but as the last part: `/**` is a folder with all below it.
RESOURCE_PATTERN = r"^[a-z][a-z0-9-]{0,39}:(?:[^*\x00-\x1f\x7f]+/\*\*|\*\*|[^*\x00-\x1f\x7f]*[^*/\x00-\x1f\x7f])$"

RoleName = Annotated[str, Field(pattern=ROLE_PATTERN)]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
# The kinds of `agent_tasks`, which stand above this room; a test holds the two together.
Work = Literal["investigate", "analyze", "remediate", "report"]


class Right(StrEnum):
    """What the charter lets an agent do."""

    DESIGNATE = "designate"
    OFFER = "offer"
    RUN = "run"
    CLAIM = "claim"
    VOTE = "vote"
    APPROVE = "approve"
    APPROVE_OWN = "approve_own"
    MOVE = "move"
    CANCEL = "cancel"


class Phase(StrEnum):
    """Where a conversation may be, in this order."""

    PROPOSE = "propose"
    DISCUSS = "discuss"
    DECIDE = "decide"
    EXECUTE = "execute"
    REVIEW = "review"


class Condition(StrEnum):
    """What must be so in a conversation before it goes on to a phase."""

    PROPOSED = "proposed"
    DISCUSSED = "discussed"
    DECIDED = "decided"
    DONE = "done"


class Principles(BaseModel):
    """What the rights follow from, in the team's own words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    assign: Sentence
    propose: Sentence
    claim: Sentence


Principle = Literal["assign", "propose", "claim"]

# Of each right: the principle that a refusal names, and what it lets one do.
MEANING: Mapping[Right, tuple[Principle, str]] = {
    Right.DESIGNATE: ("assign", "hand a task to another agent by name, or to a role"),
    Right.OFFER: ("assign", "put up a task for whoever claims it first, or propose one"),
    Right.RUN: ("assign", "hand a task to a node, have one index a folder, or set when conversations are summarised"),
    Right.CLAIM: ("claim", "take tasks, and claim files and other resources"),
    Right.VOTE: ("propose", "take part in votes"),
    Right.APPROVE: ("propose", "decide on tasks that await approval"),
    Right.APPROVE_OWN: ("propose", "decide on a task that one asked for oneself"),
    Right.MOVE: ("assign", "move a conversation on to another phase"),
    Right.CANCEL: ("assign", "end a task that somebody else delegated"),
}


class RoleRules(BaseModel):
    """What agents of one role may do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: Sentence
    may: frozenset[Right]
    proposes: frozenset[Work] = frozenset()
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @field_validator("may")
    @classmethod
    def _own_is_more(cls, may: frozenset[Right]) -> frozenset[Right]:
        if Right.APPROVE_OWN in may and Right.APPROVE not in may:
            raise ValueError("approve beside approve_own")
        return may


Vouching = Literal["attested", "signed"]


class Demands(BaseModel):
    """Who must vouch for what agents state: the front door, which knew the token, or a key of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Vouching = "attested"
    completion: Vouching = "attested"
    vote: Vouching = "attested"


def _is_resource(name: str) -> str:
    # What the names may be, is known in a room above; the hook says what it does not know.
    if not re.match(RESOURCE_PATTERN, name) or name.startswith("task:"):
        raise ValueError("a resource, such as file:src/main.py, or a folder with all below it, such as file:src/**")
    return name


class ClaimRules(BaseModel):
    """What the team wants claimed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    required: tuple[Annotated[str, AfterValidator(_is_resource)], ...] = ()


class PhaseRules(BaseModel):
    """What is different while a conversation is in a phase, and what must be so before it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enter: frozenset[Condition] = frozenset()
    rests: frozenset[Right] = frozenset()
    holds: frozenset[Work] = frozenset()

    @field_validator("rests")
    @classmethod
    def _there_is_a_way_out(cls, rests: frozenset[Right]) -> frozenset[Right]:
        if Right.MOVE in rests:
            raise ValueError("rights without move, or nobody could end the phase")
        return rests


class ConversationRules(BaseModel):
    """How many the team wants in one conversation; 0: any number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_most: Annotated[int, Field(ge=0)] = 3


class Charter(BaseModel):
    """The rules of the team."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    principles: Principles
    demands: Demands = Demands()
    claims: ClaimRules = ClaimRules()
    conversations: ConversationRules = ConversationRules()
    phases: dict[Phase, PhaseRules] = Field(default_factory=dict)
    roles: dict[RoleName, RoleRules]

    @model_validator(mode="after")
    def _built_in_are_there(self) -> Self:
        if missing := [role for role in BUILT_IN if role not in self.roles]:
            raise ValueError("a table for each of " + ", ".join(f"[roles.{role}]" for role in missing))
        return self

    def may(self, role: str, right: Right) -> bool:
        """Say whether agents of a role have a right; those of a role that the charter no longer has, have none."""
        return role in self.roles and right in self.roles[role].may

    def who_may(self, right: Right) -> list[str]:
        """Return the roles that have a right, in the order of the file."""
        return [role for role, rules in self.roles.items() if right in rules.may]

    def model(self, role: str) -> str | None:
        """Return the model that agents of a role ask when they name none, None for any."""
        return self.roles[role].model if role in self.roles else None

    def proposes(self, role: str, work: str) -> bool:
        """Say whether agents of a role begin this kind of work only from an accepted proposal."""
        return role in self.roles and work in self.roles[role].proposes

    def phase(self, name: Phase) -> PhaseRules:
        """Return what a phase asks for and changes; one without a table in the file, nothing."""
        return self.phases.get(name, PhaseRules())

    def principle(self, name: Principle) -> str:
        """Return a principle as a refusal begins with it."""
        sentence: str = getattr(self.principles, name)
        return sentence.rstrip(".:") + ":"


def path() -> Path:
    """Return the file: the one that is set, else the one that ships with the program."""
    return settings().charter or next((file for file in _SHIPPED if file.is_file()), _SHIPPED[0])


def read(file: Path) -> tuple[Charter, str]:
    """Return what a file says, and its text. Raises SettingsError with the file, the key, what it got and what it wants."""
    try:
        text = file.read_text("utf-8")
        return Charter.model_validate(tomllib.loads(text)), text
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: is not TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable('charter')}: got {file}, wants the file of a charter that can be read ({error})") from error
    except ValidationError as error:
        raise SettingsError("\n".join(f"{file}: {_told(problem)}" for problem in error.errors(include_url=False))) from error


_TABLES: Mapping[str, type[BaseModel]] = {
    "principles": Principles,
    "demands": Demands,
    "claims": ClaimRules,
    "conversations": ConversationRules,
    "phases": PhaseRules,
}
_WANTS = {
    "tuple_type": 'a list, such as ["file:src/**"]',
    "frozen_set_type": 'a list, such as ["claim"]',
    "string_pattern_mismatch": "a name of small letters, digits, - and _, that begins with a letter",
    "string_too_short": "a sentence",
}


def _told(problem: ErrorDetails) -> str:
    *above, last = [str(part) for part in problem["loc"] if part != "[key]"] or ["roles"]
    key = ".".join([*above, last])
    if problem["type"] == "extra_forbidden":
        known = _TABLES.get(above[0], RoleRules) if above else Charter
        return f"{key}: {NotFound('key', last, known.model_fields)}"
    if problem["type"] == "missing":
        return f"{key}: got nothing, wants a value"
    # What fails as a whole is not repeated as a whole.
    got = ", ".join(map(str, problem["input"])) if isinstance(problem["input"], dict) else repr(problem["input"])
    wants = _WANTS.get(problem["type"]) or problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{key}: got {got}, wants {wants}"


@cache
def _loaded() -> tuple[Charter, str]:
    return read(path())


def charter() -> Charter:
    """Return the charter of this process, read at the first call. Raises SettingsError."""
    return _loaded()[0]


def charter_text() -> str:
    """Return the file as it was read. Raises SettingsError."""
    return _loaded()[1]


def forget() -> None:
    """Read the file anew at the next call."""
    _loaded.cache_clear()
