"""Which columns an agent changes of rows that stand, by table; the migrations grant these and no others."""

# Which columns `federation_app` changes of a row that stands; of no other table any. Whoever adds one says here why it is not fixed.
CHANGES = {
    "agent_session_members": {"focus"},
    "agent_sessions": {"context", "status", "outcome", "completed_at", "updated_by"},
    "agent_tasks": {
        *("status", "assigned_to", "handed_to", "result", "completed_at", "updated_by"),
        *("decided_by", "decision_reason", "waiting_since", "expires_at", "escalated_at"),
    },
    "allowances": {"used_until"},
    "cached_answers": {"used_at", "updated_by"},
    "chunks": {"start_line", "end_line", "vector_at", "updated_by"},
    "claim_waiters": {"present_until", "updated_by"},
    "claims": {"holder", "fencing_token", "description", "acquired_at", "expires_at", "released_at", "updated_by"},
    "consensus": {"revision", "proposal", "options_hash", "updated_by"},
    "conversations": {"unsummarised", "updated_by"},
    "cop_states": {"summary", "action", "thinking", "wondering", "offering", "data", "visibility", "changed_in", "updated_at", "updated_by"},
    "documents": {"sha256", "size", "run_id", "words_at", "updated_by"},
    "executions": {"cancelled_at", "updated_by"},
    "index_batches": {"node", "finished_at", "updated_by"},
    "index_runs": {"deleted_files", "chunks", "batches", "searchable_at", "finished_at", "updated_by"},
    "memories": {"vector_at", "summary_id", "updated_by"},
    "message_receipts": {"read_at", "updated_by"},
    "summary_schedules": {"cron", "messages", "updated_at", "updated_by"},
    "vector_changes": {"run_id", "model", "vector", "updated_by"},
}
