"""Tools to say what one is doing and to see what everybody is doing, or was."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Annotated

from pydantic import Field
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.mcp.door import Call
from federation.mcp.tools.arguments import LONGEST_LINE, NUMBER, Moment, name, text
from federation.services import approvals, cop, cop_pages, matches, past
from federation.services.approvals import Awaiting
from federation.services.capabilities import MOST as MOST_CAPABILITIES
from federation.services.cop import PulseRow
from federation.services.cop_pages import Page
from federation.services.matches import Match
from federation.store.models.cop import Action, Visibility


class Form(StrEnum):
    """How the pulse is told."""

    ROWS = "rows"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class StateUpdated:
    """Whose state was recorded, and when."""

    agent: Annotated[str, Field(description="Your own name.")]
    updated_at: datetime
    matches: Annotated[Sequence[Match], Field(description="Who offers what you wonder about, and who wonders about what you offer.")]


@dataclass(frozen=True, slots=True)
class Pulse:
    """What everybody is doing, or with `after` what has changed."""

    rows: Annotated[Sequence[PulseRow], Field(description="Nodes first, then agents, each in order of name; none where a table was asked for.")]
    table: Annotated[str | None, Field(description="The same as a table in Markdown, where that was asked for.")]
    matches: Annotated[Sequence[Match], Field(description="Who could help whom, by the words that a question and an offer share.")]
    awaiting_approval: Annotated[
        Sequence[Awaiting],
        Field(description="Tasks of your conversations that await approval, the oldest first; decide with federation_approve. With `after`: none."),
    ]
    cursor: Annotated[str | None, Field(description="Pass it as `after`: goes on at once if there is more, else with what changes. Null: no more.")]
    more: Annotated[bool, Field(description="There are more rows.")]


async def federation_update_state(
    call: Call,
    summary: Annotated[str, text("What you are doing, in one line.", longest=LONGEST_LINE, examples=["Refactoring the auth module"])],
    *,
    action: Annotated[Action, Field(description="EXECUTING (you work), WAITING (for somebody or something) or IDLE (free).")] = Action.EXECUTING,
    thinking: Annotated[str | None, text("What you weigh up.", longest=LONGEST_LINE, examples=["OAuth2 or JWT"])] = None,
    wondering: Annotated[
        str | None, text("A question that somebody else may be able to answer.", longest=LONGEST_LINE, examples=["Do we need refresh tokens?"])
    ] = None,
    offering: Annotated[str | None, text("What you could do for others.", longest=LONGEST_LINE, examples=["Crypto review"])] = None,
    visibility: Annotated[
        Visibility,
        Field(
            description="Who sees this: all; members (of conversations, beside commons, that you opened or spoke in); role (agents of your role); "
            "nobody. The others see of you nothing but your capabilities."
        ),
    ] = Visibility.ALL,
    capabilities: Annotated[
        list[Annotated[str, name("A name.")]] | None,
        Field(
            max_length=MOST_CAPABILITIES,
            description="All that you can do for who asks any who can, by name; everybody sees it. Omitted: as before.",
            examples=[["analyze_logs", "query_metrics"]],
        ),
    ] = None,
) -> StateUpdated:
    """Tell all others what you are doing, thinking, wondering and offering, without sending anyone a message.

    It replaces your whole former state, also what you leave out now and who sees it (but not your capabilities), and is what others see in
    federation_pulse. Update it when you begin, when you get stuck and when you finish. It answers with whom you could ask, or help.
    """
    config = call.settings

    def work(session: Session) -> StateUpdated:
        at = cop.update_state(
            session,
            summary,
            action=action,
            thinking=thinking,
            wondering=wondering,
            offering=offering,
            visibility=visibility,
            able=capabilities,
        )
        if wondering is None and offering is None:
            return StateUpdated(call.caller.name, at, [])
        rows = cop.pulse(session, node_stale_s=config.node_stale_s, agent_stale_s=config.agent_stale_s)
        return StateUpdated(call.caller.name, at, matches.found(session, rows, of=[call.caller.name]))

    return await call.transact(work)


async def federation_pulse(
    call: Call,
    *,
    form: Annotated[Form, Field(description="rows: all that is known. table: agent, status and what each says, in few words.")] = Form.ROWS,
    at: Annotated[Moment | None, Field(description="What everybody was doing then, instead of now.", examples=["2030-01-31T14:05:00+01:00"])] = None,
    after: Annotated[
        str | None,
        Field(max_length=40_000, pattern=cop_pages.CURSOR, description="The cursor of your former call: only what changed since, or the next rows."),
    ] = None,
    wait_s: Annotated[
        float,
        Field(
            ge=0, le=600, description="With `after`: seconds to wait for an agent's new state, or a node that comes, goes, begins or ceases to work."
        ),
        NUMBER,
    ] = 0,
    limit: Annotated[int, Field(ge=1, le=500, description="At most so many rows."), NUMBER] = 100,
) -> Pulse:
    """See what every agent and every node is doing now, or was at a moment, how old that word is, what each node has (role, GPUs, engines, models,
    tags, queue), what agents can do, who could help whom, and which tasks await approval by whom.

    `stale` means that nothing was heard for too long: a stale node gets no work, a stale agent may be gone. Look here before you start or
    delegate work: the names of agents are what `to` and `agent` of other tools want, those of nodes, models, engines and tags what
    federation_delegate and federation_infer want. A node is a machine that runs models; an agent is somebody like you.
    """
    node_stale_s, agent_stale_s = call.settings.node_stale_s, call.settings.agent_stale_s
    pulse = partial(cop.pulse, node_stale_s=node_stale_s, agent_stale_s=agent_stale_s)
    page_of = partial(cop_pages.page, after=after, limit=limit, node_stale_s=node_stale_s, agent_stale_s=agent_stale_s)
    if at is not None and wait_s > 0:
        raise InvalidInput("at", at.isoformat(), "no `wait_s` beside it: the past does not change")
    if wait_s > 0 and after is None:
        raise InvalidInput("wait_s", wait_s, "the cursor of an earlier call as `after`, since which something is to change")

    def told(session: Session, page: Page) -> Pulse:
        if after is None:
            everybody = pulse(session) if page.more else page.rows
            return _told(page, form, matched=matches.found(session, everybody), waiting=approvals.waiting(session))
        asking = [row.name for row in page.rows if row.wondering or row.offering or row.capabilities]
        if not asking or cop_pages.is_between_pages(after):
            return _told(page, form)
        return _told(page, form, matched=matches.found(session, pulse(session), of=asking))

    def look(session: Session) -> Pulse:
        if at is not None:
            return _told(cop_pages.page_at(session, at, after, limit=limit, agent_stale_s=agent_stale_s), form)
        return told(session, page_of(session))

    def look_for_news(session: Session) -> Pulse | None:
        page = page_of(session)
        return told(session, page) if page.rows else None

    if wait_s > 0:
        news = await call.until(look_for_news, wait_s=wait_s, notices=[past.PULSE], waiting="waiting for a change")
        if news is not None:
            return news
    return await call.transact(look)


def _told(page: Page, form: Form, *, matched: Sequence[Match] = (), waiting: Sequence[Awaiting] = ()) -> Pulse:
    rows, table = ((), cop.table(page.rows)) if form is Form.TABLE else (page.rows, None)
    return Pulse(rows, table, matched, waiting, page.cursor, page.more)
