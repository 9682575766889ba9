"""Findings: posted into a session for all who take part, numbered, never changed; a query that somebody ran is known to the others.

A hypothesis is a finding that others confirm or refute by a conclusion, once, and never its author.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Text, cast, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.errors import Conflict, InvalidInput, NotFound, TransientError
from federation.services import agents, charter, claims, envelopes, inboxes, limits, sessions
from federation.services.names import valid_slug
from federation.services.resources import Resource
from federation.store import event_log
from federation.store.context import context, notify
from federation.store.fixed_ids import fixed_id
from federation.store.models.claims import Claim
from federation.store.models.sessions import AgentFinding, AgentSession, Category

# A kind of resource: who claims it runs the query, and the others wait for what comes of it.
QUERY = "query"
# What a finding has in an answer beside its content and evidence: ids, names, times.
_ENVELOPE_BYTES = 500
# What a query said may be longer than who posts it again wants to read.
_LONGEST_RESULT = 2_000


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A query of this finding that somebody had run before in the session, and what came of it then."""

    source: str
    query: str
    finding_id: uuid.UUID
    agent: str
    result: Annotated[Any, Field(description="Null: none, or a long one: read the finding.")]


@dataclass(frozen=True, slots=True)
class Posted:
    """A finding that all who take part may read."""

    session: AgentSession
    finding: AgentFinding
    duplicates: Sequence[Duplicate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What somebody found out; with `validates` it confirms or refutes the hypothesis."""

    content: str
    category: str
    confidence: float | None = None
    evidence: Sequence[Mapping[str, Any]] = ()
    hypothesis_id: uuid.UUID | None = None
    validates: bool | None = None


def post(
    session: Session, reference: str, said: Said, *, slug: str | None = None, completes: bool = False, conversation_id: str | None = None
) -> Posted:
    """Post a finding of the caller's into a session that he has joined; with `completes` it is a conclusion, and the session's outcome.

    Posted again under the same slug it is the finding that is there. Claims of the caller on the queries that it tells of are given back, so that
    who waits for one reads what came of it. Raises NotFound, Refused, Conflict for a session that is completed and for a hypothesis that was
    confirmed or refuted already, InvalidInput that names the field, RateLimited.
    """
    evidence = _valid(said, completes=completes)
    found = sessions.find(session, reference, conversation_id=conversation_id)
    if completes:
        sessions.require_may_complete(session, found)
    identity = uuid.uuid4() if slug is None else _identity(found, context(session).actor, valid_slug("finding_id", slug))
    former = session.get(AgentFinding, identity) if slug is not None else None
    if former is not None:
        return Posted(found, _same(former, said, evidence, slug or ""), ())
    # The turns of claims before that of the session, and before a row is locked.
    _give_back_queries(session, found, evidence)
    sessions.enter(session, found, alone=completes)
    about = _hypothesis(session, found, said)
    limits.message(session)
    finding = _record(session, found, said, evidence, identity)
    if finding is None:
        raise _decided(session, found, identity, about)
    duplicates = _duplicates(session, finding)
    if completes:
        outcome = {"finding_id": str(finding.id), "conclusion": said.content, "confidence": said.confidence}
        found = sessions.complete(session, found, outcome)
    return Posted(found, finding, duplicates)


def _valid(said: Said, *, completes: bool) -> list[dict[str, Any]]:
    """Return the evidence as JSON has it. Raises InvalidInput."""
    agents.require(said.content, "content")
    form = {"category": said.category, "evidence": list(said.evidence)} | ({} if said.confidence is None else {"confidence": said.confidence})
    checked = envelopes.checked(envelopes.Finding, form)
    if said.category == Category.HYPOTHESIS:
        if said.confidence is None:
            raise InvalidInput("confidence", None, "how sure you are of the hypothesis, 0 to 1")
        if said.hypothesis_id is not None:
            raise InvalidInput(
                "hypothesis_id", str(said.hypothesis_id), "nothing, where you propose one; an observation or a conclusion is about one"
            )
    if said.validates is not None:
        if said.hypothesis_id is None:
            raise InvalidInput("hypothesis_id", None, "the hypothesis that it confirms or refutes")
        if said.category != Category.CONCLUSION:
            raise InvalidInput("category", said.category, "conclusion, which alone confirms or refutes a hypothesis")
        if not checked.evidence:
            raise InvalidInput("evidence", [], "what it rests on: nothing is confirmed or refuted without evidence")
    if completes and said.category != Category.CONCLUSION:
        raise InvalidInput("category", said.category, "conclusion, where it completes the session")
    found = [one.model_dump(mode="json", exclude_unset=True) for one in checked.evidence]
    # So that blanks around it make no other query.
    return [{**one, **{name: one[name].strip() for name in ("source", "query") if one.get(name)}} for one in found]


def _hypothesis(session: Session, found: AgentSession, said: Said) -> AgentFinding | None:
    """Return the hypothesis that a finding is about. Raises NotFound, Refused for the caller's own that he would validate himself."""
    if said.hypothesis_id is None:
        return None
    about = _known(session, found, said.hypothesis_id)
    if said.validates is not None and about.agent_id == context(session).actor:
        raise charter.refused("propose", f"hypothesis {about.id} is your own: another confirms or refutes it.")
    return about


def _known(session: Session, found: AgentSession, hypothesis_id: uuid.UUID) -> AgentFinding:
    about = session.get(AgentFinding, hypothesis_id)
    if about is None or about.session_id != found.id or about.finding_type != Category.HYPOTHESIS:
        query = select(AgentFinding.id).where(AgentFinding.session_id == found.id, AgentFinding.finding_type == Category.HYPOTHESIS)
        raise NotFound("hypothesis", str(hypothesis_id), map(str, session.scalars(query)))
    return about


def _record(session: Session, found: AgentSession, said: Said, evidence: list[dict[str, Any]], identity: uuid.UUID) -> AgentFinding | None:
    """Write a finding and its events; None where somebody else has just confirmed or refuted its hypothesis."""
    actor = context(session).actor
    content = {"text": said.content}
    payload = {
        "finding_id": identity,
        "session_id": found.id,
        "agent_id": actor,
        "category": said.category,
        "content": content,
        "confidence": said.confidence,
        "evidence": evidence,
        "hypothesis_id": said.hypothesis_id,
        "validates": said.validates,
    }
    # The stream's lock is held until the commit, so nobody sees a later position before an earlier one.
    position = event_log.advance(session, f"session:{found.id}")
    event_log.append(session, "finding.reported", f"session:{found.id}", payload=payload, position=position, **sessions.belonging(found))
    row: dict[str, Any] = {
        "id": identity,
        "session_id": found.id,
        "position": position,
        "agent_id": actor,
        "finding_type": said.category,
        "content": content,
        "confidence": said.confidence,
        "evidence": evidence,
        "hypothesis_id": said.hypothesis_id,
        "validates": said.validates,
        "trace_id": context(session).trace_id,
    }
    finding = session.scalars(insert(AgentFinding).values(**row).on_conflict_do_nothing().returning(AgentFinding)).one_or_none()
    if finding is None:
        return None
    if said.category == Category.HYPOTHESIS:
        _tell_proposed(session, found, finding, said)
    if said.validates is not None:
        _tell_validated(session, found, finding, said)
    notify(session, [sessions.key(found.id)])
    return finding


def _tell_proposed(session: Session, found: AgentSession, finding: AgentFinding, said: Said) -> None:
    payload = {
        "hypothesis_id": finding.id,
        "agent_id": finding.agent_id,
        "description": said.content,
        "confidence": said.confidence,
    }
    event_log.append(session, "hypothesis.proposed", f"session:{found.id}", payload=payload, **sessions.belonging(found))


def _tell_validated(session: Session, found: AgentSession, finding: AgentFinding, said: Said) -> None:
    payload = {
        "hypothesis_id": said.hypothesis_id,
        "validated_by": finding.agent_id,
        "result": said.validates,
        "evidence": {"finding_id": finding.id, "items": finding.evidence},
    }
    event_log.append(session, "hypothesis.validated", f"session:{found.id}", payload=payload, **sessions.belonging(found))


def _identity(found: AgentSession, actor: str, slug: str) -> uuid.UUID:
    # As JSON, because names may contain whatever would separate them.
    return fixed_id("finding", json.dumps([str(found.id), actor, slug]))


def _same(former: AgentFinding, said: Said, evidence: list[dict[str, Any]], slug: str) -> AgentFinding:
    """Return what was posted under this slug. Raises Conflict if it was something else."""
    told = {
        "content": {"text": said.content},
        "finding_type": said.category,
        "confidence": said.confidence,
        "evidence": evidence,
        "hypothesis_id": said.hypothesis_id,
        "validates": said.validates,
    }
    others = [name for name, value in told.items() if getattr(former, name) != value]
    if others:
        raise Conflict(
            f"you posted another finding as {slug!r} ({', '.join(others)} differ); choose another finding_id, or repeat the call as it was"
        )
    return former


def _decided(session: Session, found: AgentSession, identity: uuid.UUID, about: AgentFinding | None) -> Conflict | TransientError:
    """Return why a finding could not be posted."""
    if about is not None:
        query = select(AgentFinding).where(AgentFinding.hypothesis_id == about.id, AgentFinding.validates.is_not(None))
        if (by := session.scalars(query).one_or_none()) is not None:
            how = "confirmed" if by.validates else "refuted"
            return Conflict(f"hypothesis {about.id} was {how} by {by.agent_id} already; leave out validates, or propose another hypothesis")
    if session.get(AgentFinding, identity) is None:
        return event_log.occupied(f"at the next position of session {found.slug or found.id}")
    return TransientError("another call of yours posts this finding; call again")


def resource(found: AgentSession, source: str, query: str) -> Resource:
    """Return the resource to claim before one runs a query, so that of several who want to, one does.

    Everybody sees its name, which tells nothing of a session to who does not know its id.
    """
    digest = hashlib.sha256(json.dumps([str(found.id), *_stripped(source, query)]).encode()).hexdigest()
    return Resource(f"{QUERY}:{digest[:32]}")


def _stripped(source: str, query: str) -> tuple[str, str]:
    return source.strip(), query.strip()


def _give_back_queries(session: Session, found: AgentSession, evidence: Sequence[Mapping[str, Any]]) -> None:
    named = {resource(found, one["source"], one["query"]).name for one in evidence if one.get("query") is not None}
    mine = (Claim.holder == context(session).actor) & Claim.released_at.is_(None)
    held = session.scalars(select(Claim.resource).where(Claim.resource.in_(named), mine)) if named else ()
    # In one order, so that nobody waits in a circle.
    for name in sorted(held):
        claims.release(session, Resource(name))


def _duplicates(session: Session, finding: AgentFinding) -> list[Duplicate]:
    """Return which queries of a finding others told of before, each as it was told of first."""
    found: dict[tuple[str, str], Duplicate] = {}
    asked = {_query(one) for one in finding.evidence if one.get("query") is not None}
    if not asked:
        return []
    before = (AgentFinding.session_id == finding.session_id) & (AgentFinding.position < finding.position)
    for former in session.scalars(select(AgentFinding).where(before, _tells_of(asked)).order_by(AgentFinding.position)):
        for one in former.evidence:
            if (key := _query(one)) in asked and key not in found:
                result = one.get("result")
                found[key] = Duplicate(*key, former.id, former.agent_id, result if len(json.dumps(result)) <= _LONGEST_RESULT else None)
    return list(found.values())


def _query(evidence: Mapping[str, Any]) -> tuple[str, str]:
    return evidence["source"], evidence.get("query") or ""


def _tells_of(queries: Iterable[tuple[str, str]]) -> Any:
    """Return the condition that one of these queries is among a finding's evidence."""
    return or_(*(AgentFinding.evidence.contains([{"source": source, "query": query}]) for source, query in sorted(queries)))


def page(
    session: Session,
    found: AgentSession,
    *,
    after: int = 0,
    category: str | None = None,
    hypothesis_id: uuid.UUID | None = None,
    query: tuple[str, str] | None = None,
    limit: int = 50,
) -> tuple[list[AgentFinding], bool]:
    """Return the next findings of a session behind a position, as many as an answer holds, and whether there are more.

    Those about a hypothesis come with it; `query` is a source and what it is asked. Raises NotFound for an unknown one, InvalidInput.
    """
    if category not in {None, *Category}:
        raise InvalidInput("category", category, "one of " + ", ".join(Category))
    size = func.octet_length(cast(AgentFinding.content, Text)) + func.octet_length(cast(AgentFinding.evidence, Text)) + _ENVELOPE_BYTES
    listed = select(AgentFinding.id, size).where(AgentFinding.session_id == found.id, AgentFinding.position > after)
    if category is not None:
        listed = listed.where(AgentFinding.finding_type == category)
    if hypothesis_id is not None:
        _known(session, found, hypothesis_id)
        listed = listed.where(or_(AgentFinding.hypothesis_id == hypothesis_id, AgentFinding.id == hypothesis_id))
    if query is not None:
        listed = listed.where(_tells_of([_stripped(*query)]))
    rows = session.execute(listed.order_by(AgentFinding.position).limit(limit + 1)).all()
    fitting: list[uuid.UUID] = []
    total = 0
    for identity, bytes_ in rows[:limit]:
        total += bytes_
        if fitting and total > inboxes.LARGEST_INBOX_BYTES:
            break
        fitting.append(identity)
    shown = select(AgentFinding).where(AgentFinding.id.in_(fitting)).order_by(AgentFinding.position)
    return list(session.scalars(shown)), len(rows) > len(fitting)
