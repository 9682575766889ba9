"""The pre-commit hook in a real repository, with real commits."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from federation.charter import charter_text
from federation.services import resource_claims

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
        resource_claims.take(session, "file:src/main.py", ttl_s=3600)
    assert repository.commit(FEDERATION_CHARTER=str(charter)).returncode == 0
    assert repository.commits() == 2


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
