"""Verifies an exported vote with nothing but the document: hash, signatures, electorate, tally, and that it ended when it might; reads no store."""

import base64
import binascii
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from federation.consensus.ballots import BadBallot, Ballot, Outcome, Rules
from federation.consensus.proposal import BadProposal, rules
from federation.consensus.tally import heard, ordered, spoken, tally
from federation.security.signing import PublicKey, parse_public
from federation.security.statements import NotAStatement, Statement, canonical, content_sha256, parse

TYPE = "federation.consensus/1"
ASK, VOTE = "consensus.request", "consensus.vote"
_SIGNED = {"statement", "signature"}
_PARTS = {
    "acknowledgements": {"agent", "options_hash", "at"},
    "ballots": {"voter", "response", "confidence", "reason", "cast_at"} | _SIGNED,
    "contraries": {"voter", "at"} | _SIGNED,
    "keys": {"identity", "owner", "public_key", "revoked_at"},
}
_OF_ITSELF = {"type", "consensus_id", "slug", "proposal", "options_hash", "opened_at", "closed_at", "state", "outcome", "request"}


class NotADecision(ValueError):
    """A document is no exported vote; says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """Whose key stands under a ballot: the voter's, or that of the part that attests it."""

    voter: str
    choice: str
    key: str
    attested_by: str | None


@dataclass(slots=True)
class Verdict:
    """What was found: who vouches for each ballot, who contradicted himself, what the ballots come to, and what is wrong."""

    question: str
    state: str
    winner: str | None
    votes: Mapping[str, float]
    vouched: list[Vouched] = field(default_factory=list)
    equivocations: list[str] = field(default_factory=list)
    flaws: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Key:
    owner: str
    public: PublicKey
    revoked_at: datetime | None


def verify(document: Any, *, pinned: Mapping[str, PublicKey] | None = None) -> Verdict:
    """Look at all of a document; `pinned` are keys by owner that one knows by another way. Raises NotADecision for what is no such document."""
    try:
        return _Verifier(document, pinned or {}).verdict()
    except NotADecision:
        raise
    except BadProposal as error:
        raise NotADecision(f"its proposal could not be voted on: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise NotADecision(f"it is not of the form {TYPE}: {error!r}"[:300]) from error


class _Verifier:
    """Goes through one document."""

    def __init__(self, document: Any, pinned: Mapping[str, PublicKey]) -> None:
        if document["type"] != TYPE:
            raise NotADecision(f"its type is {document['type']!r}, and not {TYPE}")
        self._document, self._proposal, self._pinned = document, document["proposal"], pinned
        self._rules: Rules = rules(self._proposal)
        self._subject = f"consensus:{document['consensus_id']}:{self._proposal['revision']}"
        self._keys = {
            one["identity"]: _Key(one["owner"], parse_public(one["public_key"].encode()), _moment(one["revoked_at"])) for one in document["keys"]
        }
        outcome = document["outcome"] or {}
        self._verdict = Verdict(self._proposal["question"], document["state"], outcome.get("winner"), outcome.get("votes", {}))

    def verdict(self) -> Verdict:
        """Return what was found."""
        flaws = self._verdict.flaws
        flaws += self._of_form()
        flaws += self._of_proposal()
        ballots: list[Ballot] = []
        for one in self._document["ballots"]:
            flaws += (f"ballot of {one['voter']}: {flaw}" for flaw in self._of_ballot(one, ballots))
        for one in self._document["contraries"]:
            flaws += (f"contrary of {one['voter']}: {flaw}" for flaw in self._of_contrary(one, ballots))
        flaws += self._of_outcome(tally(self._rules, ballots))
        return self._verdict

    def _of_form(self) -> Iterator[str]:
        """Yield what no export has: nothing vouches for it, and a reader could believe it."""
        document = self._document
        yield from _unknown("the document", document, _OF_ITSELF | _PARTS.keys())
        yield from _unknown("the proposal's statement", document["request"] or {}, _SIGNED)
        for name, known in _PARTS.items():
            for number, one in enumerate(document[name], 1):
                yield from _unknown(f"number {number} of its {name}", one, known)

    def _of_proposal(self) -> Iterator[str]:
        document, proposal = self._document, self._proposal
        if proposal["consensus_id"] != document["consensus_id"]:
            yield "the proposal is that of another vote"
        if content_sha256(proposal) != document["options_hash"]:
            yield "the proposal is not what was acknowledged: its hash is another"
        if document["request"] is None:
            yield "nobody vouches for the proposal"
            return
        hashed = document["options_hash"]
        expected = {"actor": proposal["asked_by"], "action": ASK, "choice": hashed, "subject": self._subject, "content_sha256": hashed}
        said = self._said(document["request"], expected, at=None)
        if isinstance(said, str):
            yield f"the proposal: {said}"

    def _of_ballot(self, one: Any, ballots: list[Ballot]) -> Iterator[str]:
        voter = one["voter"]
        if voter not in self._rules.weights:
            yield "it is by nobody of the electorate"
            return
        if any(ballot.voter == voter for ballot in ballots):
            yield "there are two of this voter"
        try:
            choice = ordered(self._rules, one["response"])
        except BadBallot as error:
            yield f"it cannot be counted: it wants {error}"
            return
        if list(choice) != one["response"]:
            yield "its response is not as it was signed"
        ballots.append(Ballot(voter, choice, one["confidence"]))
        acknowledged = [ack for ack in self._document["acknowledgements"] if ack["agent"] == voter]
        if not any(ack["options_hash"] == self._document["options_hash"] for ack in acknowledged):
            yield "its voter has not acknowledged the proposal"
        if not _moment(self._document["opened_at"]) <= _moment(one["cast_at"]) <= self._last_moment():
            yield "it was not cast while the vote was open"
        if one["statement"] is None:
            yield "nobody vouches for it"
            return
        content = {name: one[name] for name in ("response", "confidence", "reason")} | {"options_hash": self._document["options_hash"]}
        word = spoken(self._rules, choice)
        expected = {
            "actor": voter,
            "action": VOTE,
            "choice": word,
            "subject": f"{self._subject}:{voter}",
            "content_sha256": content_sha256(content),
        }
        said = self._said(one, expected, at=_moment(one["cast_at"]))
        if isinstance(said, str):
            yield said
            return
        if self._proposal["signed"] and said.attested_by is not None:
            yield "it is attested, and the vote demands a signature"
        self._verdict.vouched.append(Vouched(voter, word, said.key, said.attested_by))

    def _last_moment(self) -> datetime:
        """Return when the last ballot may have been cast."""
        ends: tuple[datetime, datetime] = (_moment(self._document["closed_at"]), _moment(self._proposal["deadline"]))
        return min(ends)

    def _of_contrary(self, one: Any, ballots: list[Ballot]) -> Iterator[str]:
        voter = one["voter"]
        said = self._said(one, {"actor": voter, "action": VOTE, "subject": f"{self._subject}:{voter}", "attested_by": None}, at=_moment(one["at"]))
        if isinstance(said, str):
            yield said
            return
        choice = heard(self._rules, said.choice)
        if any(ballot.voter == voter and ballot.choice != choice for ballot in ballots):
            self._verdict.equivocations.append(voter)
        # What was signed after the end, or too late, is evidence, and changes nothing.
        if _moment(one["at"]) <= self._last_moment():
            ballots.append(Ballot(voter, choice))

    def _said(self, one: Any, expected: Mapping[str, Any], *, at: datetime | None) -> Statement | str:
        """Return a statement that says this under a signature that holds, or what is wrong with it."""
        try:
            said = parse(one["statement"])
            signature = base64.b64decode(one["signature"], validate=True)
        except (NotAStatement, binascii.Error) as error:
            return f"its statement is none: {error}"
        for name, value in expected.items():
            if getattr(said, name) != value:
                return f"its statement has {name} {getattr(said, name)!r}, and not {value!r}"
        flaw = self._flaw_of_key(said, at)
        if flaw is None and not self._keys[said.key].public.signed(one["statement"].encode(), signature):
            flaw = f"its signature is not that of key {said.key[:16]}"
        return flaw or said

    def _flaw_of_key(self, said: Statement, at: datetime | None) -> str | None:
        key, owner, named = self._keys.get(said.key), said.attested_by or said.actor, f"key {said.key[:16]}"
        # Agents have no colon in their names, and attest for nobody.
        by_an_agent = said.attested_by is not None and ":" not in said.attested_by
        if key is None or key.owner != owner or key.public.identity != said.key or by_an_agent:
            return f"{named} is not {owner}'s"
        if owner in self._pinned and self._pinned[owner].identity != said.key:
            return f"{named} is not the one that you know as {owner}'s"
        if at is not None and key.revoked_at is not None and key.revoked_at <= at:
            return f"{named} was revoked before"
        return None

    def _of_outcome(self, found: Outcome) -> Iterator[str]:
        document = self._document
        if document["state"] == "withdrawn":
            if found_more := sorted((document["outcome"] or {}).keys() - {"withdrawn_by", "reason"}):
                yield f"it is told to be withdrawn, and to have {', '.join(found_more)}"
            return
        if document["state"] != ("undecided" if found.winner is None else "decided"):
            yield f"it is told to be {document['state']}, and the ballots make {found.winner!r} of it"
        counted = found.as_json()
        yield from _unknown("the outcome", document["outcome"] or {}, counted.keys())
        for name, value in counted.items():
            told = (document["outcome"] or {}).get(name)
            if canonical(told) != canonical(value):
                yield f"{name} is told as {told!r}, and the ballots make it {value!r}"
        in_time = _moment(document["closed_at"]) >= _moment(self._proposal["deadline"])
        if not (in_time or not found.outstanding or (self._proposal["early"] and found.fixed)):
            yield "it ended before its deadline, while what was outstanding could have changed it"


def _unknown(where: str, told: Mapping[str, Any], known: Set[str]) -> Iterator[str]:
    for name in sorted(told.keys() - known):
        yield f"{where} has {name!r}, which no export has"


def _moment(told: Any) -> Any:
    """Return a moment, None for null. Raises ValueError for one without a zone."""
    if told is None:
        return None
    moment = datetime.fromisoformat(told)
    if moment.tzinfo is None:
        raise ValueError(f"{told!r} has no zone")
    return moment
