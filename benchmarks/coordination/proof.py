"""What the database says of a long run: positions without gaps, one holder at a time, each task done once; asks as the superuser, writes nothing."""

from typing import Any

import psycopg

# Each tells in words what is wrong; nothing where all is well.
_QUERIES = (
    """
    SELECT 'conversation ' || conversation_id || ' has ' || count(*) || ' messages up to ' || max(position) FROM messages
    GROUP BY conversation_id HAVING min(position) <> 1 OR max(position) <> count(*) OR count(DISTINCT position) <> count(*)
    """,
    """
    SELECT 'the inbox of ' || agent || ' has ' || count(*) || ' messages up to ' || max(position) FROM message_receipts
    GROUP BY agent HAVING min(position) <> 1 OR max(position) <> count(*) OR count(DISTINCT message_id) <> count(*)
    """,
    """
    SELECT 'stream ' || stream || ' has ' || count(*) || ' events up to ' || max(position) FROM events
    GROUP BY stream HAVING min(position) <> 1 OR max(position) <> count(*) OR count(DISTINCT position) <> count(*)
    """,
    # Won again before it was given back, or with a token that has not grown.
    """
    SELECT stream || ' was won twice: ' || actor || ' at ' || position FROM (
        SELECT stream, position, actor, type, payload, lag(type) OVER line AS former_type,
            max((payload->>'fencing_token')::bigint) OVER (line ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS most
        FROM events WHERE stream LIKE 'claim:%' AND type IN ('claim.acquired', 'claim.released', 'claim.lapsed')
        WINDOW line AS (PARTITION BY stream ORDER BY position)
    ) AS told
    WHERE type = 'claim.acquired' AND NOT (payload->>'renewed')::boolean
        AND (former_type = 'claim.acquired' OR (payload->>'fencing_token')::bigint <= most)
    """,
    "SELECT 'task ' || id || ' is ' || status FROM agent_tasks WHERE status <> 'completed'",
    """
    SELECT stream || ' was completed ' || count(*) || ' times' FROM events WHERE type = 'task.completed' GROUP BY stream HAVING count(*) <> 1
    """,
    """
    SELECT 'vote ' || id || ' is ' || state || ' with ' || (SELECT count(*) FROM ballots WHERE consensus_id = id) || ' ballots' FROM consensus
    WHERE state <> 'decided' OR (SELECT count(*) FROM ballots WHERE consensus_id = id) <> jsonb_array_length(proposal->'electorate')
    """,
)


def flaws(connection: psycopg.Connection[Any]) -> list[str]:
    """Say what is wrong."""
    return [str(row[0]) for query in _QUERIES for row in connection.execute(query)]
