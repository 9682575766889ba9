"""Functions that see more than who calls them."""

import psycopg


def test_what_looks_past_the_policies_is_the_owners_with_a_pinned_path(database: str) -> None:
    with psycopg.connect(database) as connection:
        query = "SELECT proname, pg_get_userbyid(proowner), proconfig[1] FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"
        found = connection.execute(query).fetchall()
    path = "search_path=pg_catalog, public, pg_temp"
    names = (
        "answered_by",
        "append",
        "conversations",
        "drop_answers",
        "end_expired",
        "end_hindering",
        "end_in_the_way",
        "key",
        "next_position",
        "place_told",
        "received",
        "stream",
        "task_held",
        "voted",
    )
    assert sorted(found) == [(f"federation_{name}", "federation_owner", path) for name in names]
