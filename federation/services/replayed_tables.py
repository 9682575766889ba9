"""What `replay` reads of the tables, to compare it with what the events make of them."""

# What is compared: for each table, keys and columns as JSON. Moments are compared as whether there is one.
STORED = {
    "agents": "SELECT name, jsonb_build_object('role', role, 'created_by', created_by) FROM agents",
    "agent_tokens": "SELECT agent, jsonb_build_object('issued', count(*), 'revoked', count(revoked_at)) FROM agent_tokens GROUP BY agent",
    "conversations": "SELECT id, jsonb_build_object('created_by', created_by) FROM conversations",
    "conversation_members": "SELECT conversation_id || ' ' || agent, jsonb_build_object('added_by', added_by) FROM conversation_members",
    "messages": """
        SELECT id::text, jsonb_build_object('conversation_id', conversation_id, 'position', position, 'sender', sender, 'to', recipient,
            'audience', audience, 'message_type', message_type, 'reply_to', reply_to, 'correlation_id', correlation_id,
            'content_sha256', encode(sha256(convert_to(content, 'UTF8')), 'hex'),
            'data_sha256', encode(sha256(convert_to(data::text, 'UTF8')), 'hex')) FROM messages
    """,
    "message_receipts": "SELECT agent, jsonb_build_object('received', count(*), 'read', count(read_at)) FROM message_receipts GROUP BY agent",
    "cop_states": """
        SELECT kind || ' ' || subject, CASE kind WHEN 'node' THEN jsonb_build_object('action', action) ELSE jsonb_build_object(
            'summary', summary, 'action', action, 'thinking', thinking, 'wondering', wondering, 'offering', offering, 'visibility', visibility,
            'said_sha256', encode(sha256(convert_to(concat(
                'summary=' || length(summary) || ':' || summary || ';', 'thinking=' || length(thinking) || ':' || thinking || ';',
                'wondering=' || length(wondering) || ':' || wondering || ';', 'offering=' || length(offering) || ':' || offering || ';'
            ), 'UTF8')), 'hex')) END FROM cop_states
    """,
    # Of each agent the last, which is what the picture shows; what was kept before that is told by events of the same transactions.
    "cop_history": """
        SELECT DISTINCT ON (subject) 'agent ' || subject, jsonb_build_object('action', action, 'visibility', visibility,
            'said_sha256', encode(sha256(convert_to(concat(
                'summary=' || length(summary) || ':' || summary || ';', 'thinking=' || length(thinking) || ':' || thinking || ';',
                'wondering=' || length(wondering) || ':' || wondering || ';', 'offering=' || length(offering) || ':' || offering || ';'
            ), 'UTF8')), 'hex')) FROM cop_history WHERE kind = 'agent' ORDER BY subject, sequence DESC
    """,
    "agent_capabilities": """
        SELECT agent, jsonb_build_object('capabilities', jsonb_agg(capability ORDER BY capability COLLATE "C")) FROM agent_capabilities GROUP BY agent
    """,
    "feeds": "SELECT destination, jsonb_build_object('agent', agent, 'expires_s', expires_s, 'created_by', created_by) FROM feeds",
    "nodes": """
        SELECT name, jsonb_build_object('role', role, 'tags', tags, 'engines', engines, 'models', models, 'gpus', gpus, 'missing', missing,
            'concurrency', concurrency, 'hostname', hostname, 'pid', pid, 'incarnation', incarnation, 'simulated', simulated,
            'left', left_at IS NOT NULL, 'lost', lost_at IS NOT NULL) FROM nodes
    """,
    "agent_tasks": """
        SELECT id::text, jsonb_build_object('conversation_id', conversation_id, 'slug', slug, 'description', description, 'type', task_type,
            'parameters', parameters, 'priority', priority, 'executor', executor, 'requirements', requirements, 'reserved_for', reserved_for,
            'created_by', created_by, 'status', status, 'assigned_to', assigned_to, 'result', result, 'scheduled', start_at IS NOT NULL,
            'requires_approval', requires_approval, 'decided_by', decided_by, 'decision_reason', decision_reason, 'parent_id', parent_id,
            'capability', capability, 'look_up', look_up, 'timeout_s', timeout_s, 'handed_to', handed_to,
            'escalated', escalated_at IS NOT NULL, 'session_id', session_id) FROM agent_tasks
    """,
    "role_assignments": """
        SELECT id::text, jsonb_build_object('conversation_id', conversation_id, 'agent', agent, 'role', role, 'task_id', task_id,
            'created_by', created_by) FROM role_assignments
    """,
    "conversation_phases": """
        SELECT conversation_id || ' ' || number, jsonb_build_object('phase', phase, 'reason', reason, 'created_by', created_by)
        FROM conversation_phases
    """,
    "claims": """
        SELECT resource, jsonb_build_object('holder', holder, 'fencing_token', fencing_token, 'released', released_at IS NOT NULL) FROM claims
    """,
    "claim_waiters": "SELECT resource || ' ' || holder, jsonb_build_object('place', place) FROM claim_waiters",
    "executions": """
        SELECT id::text, jsonb_build_object('task_name', task_name, 'requirements', requirements, 'affinity', affinity, 'priority', priority,
            'agent_task_id', agent_task_id, 'conversation_id', conversation_id, 'actor', actor, 'node', node,
            'cancelled', cancelled_at IS NOT NULL, 'scheduled', due_at IS NOT NULL,
            'kwargs_sha256', encode(sha256(convert_to(kwargs::text, 'UTF8')), 'hex')) FROM executions
    """,
    "outbox": "SELECT execution_id::text, jsonb_build_object() FROM outbox",
    "signers": """
        SELECT identity, jsonb_build_object('name', name, 'public_key', public_key, 'created_by', created_by, 'revoked', revoked_at IS NOT NULL)
        FROM signers
    """,
    "services": "SELECT name || ' ' || signer, jsonb_build_object('role', role, 'created_by', created_by) FROM services",
    "agent_keys": """
        SELECT identity, jsonb_build_object('agent', agent, 'public_key', public_key, 'created_by', created_by, 'revoked', revoked_at IS NOT NULL)
        FROM agent_keys
    """,
    "statements": """
        SELECT digest, jsonb_build_object('subject', subject, 'actor', actor, 'mode', mode, 'statement', statement, 'action', action,
            'choice', choice, 'attested_by', attested_by, 'key', key, 'nonce', nonce,
            'signature', replace(encode(signature, 'base64'), E'\\n', '')) FROM statements
    """,
    "consensus": """
        SELECT id::text, jsonb_build_object('conversation_id', conversation_id, 'slug', slug, 'revision', revision, 'proposal', proposal,
            'options_hash', options_hash, 'shown', shown, 'task_id', task_id, 'state', state, 'outcome', outcome, 'created_by', created_by,
            'applied', applied_at IS NOT NULL) FROM consensus
    """,
    "consensus_acks": "SELECT consensus_id || ' ' || revision || ' ' || actor, jsonb_build_object('options_hash', options_hash) FROM consensus_acks",
    "ballots": """
        SELECT consensus_id || ' ' || revision || ' ' || actor, jsonb_build_object('response', response, 'choice', choice,
            'confidence', confidence, 'reason', reason, 'digest', digest) FROM ballots
    """,
    "agent_sessions": """
        SELECT id::text, jsonb_build_object('conversation_id', conversation_id, 'slug', slug, 'context', context, 'voters', voters,
            'expertise', expertise, 'status', status, 'outcome', outcome, 'created_by', created_by) FROM agent_sessions
    """,
    "agent_session_members": "SELECT session_id || ' ' || actor, jsonb_build_object('focus', focus) FROM agent_session_members",
    "agent_findings": """
        SELECT id::text, jsonb_build_object('session_id', session_id, 'position', position, 'agent_id', agent_id, 'category', finding_type,
            'content', content, 'confidence', confidence, 'evidence', evidence, 'hypothesis_id', hypothesis_id, 'validates', validates)
        FROM agent_findings
    """,
    "execution_deliveries": """
        SELECT execution_id || ' ' || number, jsonb_build_object('task_name', task_name, 'worker', worker, 'pid', pid, 'repeated', redelivered,
            'actor', actor) FROM execution_deliveries
    """,
    "execution_effects": "SELECT execution_id || ' ' || key, jsonb_build_object('value', value, 'actor', actor) FROM execution_effects",
    "quarantine": """
        SELECT id::text, jsonb_build_object('task_name', task_name, 'execution_id', execution_id, 'queue', queue, 'worker', worker,
            'reason', reason, 'headers_sha256', encode(sha256(convert_to(headers::text, 'UTF8')), 'hex'),
            'body_sha256', encode(sha256(body), 'hex'), 'actor', actor) FROM quarantine
    """,
    "redrives": "SELECT quarantine_id::text, jsonb_build_object('execution_id', execution_id, 'actor', actor) FROM redrives",
    "dismissals": "SELECT quarantine_id::text, jsonb_build_object('reason', reason, 'actor', actor) FROM dismissals",
    "artifacts": """
        SELECT id::text, jsonb_build_object('conversation_id', conversation_id, 'name', name, 'version', version, 'kind', kind,
            'media_type', media_type, 'size', size, 'sha256', sha256, 'task_id', task_id, 'created_by', created_by) FROM artifacts
    """,
    "summaries": """
        SELECT conversation_id || ' ' || level || ' ' || from_position, jsonb_build_object('level', level, 'from_position', from_position,
            'to_position', to_position, 'method', method, 'model', model, 'model_digest', model_digest,
            'text_sha256', encode(sha256(convert_to(text, 'UTF8')), 'hex'),
            'rejected_sha256', encode(sha256(convert_to(rejected, 'UTF8')), 'hex'), 'created_by', created_by) FROM summaries
    """,
    "summary_schedules": """
        SELECT conversation_id, jsonb_build_object('cron', cron, 'messages', messages, 'created_by', created_by) FROM summary_schedules
    """,
    "model_runs": """
        SELECT execution_id::text, jsonb_build_object('engine', engine, 'model', model, 'model_digest', model_digest, 'node', node,
            'prompt_sha256', prompt_sha256, 'prompt_tokens', prompt_tokens, 'completion_tokens', completion_tokens,
            'cached', cached, 'actor', actor) FROM model_runs
    """,
    "cached_answers": """
        SELECT execution_id::text, jsonb_build_object('key', key, 'conversation_id', conversation_id, 'engine', engine, 'model', model,
            'model_digest', model_digest, 'created_by', created_by) FROM cached_answers
    """,
    # What it says nobody but its readers may know: its digest is of text and salt.
    "memories": """
        SELECT id::text, jsonb_build_object('visibility', visibility, 'audience', audience, 'digest', digest, 'created_by', created_by,
            'embedded', vector_at IS NOT NULL) FROM memories
    """,
    # A folder is told by its digest where it is not indexed for all.
    "indexed_folders": """
        SELECT concat_ws(' ', visibility, audience, encode(sha256(convert_to(root, 'UTF8')), 'hex')),
            jsonb_build_object('visibility', visibility, 'audience', audience, 'created_by', created_by) FROM indexed_folders
    """,
    "index_runs": """
        SELECT id::text, jsonb_build_object('root', root, 'root_sha256', encode(sha256(convert_to(root, 'UTF8')), 'hex'), 'files', files,
            'changed', changed_files, 'deleted', deleted_files, 'chunks', chunks, 'batches', batches,
            'searchable', searchable_at IS NOT NULL, 'finished', finished_at IS NOT NULL, 'created_by', created_by) FROM index_runs
    """,
}
# What no event tells row by row: the log says how much of it there is, and the tables are made anew from the files, or from what was said.
LEFT_OUT = {"documents", "chunks", "vector_changes", "index_batches", "graph_relations"}
# Of the tables that are compared: who wrote a row last and when, which are the event's own columns; and what was derived, counted or noted beside it.
IN_THE_EVENT = {
    "trace_id",
    "updated_by",
    "updated_at",
    "created_at",
    "announced_at",
    "joined_at",
    "acquired_at",
    "delivered_at",
    "sent_at",
    "ended_at",
}
COLUMNS_LEFT_OUT = {
    # A token's hash is in no event; its name for people and its end neither.
    "agent_tokens": {"id", "token_sha256", "label", "created_by", "expires_at"},
    # Counted from messages, for beat.
    "conversations": {"unsummarised"},
    # The receipts of each agent are counted.
    "message_receipts": {"position", "message_id"},
    # Signs of life, and what a node is doing.
    "cop_states": {"data", "changed_in"},
    "cop_history": {"data", "at"},
    # All of an agent's stand in one event of its own.
    "agent_capabilities": {"created_by"},
    # How far it was copied.
    "feeds": {"position"},
    "nodes": {"last_seen_at", "load"},
    # Moments that follow from others.
    "agent_tasks": {"completed_at", "waiting_since", "expires_at"},
    # That of the event.
    "agent_sessions": {"completed_at"},
    "claims": {"description", "expires_at"},
    "claim_waiters": {"present_until", "since"},
    # Moments: the one stands in the proposal, the other is that of the event.
    "consensus": {"deadline", "closed_at"},
    # Copied from Celery's result when that is removed.
    "executions": {"outcome"},
    # How often it was tried, and in vain for what.
    "outbox": {"waiting_for", "attempts", "tried_at"},
    "execution_deliveries": {"retries", "returns", "signature", "message_id"},
    "summaries": {"id", "message_ids"},
    # What a model was given and said: the log may be read by more than who asked.
    "model_runs": {"parameters", "completion", "finish_reason", "seconds", "first_part_s", "route"},
    # As of the run, and when it was given last.
    "cached_answers": {"prompt", "vector", "completion", "used_at"},
    # What the digest is of, which only its readers can compare; a memory that differs from it is shown to nobody.
    "memories": {"content", "about", "message_id", "salt", "words", "summary_id"},
    "indexed_folders": {"id"},
    # An id; the event tells the index by folder and audience.
    "index_runs": {"skipped", "folder_id"},
}
# Types of events that change no column that is compared.
WITHOUT_A_ROW = {
    *("execution.parked", "execution.failed", "execution.outcomes_noted", "execution.outcomes_kept"),
    *("index.worded", "index.batched", "index.embedded", "index.written"),
    # How far messages and findings were read, from which the graph can be made anew; that nobody tries any more to embed a memory.
    *("graph.extracted", "memory.given_up", "memory.summarised"),
    # Its digests stand in a file of the machine; what a part says is shown to who asked.
    *("model.added", "model.part"),
    # What lets a node in stands at PostgreSQL and ActiveMQ themselves.
    "node.admitted",
    # What they tell stands in a finding's event, or in those of the task.
    *("hypothesis.proposed", "hypothesis.validated", "action.proposed", "action.completed"),
}
