"""What one process has signed through a front door, and what its agent said to have read; tells what would contradict it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from federation.mcp.signing import Wanted
from federation.security.statements import Draft, content_sha256
from federation.stub import checks

ACKNOWLEDGE = "federation_consensus_acknowledge"
_BALLOT = "federation_consensus_respond"


@dataclass
class Kept:
    """The choice of each thing that was signed, and the hash of each vote that was acknowledged."""

    _choices: dict[tuple[str, str], str] = field(default_factory=dict)
    _read: dict[tuple[str, str], str] = field(default_factory=dict)

    def signed(self, draft: Draft) -> None:
        """Keep what was signed."""
        self._choices[draft.action, draft.subject] = draft.choice

    def read(self, arguments: Mapping[str, Any], *, known: Any = None) -> None:
        """Keep what the agent has read of a vote; `known` is the UUID that the front door tells of the name."""
        digest = arguments.get("options_hash")
        if isinstance(digest, str):
            self._read[_place(arguments)] = digest
            if isinstance(known, str):
                self._read[known, ""] = digest

    def flaw(self, tool: str, arguments: Mapping[str, Any], wanted: Wanted, made: Sequence[Draft]) -> str | None:
        """Return what a call is asked to sign beside what was signed of it (`made`) and in other calls; None if it may be signed.

        One call states one thing: what it is about, and what is said of it, does not change while it is made. Only which task it takes may.
        """
        if made and not checks.takes_any(tool, arguments) and not _is_same(wanted, made[0]):
            changed = "it was changed meanwhile, or the front door lies; look at it, and call again"
            first = f"{made[0].action} of {made[0].subject}, sha256 {made[0].content_sha256}, was signed"
            return f"{wanted.action} of {wanted.subject}, sha256 {content_sha256(wanted.content)}, and of this call {first}: {changed}"
        former = self._choices.get((wanted.action, wanted.subject), wanted.choice)
        if former != wanted.choice:
            own = "one's own contrary would count against both; the front door lies, or start this program anew and call again if it is meant so"
            return f"{wanted.choice!r} of {wanted.subject}, of which it has signed {former!r} before: {own}"
        if tool == _BALLOT:
            told = wanted.content["options_hash"]
            known = (wanted.proposal or {}).get("consensus_id")
            said = self._read.get(_place(arguments)) or self._read.get((str(known), ""), told)
            if said != told:
                return (
                    f"a ballot on what has options_hash {told}, and {said} was acknowledged: look at the vote again, and acknowledge what it is now"
                )
        return None


def _is_same(wanted: Wanted, made: Draft) -> bool:
    said = (wanted.action, wanted.choice, wanted.subject, content_sha256(wanted.content))
    return said == (made.action, made.choice, made.subject, made.content_sha256)


def _place(arguments: Mapping[str, Any]) -> tuple[str, str]:
    """Return which vote a call is about: its UUID, or its name and where it stands."""
    reference = str(arguments.get("consensus_id"))
    if (known := checks.uuid_of(reference)) is not None:
        return str(known), ""
    return reference, str(arguments.get("conversation_id") or "")
