"""The charter that ships, and what is said about one that is wrong."""

from pathlib import Path
from typing import get_args

import pytest

from federation.charter import BUILT_IN, Condition, Phase, PhaseRules, Right, Work, charter, charter_text, path, read
from federation.errors import SettingsError
from federation.store.models.tasks import TaskType


def test_shipped_charter_has_the_principles_of_the_paper_and_lets_only_those_who_decide_designate() -> None:
    rules = charter()
    assert list(rules.principles.model_dump().values()) == [
        "Explicit assignment prevents duplicate work.",
        "Propose before you implement.",
        "Claim before you code.",
    ]
    assert tuple(rules.roles) == BUILT_IN
    assert rules.who_may(Right.DESIGNATE) == rules.who_may(Right.APPROVE) == rules.who_may(Right.CANCEL) == ["lead", "human"]
    assert rules.who_may(Right.APPROVE_OWN) == []
    assert rules.who_may(Right.MOVE) == ["lead"]
    assert [role for role in rules.roles if rules.proposes(role, "remediate")] == ["analyst"]
    assert not rules.roles["observer"].may
    assert not rules.may("pirate", Right.CLAIM)


def test_file_explains_each_right_and_each_kind_of_work() -> None:
    told = "".join(line for line in charter_text().splitlines() if line.startswith("#"))
    assert all(f" {right} " in told for right in Right)
    assert all(f" {condition} " in told for condition in Condition)
    assert ", ".join(Phase) in told
    assert set(get_args(Work)) == set(TaskType)
    assert ", ".join(get_args(Work)) in told


WRONG = [
    ("may = []", 'may = ["rule"]', r"roles\.observer\.may\.0: got 'rule', wants 'designate', 'offer', .* or 'cancel'"),
    ("may = []", 'may = "claim"', r"roles\.observer\.may: got 'claim', wants a list, such as"),
    ("may = []", 'may = ["approve_own"]', r"roles\.observer\.may: got \['approve_own'\], wants approve beside approve_own"),
    ("may = []", "", r"roles\.observer\.may: got nothing, wants a value"),
    ("proposes =", "propose =", r"roles\.analyst\.propose: no key 'propose'; nearest: proposes"),
    ('proposes = ["remediate"]', 'proposes = ["fix"]', r"roles\.analyst\.proposes\.0: got 'fix', wants 'investigate', .* or 'report'"),
    ("[roles.observer]", "[roles.Observer]", r"roles\.Observer: got 'Observer', wants a name of small letters"),
    ("[roles.observer]", "[roles.watcher]", r"roles: got .*, wants a table for each of \[roles\.observer\]"),
    ('claim = "Claim before you code."', 'claim = " "', r"principles\.claim: got ' ', wants a sentence"),
    ("[principles]", "[principle]", r"principle: no key 'principle'; nearest: principles"),
    ("may = []", "may []", "is not TOML"),
    ('decision = "attested"', 'decision = "sworn"', r"demands\.decision: got 'sworn', wants 'attested' or 'signed'"),
    ('rests = ["approve"]', 'rests = ["move"]', r"phases\.propose\.rests: got \['move'\], wants rights without move, or nobody could end the phase"),
    ('holds = ["remediate"]', 'holds = ["fix"]', r"phases\.propose\.holds\.0: got 'fix', wants 'investigate', .* or 'report'"),
    ('enter = ["proposed"]', 'enter = ["wished"]', r"phases\.discuss\.enter\.0: got 'wished', wants 'proposed', 'discussed', 'decided' or 'done'"),
    ('enter = ["proposed"]', 'entry = ["proposed"]', r"phases\.discuss\.entry: no key 'entry'; nearest: enter"),
    ("[phases.propose]", "[phases.dream]", r"phases\.dream: got 'dream', wants 'propose', .* or 'review'"),
    ("at_most = 3", "at_most = -1", r"conversations\.at_most: got -1, wants greater than or equal to 0"),
    ("decision =", "decide =", r"demands\.decide: no key 'decide'; nearest: decision"),
]


@pytest.mark.parametrize(("right", "wrong", "says"), WRONG)
def test_wrong_value_is_named_with_file_and_key_what_it_got_and_what_it_wants(tmp_path: Path, right: str, wrong: str, says: str) -> None:
    file = tmp_path / "charter.toml"
    assert right in charter_text()
    file.write_text(charter_text().replace(right, wrong, 1))
    with pytest.raises(SettingsError, match=says) as raised:
        read(file)
    assert all(line.startswith(f"{file}: ") for line in str(raised.value).splitlines())


def test_charter_without_demands_demands_nothing(tmp_path: Path) -> None:
    file = tmp_path / "charter.toml"
    before, _, after = charter_text().partition("[demands]")
    file.write_text(before + after[after.index("[roles.lead]") :])
    assert read(file)[0].demands == charter().demands


def test_missing_file_is_named_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"FEDERATION_CHARTER: got .*nowhere\.toml, wants the file of a charter"):
        read(tmp_path / "nowhere.toml")


def test_role_of_ones_own_is_one_more_table(tmp_path: Path) -> None:
    file = tmp_path / "charter.toml"
    file.write_text(charter_text() + '\n[roles.reviewer]\nabout = "Reads and decides."\nmay = ["claim", "approve"]\n')
    rules, text = read(file)
    assert rules.who_may(Right.APPROVE) == ["lead", "human", "reviewer"]
    assert text == file.read_text()
    assert path() != file


def test_phases_that_ship_let_nobody_decide_before_it_was_discussed_nor_change_before_it_was_decided() -> None:
    rules = charter()
    assert [phase for phase in Phase if Right.APPROVE in rules.phase(phase).rests] == [Phase.PROPOSE, Phase.DISCUSS]
    assert [phase for phase in Phase if "remediate" not in rules.phase(phase).holds] == [Phase.EXECUTE]
    assert {phase: set(rules.phase(phase).enter) for phase in Phase} == dict(
        zip(Phase, [set(), *({condition} for condition in Condition)], strict=True)
    )


def test_charter_from_before_phases_knows_none_and_warns_of_a_fourth_member(tmp_path: Path) -> None:
    file = tmp_path / "charter.toml"
    before, _, after = charter_text().partition("[conversations]")
    file.write_text(before + after[after.index("[roles.lead]") :])
    rules = read(file)[0]
    assert all(rules.phase(phase) == PhaseRules() for phase in Phase)
    assert rules.conversations.at_most == 3
