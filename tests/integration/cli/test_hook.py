"""The pre-commit hook in a real repository, with real commits."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from federation.charter import charter_text
from federation.services import agents, resource_claims

NOWHERE = "postgresql://app:x@127.0.0.1:9/federation"


class Repository:
    """A git repository of a person whose settings are those of the shell that commits."""

    def __init__(self, folder: Path, surroundings: dict[str, str]) -> None:
        self.folder, self._surroundings = folder, surroundings
        self.hook = folder / ".git" / "hooks" / "pre-commit"
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        names = {f"GIT_{who}_{what}": "x@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, **names}
        environment = self._surroundings | own | variables
        return subprocess.run(["git", *words], cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def commit(self, *paths: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Change these files and commit them."""
        for path in paths:
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text((file.read_text() if file.exists() else "") + "changed\n")
            self.git("add", path)
        return self.git("commit", "-q", "-m", "a change", **variables)

    def commits(self) -> int:
        return len(self.git("log", "--format=%h").stdout.split())


@pytest.fixture
def repository(tmp_path: Path, surroundings: dict[str, str], postgres: Any, activemq: Any, database: str) -> Repository:
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }
    folder = tmp_path / "work"
    folder.mkdir()
    return Repository(folder, surroundings)


def test_commit_of_what_another_has_claimed_is_refused_until_it_is_given_back(
    repository: Repository, federation: Callable[..., Any], transactions: Any, tmp_path: Path
) -> None:
    charter = tmp_path / "charter.toml"
    charter.write_text(charter_text().replace("required = []", 'required = ["file:src/**"]'))
    installed = federation("hook", "install", "--repository", str(repository.folder), "--agent", "ada", "--json")
    assert json.loads(installed.stdout) == {"hook": str(repository.hook), "runs_first": None}, installed.stderr
    with transactions.begin("bob") as session:
        resource_claims.take(session, "file:src/**", ttl_s=3600, description="refactoring")
    refused = repository.commit("src/main.py", "README.md")
    assert (refused.returncode, repository.commits()) == (1, 0)
    first, *rest = refused.stderr.splitlines()
    assert first == "federation: this commit is refused. Claim before you code:"
    assert rest[0].startswith("  src/main.py: claimed by bob until 20")
    assert rest[0].endswith(", as file:src/** (refactoring)")
    assert rest[1] == "Unstage these files (git restore --staged), or wait until bob gave them back."
    assert rest[-1] == "To commit nevertheless: git commit --no-verify"
    repository.git("rm", "-q", "--cached", "src/main.py")
    assert repository.commit().returncode == 0, "what nobody has claimed may be committed"
    # Where the charter says so, what nobody has claimed must be claimed first.
    with transactions.begin("bob") as session:
        resource_claims.give_back(session, "file:src/**")
    unclaimed = repository.commit("src/main.py", FEDERATION_CHARTER=str(charter))
    assert "src/main.py: the charter wants it claimed before it is changed, and ada has no claim: claim file:src/main.py" in unclaimed.stderr
    with transactions.begin("ada") as session:
        taken = resource_claims.take(session, "file:src/main.py", ttl_s=3600)
    # Won elsewhere, its token is not known here.
    unknown = repository.commit(FEDERATION_CHARTER=str(charter))
    assert f"src/main.py: ada holds file:src/main.py with token {taken.fencing_token}, and this repository knows no token of it" in unknown.stderr
    assert "federation hook token RESOURCE TOKEN" in unknown.stderr
    told = federation("hook", "token", "file:src/main.py", str(taken.fencing_token), folder=repository.folder)
    assert told.returncode == 0, told.stderr
    assert repository.commit(FEDERATION_CHARTER=str(charter)).returncode == 0
    assert repository.commits() == 2


def test_who_lost_a_claim_commits_nothing_of_it_until_it_is_claimed_again(
    repository: Repository, federation: Callable[..., Any], transactions: Any
) -> None:
    with transactions.begin("test:setup") as session:
        token = agents.issue_token(session, "ada")
    as_ada = {"FEDERATION_TOKEN": token}

    def claim(*words: str) -> Any:
        done = federation("claim", *words, folder=repository.folder, **as_ada)
        assert done.returncode == 0, done.stderr
        return done

    federation("hook", "install", "--repository", str(repository.folder))
    claim("take", "file:src/**")
    kept = repository.folder / ".git" / "federation-claims.json"
    assert (json.loads(kept.read_text()), kept.stat().st_mode & 0o777) == ({"file:src/**": 1}, 0o600)
    assert repository.commit("src/main.py", **as_ada).returncode == 0
    # It lapsed, was another's, and nobody has it now.
    with transactions.begin("test:hand") as session:
        session.execute(text("UPDATE claims SET expires_at = clock_timestamp() - interval '1 second'"))
    with transactions.begin("bob") as session:
        assert resource_claims.take(session, "file:src/main.py", ttl_s=60).fencing_token == 2
        resource_claims.give_back(session, "file:src/main.py")
    lost = repository.commit("src/main.py", "README.md", **as_ada)
    assert lost.returncode == 1
    assert "src/main.py: ada's claim on file:src/** with token 1 is over, so others may have changed it since" in lost.stderr
    assert "Claim it again, here with `federation claim take RESOURCE`" in lost.stderr
    assert "README.md" not in lost.stderr
    found = json.loads(federation("hook", "check", "--json", folder=repository.folder, **as_ada).stdout)
    [refused] = found["refused"]
    assert (refused["path"], refused["holder"], refused["token"]) == ("src/main.py", None, {"resource": "file:src/**", "number": 1})
    # Won again somewhere else, the old token is no better.
    with transactions.begin("ada") as session:
        resource_claims.take(session, "file:src/**", ttl_s=60)
    old = repository.commit("src/main.py", **as_ada)
    assert "ada holds file:src/** with token 3, and this repository knows token 1 of an earlier one" in old.stderr
    claim("take", "file:src/**")
    assert repository.commit("src/main.py", **as_ada).returncode == 0
    # What was given back needs no token, where the charter does not want a claim.
    claim("release", "file:src/**")
    assert json.loads(kept.read_text()) == {}
    assert repository.commit("src/main.py", **as_ada).returncode == 0
    federation("hook", "token", "file:lib/**", "9", folder=repository.folder)
    assert repository.commit("lib/main.py", **as_ada).returncode == 1
    assert federation("hook", "token", "file:lib/**", "--forget", folder=repository.folder).returncode == 0
    assert repository.commit("lib/main.py", **as_ada).returncode == 0
    assert federation("hook", "token", "file:lib/**", folder=repository.folder).returncode == 2


def test_tokens_are_of_one_working_tree_and_what_is_none_is_said(repository: Repository, federation: Callable[..., Any]) -> None:
    federation("hook", "install", "--repository", str(repository.folder))
    repository.commit("README.md")
    repository.git("worktree", "add", "-q", "../other")
    other = repository.folder.parent / "other"
    assert federation("claim", "take", "file:src/**", folder=other).returncode == 0
    assert json.loads((repository.folder / ".git" / "worktrees" / "other" / "federation-claims.json").read_text()) == {"file:src/**": 1}
    mine = repository.commit("src/main.py")
    assert "and this repository knows no token of it" in mine.stderr
    kept = repository.folder / ".git" / "federation-claims.json"
    kept.write_text("{")
    broken = repository.commit()
    assert (broken.returncode, f"{kept}: cannot be read" in broken.stderr, "remove it, and claim again" in broken.stderr) == (1, True, True)


def test_what_a_merge_brings_is_no_edit_and_what_its_conflict_changes_is(
    repository: Repository, federation: Callable[..., Any], transactions: Any
) -> None:
    repository.commit("theirs.txt", "both.txt")
    repository.git("checkout", "-q", "-b", "other")
    repository.commit("theirs.txt", "both.txt")
    repository.git("checkout", "-q", "main")
    (repository.folder / "both.txt").write_text("ours\n")
    repository.git("commit", "-q", "-a", "-m", "ours")
    federation("hook", "install", "--repository", str(repository.folder), "--prefix", "file:shop/")
    with transactions.begin("bob") as session:
        resource_claims.take(session, "file:shop/theirs.txt", ttl_s=3600)
    assert repository.git("merge", "-q", "other").returncode != 0
    (repository.folder / "both.txt").write_text("resolved\n")
    repository.git("add", "both.txt")
    merged = repository.git("commit", "-q", "--no-edit")
    assert merged.returncode == 0, merged.stderr
    # A file that goes, or gets another name, is an edit too; and so is one that was committed by its path alone.
    repository.git("mv", "theirs.txt", "renamed.txt")
    moved = repository.git("commit", "-q", "-m", "moved")
    assert "theirs.txt: claimed by bob" in moved.stderr
    repository.git("reset", "-q", "--hard")
    (repository.folder / "theirs.txt").write_text("mine\n")
    assert "theirs.txt: claimed by bob" in repository.git("commit", "-q", "-m", "x", "theirs.txt").stderr


def test_where_nobody_can_be_asked_a_commit_is_refused_unless_the_repository_says_otherwise(
    repository: Repository, federation: Callable[..., Any]
) -> None:
    folder = str(repository.folder)
    federation("hook", "install", "--repository", folder)
    away = {"FEDERATION_DATABASE_SERVICE_URL": NOWHERE, "FEDERATION_DATABASE_URL": NOWHERE}
    refused = repository.commit("README.md", **away)
    assert (refused.returncode, repository.commits()) == (1, 0)
    assert "federation: nobody can be asked who has claimed what: " in refused.stderr
    assert "git config federation.unreachable allow" in refused.stderr
    assert "git commit --no-verify" in refused.stderr
    federation("hook", "install", "--repository", folder, "--if-unreachable", "allow")
    allowed = repository.commit(**away)
    assert (allowed.returncode, repository.commits()) == (0, 1)
    assert "goes on unchecked" in allowed.stderr


def test_a_hook_of_somebody_else_is_not_overwritten_and_comes_back(repository: Repository, federation: Callable[..., Any]) -> None:
    folder = str(repository.folder)
    theirs = "#!/bin/sh\necho theirs ran\nexit ${THEIRS:-0}\n"
    repository.hook.write_text(theirs)
    repository.hook.chmod(0o755)
    refused = federation("hook", "install", "--repository", folder)
    assert (refused.returncode, "with --chain it is kept, and run first" in refused.stderr) == (1, True)
    assert repository.hook.read_text() == theirs
    for _ in range(2):
        assert federation("hook", "install", "--repository", folder, "--chain").returncode == 0
    assert "theirs ran" in repository.commit("README.md", THEIRS="1").stderr
    assert repository.commits() == 0
    assert (repository.commit().returncode, repository.commits()) == (0, 1)
    assert json.loads(federation("hook", "uninstall", "--repository", folder, "--json").stdout)["restored"] is True
    assert repository.hook.read_text() == theirs
    assert os.access(repository.hook, os.X_OK)
    assert federation("hook", "uninstall", "--repository", folder).returncode == 1


def test_install_says_where_it_does_not_fit(repository: Repository, federation: Callable[..., Any], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    assert "a git repository" in federation("hook", "install", "--repository", str(outside)).stderr
    repository.git("config", "core.hooksPath", str(outside))
    shared = federation("hook", "install", "--repository", str(repository.folder))
    assert (shared.returncode, "call `federation hook check` in the hook there" in shared.stderr) == (2, True)
    repository.git("config", "--unset", "core.hooksPath")
    wrong = federation("hook", "install", "--repository", str(repository.folder), "--prefix", "webshop")
    assert (wrong.returncode, "--prefix: got 'webshop'" in wrong.stderr) == (2, True)
    assert not repository.hook.exists()
