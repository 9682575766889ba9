"""What the charter lets the caller do; refuses the rest with the principle, with who may, and with what to do instead.

It binds agents. The operator at the command line and the services of the program (their names have a colon, which those of agents
have not) act in their own right. Where a conversation is in a phase, rights may rest and kinds of work be held there, for agents of all roles.
"""

from sqlalchemy.orm import Session

from federation.charter import MEANING, Principle, Right, charter
from federation.errors import Refused
from federation.services import agents, phases
from federation.store.context import context


def is_agent(name: str) -> bool:
    """Say whether this is the name of an agent, and not that of an operator or of a service of the program."""
    return ":" not in name


def may(session: Session, name: str, right: Right) -> bool:
    """Say whether somebody has a right. Raises NotFound for an agent who does not exist."""
    return not is_agent(name) or charter().may(agents.role_of(session, name), right)


def require(session: Session, right: Right, *, instead: str, where: str | None = None) -> None:
    """Pass if the caller has a right, and it does not rest in the conversation that it is about. Raises Refused."""
    actor = context(session).actor
    principle, meaning = MEANING[right]
    if not may(session, actor, right):
        raise refused(principle, f"{_one_of(session, actor)} may not {meaning}; {_those(right)} may: {instead}")
    if where is not None and is_agent(actor) and (phase := phases.resting(session, right, where)) is not None:
        raise refused(principle, f"{where} is in its phase {phase}, in which nobody may {meaning}; {_moves()}")


def require_begun(session: Session, work: str, where: str, *, instead: str) -> None:
    """Pass if this kind of work may begin in a conversation now, as far as its phase goes. Raises Refused."""
    if is_agent(context(session).actor) and (phase := phases.holding(session, work, where)) is not None:
        raise refused("propose", f"{where} is in its phase {phase}, in which work of the kind {work} is not begun: {instead} {_moves()}")


# What one who may not delegate so can do instead.
ASK = "ask one of them with federation_send."
_OTHERWISE = {
    Right.DESIGNATE: "leave out agent and role, so that the first who claims it does it, or propose it with requires_approval=true.",
    Right.OFFER: ASK,
    Right.RUN: ASK,
}


def require_delegation(session: Session, right: Right, work: str, *, where: str, requires_approval: bool) -> None:
    """Pass if the caller may delegate work of this kind so; to propose it takes no more than the right to offer. Raises Refused."""
    if requires_approval and right is Right.DESIGNATE:
        right = Right.OFFER
    # Who may not hand out anything may propose nothing either.
    instead = _OTHERWISE[right] if may(session, context(session).actor, Right.OFFER) else ASK
    require(session, right, instead=instead, where=where)
    if requires_approval:
        return
    if must_propose(session, work):
        refuse_unproposed(session, work, instead="call again with requires_approval=true.")
    require_begun(session, work, where, instead="propose it with requires_approval=true.")


def must_propose(session: Session, work: str) -> bool:
    """Say whether the caller begins this kind of work only from an accepted proposal."""
    actor = context(session).actor
    return is_agent(actor) and charter().proposes(agents.role_of(session, actor), work)


def refuse_unproposed(session: Session, work: str, *, instead: str) -> None:
    """Raise Refused for work that the caller begins only from an accepted proposal."""
    raise refused("propose", f"{_one_of(session, context(session).actor)} begins work of the kind {work} from an accepted proposal only: {instead}")


def refused(principle: Principle, remedy: str) -> Refused:
    """Return a refusal that names a principle of the charter."""
    return Refused(charter().principle(principle), remedy)


def _one_of(session: Session, actor: str) -> str:
    role = agents.role_of(session, actor)
    return f"{actor}, of the role {role}," + ("" if role in charter().roles else " which is not in the charter any more,")


def _moves() -> str:
    return f"federation_phase says what it takes to go on, and {_those(Right.MOVE)} may move it."


def _those(right: Right) -> str:
    return " or ".join(charter().who_may(right)) or "no role"
