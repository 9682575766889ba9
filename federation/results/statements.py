"""The SQL of the result backend, one statement a verb; sends nothing itself.

Which state wins: SUCCESS and REVOKED stay for ever, the first one written; FAILURE gives way to a later end (a redelivery
that succeeded) and to nothing else; every other state gives way to any.
"""

from dataclasses import dataclass

from psycopg import sql

from federation.results import tables

# What an execution stores, beside its id; `date_done` and `expires_at` are reckoned by the clock of the database.
_STORED = ("state", "result", "traceback", "children", "details", "group_id", "group_index", "date_done", "expires_at")

_INSERT = """
insert into {results} as r (task_id, state, result, traceback, children, details, group_id, group_index, date_done, expires_at, joined)
values (%(task_id)s, %(state)s, %(result)s, %(traceback)s, %(children)s, %(details)s, %(group_id)s, %(group_index)s,
        case when %(ready)s then now() end, now() + make_interval(secs => %(expires_s)s), {joined})
on conflict (task_id) do update set updated_at = now(), {assignments}
"""

_MAY_REPLACE = """(r.expires_at <= now() or case r.state
    when 'SUCCESS' then false
    when 'REVOKED' then false
    when 'FAILURE' then excluded.state in ('SUCCESS', 'REVOKED', 'FAILURE')
    else true end)"""

# The part and its count commit together: a worker that dies between them would leave a chord that waits for ever. A part counts
# once, however often it is delivered; the one that completes the header owns the dispatch of the body, also when delivered again.
_COUNT = """
with part as ({store} where not r.joined returning 1)
insert into {chords} as c (group_id, counted, expires_at)
select %(group_id)s, count(*), now() + make_interval(secs => %(chord_expires_s)s) from part
on conflict (group_id) do update set counted = c.counted + excluded.counted, updated_at = now(),
    dispatcher = case when c.dispatcher is null and c.counted + excluded.counted >= c.size + c.added then %(task_id)s else c.dispatcher end
returning case when dispatcher = %(task_id)s then counted else 0 end
"""

_JOIN = ", group_id = excluded.group_id, group_index = excluded.group_index, joined = true"
_ROW = "select task_id, state, result, traceback, children, details, group_id, date_done from {results}"
# The values of a header as one text, where all is as it should be: a thousand rows to decode one by one take longer than to store them.
_HEADER = """
select (select result from {groups} where group_id = %(group_id)s and (expires_at is null or expires_at > now())), count(*),
    case when bool_and(state = 'SUCCESS')
        then '[' || string_agg(coalesce(result, 'null'), ',' order by group_index nulls last, date_done) || ']' end
from {results} where group_id = %(group_id)s and joined
"""
_EXPIRING = """insert into {table} as t (group_id, {column}, expires_at)
values (%(group_id)s, %(value)s, now() + make_interval(secs => %(expires_s)s))
on conflict (group_id) do update set {change}, updated_at = now(), expires_at = excluded.expires_at"""
_CLEAN = "delete from {table} where ctid = any(array(select ctid from {table} where expires_at <= now() limit {batch}))"

CLEANUP_BATCH = 5_000


@dataclass(frozen=True)
class Statements:
    """Statements as bytes, ready to be sent."""

    store: bytes
    tell: bytes
    count: bytes
    notify: bytes
    read: bytes
    header: bytes
    parts: bytes
    forget: bytes
    save_group: bytes
    restore_group: bytes
    delete_group: bytes
    set_chord_size: bytes
    add_to_chord: bytes
    finish_chord: bytes
    cleanup: tuple[bytes, ...]


def statements(schema: str | None = None) -> Statements:
    """Return the statements for the tables in this schema, or for those on the search path."""
    results, groups, chords = (
        sql.Identifier(*([schema] if schema else []), table.name)
        for table in (tables.celery_results, tables.celery_group_results, tables.celery_chords)
    )
    plain = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column)) for column in _STORED)
    # A part may find a state that stays (revoked, or stored by an earlier delivery) and must be counted all the same.
    guarded = sql.SQL(", ").join(
        sql.SQL("{0} = case when " + _MAY_REPLACE + " then excluded.{0} else r.{0} end").format(sql.Identifier(column))
        for column in _STORED
        if not column.startswith("group_")
    )
    store = sql.SQL(_INSERT + "where " + _MAY_REPLACE).format(results=results, joined=sql.SQL("false"), assignments=plain)
    part = sql.SQL(_INSERT).format(results=results, joined=sql.SQL("true"), assignments=guarded + sql.SQL(_JOIN))
    return Statements(
        store=store.as_bytes(),
        # A state that is no end is worth no wait for the disk; the setting ends with the statement's own transaction.
        tell=(store + sql.SQL(" returning set_config('synchronous_commit', 'off', true)")).as_bytes(),
        count=sql.SQL(_COUNT).format(store=part, chords=chords).as_bytes(),
        notify=b"select pg_notify($1, $2)",
        read=sql.SQL(_ROW + " where task_id = any(%s) and (expires_at is null or expires_at > now())").format(results=results).as_bytes(),
        header=sql.SQL(_HEADER).format(results=results, groups=groups).as_bytes(),
        parts=sql.SQL(_ROW + " where group_id = %s and joined order by group_index nulls last, date_done").format(results=results).as_bytes(),
        forget=sql.SQL("delete from {} where task_id = %s").format(results).as_bytes(),
        save_group=_upsert(groups, "result", "result = excluded.result"),
        restore_group=sql.SQL("select result from {} where group_id = %s and (expires_at is null or expires_at > now())").format(groups).as_bytes(),
        delete_group=sql.SQL("delete from {} where group_id = %s").format(groups).as_bytes(),
        set_chord_size=_upsert(chords, "size", "size = excluded.size"),
        add_to_chord=_upsert(chords, "added", "added = t.added + excluded.added"),
        finish_chord=sql.SQL("delete from {} where group_id = %s").format(chords).as_bytes(),
        cleanup=tuple(sql.SQL(_CLEAN).format(table=table, batch=sql.Literal(CLEANUP_BATCH)).as_bytes() for table in (results, groups, chords)),
    )


def _upsert(table: sql.Identifier, column: str, change: str) -> bytes:
    return sql.SQL(_EXPIRING).format(table=table, column=sql.Identifier(column), change=sql.SQL(change)).as_bytes()
