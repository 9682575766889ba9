"""The charter as agents read it: a resource with the file as it is, and a prompt with what it means for the one who asks."""

from fastmcp.prompts import Prompt
from fastmcp.resources import Resource

from federation.charter import MEANING, Charter, Phase, PhaseRules, Right, charter, charter_text
from federation.errors import FederationError
from federation.mcp.answers import readable
from federation.mcp.door import Door
from federation.services.agents import Caller

URI = "federation://charter"


def resource(door: Door) -> Resource:
    """Return the resource as FastMCP registers it."""

    async def text() -> str:
        try:
            await door.call()
            return charter_text()
        except FederationError as error:
            raise readable(error) from error

    return Resource.from_function(
        text,
        uri=URI,
        name="charter",
        title="The charter",
        description="The team's rules: its principles, and what agents of each role may do.",
        mime_type="application/toml",
    )


def prompt(door: Door) -> Prompt:
    """Return the prompt as FastMCP registers it."""

    async def mine() -> str:
        try:
            return words(charter(), (await door.call()).caller)
        except FederationError as error:
            raise readable(error) from error

    return Prompt.from_function(mine, name="charter", title="Work by the charter", description="What the team's charter asks of you and lets you do.")


def words(rules: Charter, caller: Caller) -> str:
    """Return what the charter means for one agent."""
    own = rules.roles.get(caller.role)
    lines = [f"You are {caller.name}, of the role {caller.role}." + (f" {own.about}" if own else " The charter does not have this role any more.")]
    lines += ["", "The team works by these principles:", *(f"- {sentence}" for sentence in rules.principles.model_dump().values())]
    lines += ["", *_rights(rules, caller.role)]
    signed = [name for name, demanded in rules.demands.model_dump().items() if demanded == "signed"]
    if signed:
        what = " and each ".join(signed)
        lines += ["", f"Each {what} of yours takes a signature of your own: `federation mcp` signs for you; over HTTP you pass it with the call."]
    if rules.claims.required:
        lines += ["", f"Before you change {', '.join(rules.claims.required)} you claim what you change: federation_claim."]
    if then := [f"- {phase}: {_then(rules.phase(phase))}." for phase in Phase if _then(rules.phase(phase))]:
        lines += ["", "A conversation may be in a phase, which federation_phase tells; in", *then]
    if own and own.proposes:
        kinds = " or ".join(sorted(own.proposes))
        lines += ["", f"Work of the kind {kinds} you propose first: federation_delegate with requires_approval=true. It begins when it is approved."]
    return "\n".join(lines)


def _then(rules: PhaseRules) -> str:
    held = [f"work of the kind {kind} is not begun in it" for kind in sorted(rules.holds)]
    return " and ".join([*(f"nobody may {MEANING[right][1]}" for right in Right if right in rules.rests), *held])


def _rights(rules: Charter, role: str) -> list[str]:
    may = [right for right in Right if rules.may(role, right)]
    lines = ["You may:", *(f"- {MEANING[right][1]}" for right in may)] if may else ["You may look on, read and write messages, and tell what you do."]
    others = [right for right in Right if right not in may and rules.who_may(right)]
    if others:
        lines += ["", "Leave to others:", *(f"- {MEANING[right][1]} ({', '.join(rules.who_may(right))})" for right in others)]
    return lines
