"""Steps 7 and 8: the common operating picture, messages, an inbox that waits, and what beat does by itself."""

import asyncio
import time

from rich.table import Table

from federation.cli.console import console
from federation.cli.demo.stage import ADA, BOB, CONVERSATION, EVE, Stage, check, heading, said, say, short

TALK = (
    (ADA, "We must choose how agents prove who they are. The auth module still uses session cookies, and the auditors want bearer tokens."),
    (BOB, "OAuth2 gives us an issuer, refresh tokens and libraries that are maintained."),
    (EVE, "JWT alone is simpler, but a stolen token stays valid until it expires."),
    (BOB, "Short lifetimes and rotation make a stolen token worthless within minutes."),
    (EVE, "The latency budget is 50 ms at the front door, and checking a signature costs less than one."),
    (ADA, "Who has seen the memory profile of the auth module?"),
    (BOB, "The profile shows no leak and a peak of 48 MiB."),
    (EVE, "Then memory is no argument against OAuth2."),
    (ADA, "Let us take OAuth2 with short tokens, and write the decision down."),
    (BOB, "I claim the token endpoint and start tomorrow."),
    (EVE, "I will measure the front door before and after the change."),
    (ADA, "Good. We meet again when both are done."),
)


async def pulse(stage: Stage) -> None:
    """Show what everybody is doing."""
    heading(7, "Show what everybody is doing, send messages, read an inbox that waits")
    await stage.call(
        ADA,
        "federation_update_state",
        summary="Refactoring auth module",
        action="EXECUTING",
        thinking="Considering OAuth2 vs JWT tradeoffs",
        wondering="Should we support refresh tokens?",
        offering="Can help with crypto review when done",
    )
    rows = (await stage.call(BOB, "federation_pulse"))["rows"]
    table = Table("", "name", "role", "status", "age", "summary", "thinking", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        status = f"[yellow]{row['status']} (stale)[/]" if row["stale"] else row["status"]
        table.add_row(
            row["kind"], row["name"], row["role"], status, f"{row['age_s']:.0f} s", short(row["summary"], 30), short(row["thinking"] or "", 34)
        )
    console.print(table)
    stored = stage.one("select thinking from cop_states where kind = 'agent' and subject = %s", ADA)
    check(stored == next(row["thinking"] for row in rows if row["name"] == ADA), f"{BOB} reads what {ADA} thinks, as the database has it")
    alive = {row["name"] for row in rows if row["kind"] == "node" and not row["stale"]}
    check(alive >= {"taichi", "aorus", "baby"}, "three nodes are alive")


async def talk(stage: Stage) -> None:
    """Send messages; the whitepaper's audit query reads them back as the auditor."""
    # What is said from here on fills a window of its own.
    stage.summarised_to = stage.one("select coalesce(max(to_position), 0) from summaries where conversation_id = %s", CONVERSATION)
    inbox = await stage.call(EVE, "federation_inbox")
    while inbox["more"]:
        inbox = await stage.call(EVE, "federation_inbox", after=inbox["cursor"])
    waiting = asyncio.create_task(stage.call(EVE, "federation_inbox", after=inbox["cursor"], wait_s=30))
    await asyncio.sleep(0.5)
    check(not waiting.done(), f"the inbox of {EVE} is empty, and her call waits", quiet=True)
    started = time.monotonic()
    sent = await stage.call(ADA, "federation_send", content="Please review auth-module.py for security issues", to=EVE, message_type="task")
    inbox = await waiting
    while not (received := [message for message in inbox["messages"] if message["message_id"] == sent["message_id"]]):
        # Somebody else said something to all in between.
        check(bool(inbox["messages"]), "the inbox woke with a message")
        inbox = await stage.call(EVE, "federation_inbox", after=inbox["cursor"], wait_s=30)
    said(
        EVE,
        "federation_inbox(wait_s=30)",
        f"«{received[0]['content']}» from {received[0]['sender']}, {(time.monotonic() - started) * 1000:.0f} ms after it was sent",
    )
    check(len(received) == 1, "the inbox woke with the message, which came once")
    for sender, text in TALK:
        to = {"conversation_id": CONVERSATION}
        await stage.call(sender, "federation_send", content=text, **to)
    said("all", "federation_send", f"{len(TALK)} messages in {CONVERSATION}")
    audited = stage.sql(
        """
        SELECT sender, recipient, content, created_at
        FROM messages
        WHERE conversation_id = 'project-123'
        ORDER BY created_at;
        """
    )
    check(
        [(row.sender, row.content) for row in audited[-len(TALK) :]] == list(TALK),
        f"the whitepaper's audit query, as the auditor: {len(audited)} messages in order",
    )
    gaps = stage.one("select count(*) - max(position) from messages where conversation_id = %s", CONVERSATION)
    check(gaps == 0, "the conversation's sequence has no gap")


async def beat(stage: Stage) -> None:
    """Beat's heartbeats refresh the picture, and it has the conversation summarised."""
    heading(8, "Beat refreshes the common operating picture and summarises the conversation")
    query = "select subject, updated_at from cop_states where kind = 'node' order by subject"
    before = {row.subject: row.updated_at for row in stage.sql(query)}

    def refreshed() -> bool:
        now = {row.subject: row.updated_at for row in stage.sql(query)}
        return all(now.get(name, before.get(name)) != before.get(name) for name in ("taichi", "aorus", "baby"))

    await stage.until("a heartbeat of each node", refreshed, within_s=30)
    check(True, "federation.tasks.cop.heartbeat ran on taichi, aorus and baby")
    made = await stage.until(
        "a summary by beat",
        lambda: stage.sql(
            """
            select created_by, from_position, to_position from summaries
            where conversation_id = %s and from_position = %s and created_by like 'service:%%'
            """,
            CONVERSATION,
            stage.summarised_to + 1,
        ),
        within_s=60,
    )
    check(
        made[-1].created_by.startswith("service:beat"),
        f"{made[-1].created_by} had messages {made[-1].from_position} to {made[-1].to_position} summarised",
    )
    twice = stage.one(
        "select count(*) from (select from_position from summaries where conversation_id = %s group by 1 having count(*) > 1) doubled", CONVERSATION
    )
    check(twice == 0, "each window has one summary")
    summaries = (await stage.call(ADA, "federation_summarize", conversation_id=CONVERSATION, wait_s=30))["summaries"]
    said(ADA, "federation_summarize", f"{len(summaries)} summaries; one of them:")
    for line in next(each for each in summaries if each["to_position"] == made[-1].to_position)["text"].splitlines():
        say(f"  [italic]{short(line, 110)}[/]")
