"""For whom a folder is indexed: those share one index of it, others neither find it nor learn that it is there, and who made it withdraws it."""

import uuid
from typing import Any

import pytest
from sqlalchemy import func, select, text

from federation.errors import Conflict, InvalidInput, NotFound, TransientError
from federation.services import indexed_folders, indexing, retrieval
from federation.services.indexed_documents import NewDocument
from federation.services.indexing import RunView
from federation.store.models.events import Event
from federation.store.models.retrieval import Chunk, Document, IndexedFolder, VectorChange
from federation.transaction import Transactions
from federation.vectors import chunking

ROOT = "/srv/code"
EVERYBODY = ("ada", "bob", "dan", "eve")
MEMBERS = {"visibility": "members", "conversation_id": "secret"}


def document(path: str, *texts: str) -> NewDocument:
    chunks = [chunking.Chunk(path, "function", each, 1, 2, each, f"{path}:{each}") for each in texts]
    return NewDocument(path, f"{path}-{texts}", 10, chunks)


def scan(transactions: Transactions, who: str, *documents: NewDocument, **more: Any) -> RunView:
    """Index the folder with these files for somebody, and write all vectors."""
    paths = [each.path for each in documents]
    with transactions.begin(who) as session:
        run = indexing.record_scan(session, uuid.uuid4(), ROOT, paths=paths, documents=documents, skipped=[], **more)
    with transactions.begin(who) as session:
        indexing.record_searchable(session, run.run_id)
        indexing.call_for_vectors(session, run.run_id)
        chunks = list(session.scalars(select(Chunk.id).where(Chunk.vector_at.is_(None))))
        indexing.record_written(session, run.run_id, chunks)
    return run


def seen(transactions: Transactions) -> dict[str, set[str]]:
    """Return what each agent sees of all texts, as by a query that somebody forgot a condition in."""
    found = {}
    for name in EVERYBODY:
        with transactions.begin(name) as session:
            found[name] = set(session.scalars(select(Chunk.text)))
            assert indexed_folders.roots(session) == ([ROOT] if found[name] else [])
    return found


@pytest.mark.usefixtures("_secret")
@pytest.mark.parametrize(
    ("for_whom", "readers"),
    [
        ({}, EVERYBODY),
        ({"visibility": "all"}, EVERYBODY),
        (MEMBERS, {"bob", "eve"}),
        ({"conversation_id": "secret"}, {"bob", "eve"}),
        ({"visibility": "role"}, {"bob", "dan"}),
        ({"visibility": "nobody"}, {"bob"}),
    ],
)
def test_those_for_whom_a_folder_is_indexed_see_it(transactions: Transactions, for_whom: dict[str, str], readers: set[str]) -> None:
    scan(transactions, "bob", document("a.py", "one"), **for_whom)
    assert {name for name, texts in seen(transactions).items() if texts} == set(readers)


def test_who_may_not_see_an_index_is_answered_as_if_there_were_none(transactions: Transactions) -> None:
    def asked(who: str) -> tuple[object, ...]:
        with transactions.begin(who) as session:
            with pytest.raises(NotFound) as told:
                retrieval.request_search(session, "one", retrieval.Narrower(root=ROOT))
            folder = indexed_folders.find(session, ROOT, None, None)
            return str(told.value), folder, indexing.changed(session, folder, {"a.py": document("a.py", "one").sha256})

    before = asked("eve")
    scan(transactions, "bob", document("a.py", "one"), visibility="nobody")
    assert asked("eve") == before
    # Nor by what it costs to index the same.
    again = scan(transactions, "eve", document("a.py", "one"), visibility="nobody")
    assert (again.changed_files, again.chunks, again.deleted_files) == (1, 1, 0)
    assert seen(transactions) == {"ada": set(), "bob": {"one"}, "dan": set(), "eve": {"one"}}
    with transactions.begin("test:hand") as session:
        assert session.scalar(select(func.count()).select_from(Document)) == 2


def test_those_for_whom_it_is_share_an_index_and_what_is_unchanged_costs_nothing(transactions: Transactions) -> None:
    scan(transactions, "bob", document("a.py", "one"), visibility="role")
    with transactions.begin("dan") as session:
        folder = indexed_folders.find(session, ROOT, "role", None)
        assert indexing.changed(session, folder, {"a.py": document("a.py", "one").sha256, "b.py": "new"}) == {"b.py"}
    run = scan(transactions, "dan", document("a.py", "one", "two"), visibility="role")
    assert run.chunks == 1
    assert seen(transactions) == {"ada": set(), "bob": {"one", "two"}, "dan": {"one", "two"}, "eve": set()}


@pytest.mark.usefixtures("_secret")
def test_who_indexes_a_folder_for_others_than_before_withdraws_it_from_those(transactions: Transactions) -> None:
    scan(transactions, "bob", document("a.py", "one"))
    run = scan(transactions, "bob", document("a.py", "one"), **MEMBERS)
    assert {name for name, texts in seen(transactions).items() if texts} == {"bob", "eve"}
    with transactions.begin("bob") as session:
        staged, gone = indexing.staged(session, run.run_id), indexing.gone(session, run.run_id)
        # Its vectors go too.
        assert (len(staged), len(gone)) == (0, 1)
        assert session.scalar(select(func.count()).select_from(IndexedFolder)) == 1
    scan(transactions, "bob", document("a.py", "one"), visibility="nobody")
    assert {name for name, texts in seen(transactions).items() if texts} == {"bob"}


def test_what_somebody_else_made_for_all_stays(transactions: Transactions) -> None:
    scan(transactions, "ada", document("a.py", "one"))
    scan(transactions, "bob", document("a.py", "one"))
    scan(transactions, "bob", document("a.py", "one", "mine"), visibility="nobody")
    one = {"one"}
    assert seen(transactions) == {"ada": one, "bob": {"one", "mine"}, "dan": one, "eve": one}


def test_without_a_word_a_folder_stays_for_those_for_whom_one_indexed_it(transactions: Transactions) -> None:
    scan(transactions, "bob", document("a.py", "one"), visibility="nobody")
    scan(transactions, "ada", document("a.py", "for all"))
    scan(transactions, "bob", document("a.py", "two"))
    assert seen(transactions) == {"ada": {"for all"}, "bob": {"for all", "two"}, "dan": {"for all"}, "eve": {"for all"}}


def test_who_sees_two_indexes_of_a_folder_finds_each_file_once(transactions: Transactions) -> None:
    scan(transactions, "ada", document("a.py", "one"))
    scan(transactions, "bob", document("a.py", "one"), visibility="nobody")
    with transactions.begin("bob") as session:
        ranked = [(identity, 1.0, ["words"]) for identity in session.scalars(select(Chunk.id))]
        assert len(ranked) == 2
        assert [hit.path for hit in retrieval.show(session, ranked)] == ["a.py"]


@pytest.mark.usefixtures("_secret")
@pytest.mark.parametrize(
    ("for_whom", "error", "says"),
    [
        ({"visibility": "friends"}, InvalidInput, "one of all, members, role, nobody"),
        ({"visibility": "members"}, InvalidInput, "the conversation whose members may see it"),
        ({"visibility": "members", "conversation_id": "commons"}, InvalidInput, "what everybody may see has visibility=.all."),
        ({"visibility": "nobody", "conversation_id": "secret"}, InvalidInput, "visibility='members' beside it"),
        ({"conversation_id": "secret"}, NotFound, "no conversation 'secret'; there is commons"),
        (MEMBERS, NotFound, "no conversation 'secret'; there is commons"),
    ],
)
def test_whom_it_cannot_be_for_is_told_before_anything_begins(
    transactions: Transactions, for_whom: dict[str, str], error: type[Exception], says: str
) -> None:
    with transactions.begin("ada") as session, pytest.raises(error, match=says):
        retrieval.request_index(session, ROOT, **for_whom)  # type: ignore[arg-type]


def test_an_operator_has_no_role_to_index_for(transactions: Transactions) -> None:
    with transactions.begin("cli:root") as session, pytest.raises(InvalidInput, match="only agents have a role"):
        retrieval.request_index(session, ROOT, visibility="role")


def test_changes_of_an_index_that_is_withdrawn_meanwhile_make_no_half_one(transactions: Transactions) -> None:
    scan(transactions, "bob", document("a.py", "one"), visibility="role")
    with transactions.begin("dan") as session:
        folder = indexed_folders.find(session, ROOT, "role", None)
        assert folder is not None
    scan(transactions, "bob", document("a.py", "one"), visibility="nobody")
    with pytest.raises(TransientError, match="has withdrawn it meanwhile"):
        scan(transactions, "dan", document("b.py", "two"), visibility="role", compared_with=folder.id)


def test_a_run_that_comes_late_publishes_nothing_that_was_taken_back_since(transactions: Transactions) -> None:
    def ask(visibility: str) -> uuid.UUID:
        with transactions.begin("bob") as session:
            return retrieval.request_index(session, ROOT, visibility=visibility)

    def arrives(run_id: uuid.UUID, visibility: str) -> None:
        with transactions.begin("bob", execution_id=run_id) as session:
            indexing.record_scan(session, run_id, ROOT, paths=["a.py"], documents=[document("a.py", "one")], skipped=[], visibility=visibility)

    for_all, for_nobody = ask("all"), ask("nobody")
    arrives(for_nobody, "nobody")
    with pytest.raises(Conflict, match="bob has asked to index /srv/code for others since"):
        arrives(for_all, "all")
    assert {name for name, texts in seen(transactions).items() if texts} == {"bob"}
    arrives(ask("all"), "all")
    assert {name for name, texts in seen(transactions).items() if texts} == set(EVERYBODY)


def test_an_agent_of_another_role_keeps_what_it_made(transactions: Transactions) -> None:
    scan(transactions, "bob", document("a.py", "one"), visibility="role")
    with transactions.begin("test:hand") as session:
        session.execute(text("UPDATE agents SET role = 'analyst' WHERE name = 'bob'"))
    assert seen(transactions) == {"ada": set(), "bob": {"one"}, "dan": {"one"}, "eve": set()}
    scan(transactions, "bob", document("a.py", "two"))
    assert seen(transactions) == {"ada": set(), "bob": {"two"}, "dan": {"two"}, "eve": set()}


def test_the_log_names_a_folder_that_is_not_for_all_by_its_digest(transactions: Transactions) -> None:
    for visibility in ("nobody", "all"):
        scan(transactions, "bob", document("a.py", "one"), visibility=visibility)
    with transactions.begin("test:hand") as session:
        events = session.scalars(select(Event.payload).where(Event.type.like("index.%")).order_by(Event.sequence)).all()
        named = [payload["visibility"] for payload in events if ROOT in str(payload)]
        withdrawn = [payload["withdrawn"] for payload in events if payload.get("withdrawn")]
    assert (named, withdrawn) == (["all"], [[["nobody", "bob"]]])


def test_what_a_run_has_left_is_taken_up_by_who_withdraws_the_index(transactions: Transactions) -> None:
    """dan's run of bob's index was killed before its deletions were written."""
    scan(transactions, "bob", document("a.py", "one"), visibility="role")
    with transactions.begin("dan") as session:
        killed = indexing.record_scan(session, uuid.uuid4(), ROOT, paths=[], documents=[], skipped=[], visibility="role")
        assert killed.deleted_files == 1
    run = scan(transactions, "bob", visibility="nobody")
    with transactions.begin("test:hand") as session:
        assert session.scalars(select(VectorChange.run_id)).all() == [run.run_id]


@pytest.mark.usefixtures("_secret")
def test_who_shares_an_index_of_another_keeps_its_readers_when_it_repeats_without_a_word(transactions) -> None:
    for who in ("bob", "eve"):
        scan(transactions, who, document("a.py", "one"), **MEMBERS)
    scan(transactions, "eve", document("a.py", "one"))
    assert {name for name, texts in seen(transactions).items() if texts} == {"bob", "eve"}


@pytest.mark.usefixtures("_secret")
def test_a_run_that_comes_late_publishes_nothing_also_where_the_later_one_shares_an_index_of_another(transactions) -> None:
    scan(transactions, "bob", document("a.py", "one"), **MEMBERS)
    asked = []
    for for_whom in ({"visibility": "all"}, MEMBERS):
        with transactions.begin("eve") as session:
            asked.append((retrieval.request_index(session, ROOT, **for_whom), for_whom))
    (first, of_all), (second, of_members) = asked
    with transactions.begin("eve") as session:
        indexing.record_scan(session, second, ROOT, paths=["a.py"], documents=[document("a.py", "one")], skipped=[], **of_members)
    with pytest.raises(Conflict, match="has asked to index"), transactions.begin("eve") as session:
        indexing.record_scan(session, first, ROOT, paths=["a.py"], documents=[document("a.py", "one")], skipped=[], **of_all)
    assert {name for name, texts in seen(transactions).items() if texts} == {"bob", "eve"}


def test_a_scan_that_is_delivered_again_makes_no_index_anew(transactions) -> None:
    runs = []
    for visibility in ("all", "nobody", None):
        with transactions.begin("bob") as session:
            run_id, asked = (retrieval.request_index(session, ROOT, visibility=visibility), visibility) if visibility else runs[0]
        runs.append((run_id, asked))
        with transactions.begin("bob", execution_id=run_id) as session:
            indexing.record_scan(session, run_id, ROOT, paths=["a.py"], documents=[document("a.py", "one")], skipped=[], visibility=asked)
    with transactions.begin("eve") as session:
        assert indexed_folders.roots(session) == []
