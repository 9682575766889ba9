"""The tables of the coordination patterns are ours, name by name; types may be stricter."""

import re
from typing import Any

import psycopg
import pytest

# Letter by letter.
SHOWN = """
CREATE TABLE agent_sessions (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  created_at TIMESTAMP DEFAULT NOW(),
  context JSONB NOT NULL,
  status VARCHAR(50) DEFAULT 'active'
);

CREATE TABLE agent_findings (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  session_id UUID REFERENCES agent_sessions(id),
  agent_id VARCHAR(100) NOT NULL,
  finding_type VARCHAR(50) NOT NULL,
  content JSONB NOT NULL,
  confidence FLOAT,
  created_at TIMESTAMP DEFAULT NOW()
);

CREATE TABLE agent_tasks (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  session_id UUID REFERENCES agent_sessions(id),
  assigned_to VARCHAR(100),
  task_type VARCHAR(50) NOT NULL,
  parameters JSONB,
  status VARCHAR(50) DEFAULT 'pending',
  result JSONB,
  created_at TIMESTAMP DEFAULT NOW(),
  completed_at TIMESTAMP
);
"""
COLUMNS = """
    SELECT column_name, data_type, character_maximum_length, is_nullable, column_default IS NOT NULL
    FROM information_schema.columns WHERE table_schema = %s AND table_name = %s
"""
KEYS = """
    SELECT conname, confrelid::regclass::text FROM pg_constraint
    WHERE conrelid = CAST(%s AS regclass) AND contype = 'f' AND confrelid = 'public.agent_sessions'::regclass
"""


@pytest.mark.parametrize("table", re.findall(r"CREATE TABLE (\w+)", SHOWN))
def test_each_column_of_the_patterns_is_there(database: str, table: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE SCHEMA patterns")
        connection.execute("SET search_path = patterns, public")
        connection.execute(SHOWN)
        shown: dict[str, tuple[Any, ...]] = {name: rest for name, *rest in connection.execute(COLUMNS, ["patterns", table])}
        ours: dict[str, tuple[Any, ...]] = {name: rest for name, *rest in connection.execute(COLUMNS, ["public", table])}
        assert len(shown) >= 4
        for name, (type_, longest, nullable, has_default) in shown.items():
            of_ours = ours[name]
            # Moments have a zone here.
            assert of_ours[:2] == [type_.replace("without time zone", "with time zone"), longest], name
            assert nullable == "YES" or of_ours[2] == "NO", f"{name} may not be null in the patterns"
            assert of_ours[3] or not has_default, f"{name} has a default in the patterns"
        if "session_id" in shown:
            assert connection.execute(KEYS, [f"public.{table}"]).fetchall()
