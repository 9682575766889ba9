"""Verifies a bundle of sealed events: python3 verify.py [--statements] [FOLDER]. Exit codes: 0 all holds · 1 something is wrong · 2 cannot be told.

Also each statement in the events: that its author signed it, or who attests it; --statements lists them.

Stands alone on purpose, so that whoever reads it needs nothing of those who made the bundle.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from decimal import Decimal
from typing import Any, Iterator

WRONG, UNKNOWN = 1, 2


def signed(pem: bytes, statement: bytes, signature: bytes) -> bool:
    """Return whether the owner of the public key signed the statement."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        return signed_by_openssl(pem, statement, signature)
    key = load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("the public key is not of Ed25519")  # noqa: TRY004 - the file is wrong, not the call
    try:
        key.verify(signature, statement)
    except InvalidSignature:
        return False
    return True


def signed_by_openssl(pem: bytes, statement: bytes, signature: bytes) -> bool:
    """Return the same, as OpenSSL's command says it."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("statement", "signature", "key")]
        for path, content in zip(paths, (statement, signature, pem)):
            with open(path, "wb") as file:
                file.write(content)
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", paths[2], "-rawin", "-in", paths[0], "-sigfile", paths[1]]
        try:
            ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except FileNotFoundError:
            print("Neither Python's package cryptography nor the command openssl is here: install one of them.")
            sys.exit(UNKNOWN)
    said = ran.stdout.decode("utf-8", "replace")
    if "Verified Successfully" in said:
        return True
    if "Verification Failure" in said:
        return False
    print("The command openssl cannot check an Ed25519 signature here (version 3 can): %s" % said.strip()[:300])
    sys.exit(UNKNOWN)


def root(leaves: list[bytes]) -> bytes:
    """Return the Merkle tree hash of RFC 9162, 2.1."""
    level = list(leaves)
    while len(level) > 1:
        pairs = [hashlib.sha256(b"\x01" + level[at] + level[at + 1]).digest() for at in range(0, len(level) - 1, 2)]
        level = pairs + level[2 * len(pairs) :]
    return level[0] if level else hashlib.sha256().digest()


def say(text: str) -> None:
    """Print what may hold names that somebody else chose, without what a terminal would obey."""
    print("".join(letter if letter.isprintable() else "?" for letter in text))


def canonical(value: Any) -> str:
    """Return JSON in the one form that is hashed (RFC 8785)."""
    if isinstance(value, dict):
        ordered = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{%s}" % ",".join("%s:%s" % (canonical(key), canonical(value[key])) for key in ordered)
    if isinstance(value, list):
        return "[%s]" % ",".join(map(canonical, value))
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= 2**53):
        return number(float(value))
    return json.dumps(value, ensure_ascii=False)


def number(value: float) -> str:
    """Return a number as JavaScript writes it."""
    if value == 0:
        return "0"
    sign, figures, exponent = Decimal(repr(value)).as_tuple()
    whole = "".join(map(str, figures)).lstrip("0")
    digits = whole.rstrip("0")
    point = len(whole) + int(exponent)
    if len(digits) <= point <= 21:
        text = digits + "0" * (point - len(digits))
    elif 0 < point <= 21:
        text = digits[:point] + "." + digits[point:]
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        text = digits[0] + ("." + digits[1:] if len(digits) > 1 else "") + "e%+d" % (point - 1)
    return "-" + text if sign else text


# What is done by whom he must have stated so: the action, the choice (None: the event's own), and the fields whose hash he signed; decisions of old
# have a reason alone.
DECIDED = ("reason", "description", "terms")
DONE = {
    "task.approved": ("task.decide", "approve", DECIDED),
    "task.rejected": ("task.decide", "reject", DECIDED),
    "task.completed": ("task.complete", "completed", ("result",)),
    "task.failed": ("task.complete", "failed", ("result",)),
    "task.cancelled": ("task.cancel", "cancel", ("result",)),
    "task.released": ("task.release", "release", ()),
    "task.created": ("task.delegate", "delegate", ("conversation_id", "slug", "description", "requires_approval", "session_id", "designated")),
    "role.assigned": ("role.assign", "assign", ("agent", "role")),
    "consensus.voted": ("consensus.vote", None, ("options_hash", "response", "confidence", "reason")),
    "message.sent": ("message.send", "send", ("conversation_id", "to", "audience", "message_type", "reply_to", "content_sha256", "body_sha256")),
}
# What hands out work: there are those who ask whether each was stated.
HANDED_OUT = ("task.created", "role.assigned")
# What a task asks for beside its description is signed in one object, and without what is empty.
TERMS = ("executor", "priority", "parameters", "requirements", "capability", "reserved_for", "look_up", "start_at", "timeout_s", "parent_id")


def sha256(value: Any) -> str:
    """Return the hash that a statement has of this."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def filled(value: dict[str, Any]) -> dict[str, Any]:
    """Return it without what is empty."""
    return {name: each for name, each in value.items() if each}


class Statements:
    """What was stated in the events, by whose key; follows them in their order, and knows at each which keys are valid."""

    def __init__(self, *, shown: bool) -> None:
        self.keys: dict[str, tuple[str, bytes]] = {}
        self.revoked: set[str] = set()
        self.choices: dict[tuple[str, str, str], list[tuple[str, int]]] = {}
        self.stated: dict[tuple[str, str, str], set[tuple[str, str]]] = {}
        self.modes = {"signed": 0, "attested": 0}
        self.unstated = 0
        self.shown = shown

    def flaw(self, number: int, event: dict[str, Any]) -> str | None:
        """Take the next event, and return what is wrong with what it states or with what was stated of it, None if nothing is."""
        told = event["payload"]
        if event["type"] in ("signer.registered", "agent.key_added"):
            # Who registers it again changes nothing, as in the table.
            self.keys.setdefault(told["identity"], (told["name"], told["public_key"].encode()))
        elif event["type"] in ("signer.revoked", "agent.key_revoked"):
            self.revoked.add(told["identity"])
        elif event["type"] == "node.removed":
            self.revoked.update(told.get("keys", ()))
        elif event["type"] == "statement.made":
            flaw = self.flaw_of_statement(number, event)
            return flaw and "its statement does not hold: " + flaw
        elif event["type"] in DONE:
            return self.flaw_of_deed(number, event)
        return None

    def flaw_of_deed(self, number: int, event: dict[str, Any]) -> str | None:
        """Return that what was done is not what was stated, None if it is."""
        told, actor = event["payload"], event["actor"]
        action, choice, fields = DONE[event["type"]]
        about = {field: told.get(field, event.get(field)) for field in fields if field in told or field in event}
        choice = told["choice"] if choice is None else choice
        subject = event["stream"]
        if action == "message.send":
            subject = "message:%s" % told.get("message_id")
        elif action == "role.assign":
            subject = "task:%s" % told.get("task_id")
        stated = self.stated.get((subject, actor, action), set())
        if event["type"] == "task.created":
            terms = filled({"task_type": told.get("type"), **{name: told.get(name) for name in TERMS}})
            about = filled({**about, "terms": terms})
            # Who designates somebody with a new task states both at once.
            choice = "assign" if "designated" in about else choice
            stated = stated | self.stated.get((subject, actor, "role.assign"), set())
        if stated and (choice, sha256(about)) not in stated:
            return "it is not what %s stated" % actor
        if stated and "designated" in about:
            role = {"agent": about["terms"].get("reserved_for"), "role": about["designated"]}
            self.stated[subject, actor, "role.assign"].add((choice, sha256(role)))
        # Where nothing was stated at all, the log is older than such statements, or a node or the program did it.
        if not stated and event["type"] in HANDED_OUT:
            self.unstated += 1
            if self.shown:
                say("event %d: %s, %s by %s: not stated" % (number, subject, event["type"], actor))
        return None

    def flaw_of_statement(self, number: int, event: dict[str, Any]) -> str | None:
        """Return what is wrong with a statement, None if nothing is."""
        told = event["payload"]
        said = json.loads(told["statement"])
        by = said["attested_by"]
        owner, pem = self.keys.get(said["key"], ("", b""))
        if said["type"] != "federation.statement/1" or (said["actor"], said["subject"]) != (event["actor"], event["stream"]):
            return "it is not by %s about %s" % (event["actor"], event["stream"])
        if told["mode"] != ("signed" if by is None else "attested"):
            return "it is not %s" % told["mode"]
        # Agents have no colon in their names, and attest for nobody.
        if owner != (by or said["actor"]) or (by is not None and ":" not in by):
            return "its key is not %s's" % (by or said["actor"])
        if said["key"] in self.revoked or identity(pem) != said["key"]:
            return "its key was revoked before" if said["key"] in self.revoked else "its key is another than it is named after"
        if not signed(pem, told["statement"].encode(), base64.b64decode(told["signature"])):
            return "its signature is wrong"
        self.modes[told["mode"]] += 1
        self.stated.setdefault((said["subject"], said["actor"], said["action"]), set()).add((said["choice"], said["content_sha256"]))
        if by is None:
            self.choices.setdefault((said["subject"], said["actor"], said["action"]), []).append((said["choice"], number))
        if self.shown:
            how = "signed" if by is None else "attested by %s" % by
            say("event %d: %s, %s: %s by %s, %s" % (number, said["subject"], said["action"], said["choice"], said["actor"], how))
        return None

    def tell(self) -> None:
        """Print how many there were, and who contradicted himself."""
        print("Statements: %(signed)d signed by their authors, %(attested)d attested for them." % self.modes)
        if self.unstated:
            print("Not stated by those who handed them out, as in a log of before: %d tasks and roles." % self.unstated)
        for (subject, actor, action), found in self.choices.items():
            if len({choice for choice, _ in found}) > 1:
                told = " and ".join("%s (event %d)" % one for one in found)
                say("EQUIVOCATION: %s signed %s of %s with %s." % (actor, action, subject, told))


def identity(pem: bytes) -> str:
    """Return the name of a public key: the SHA-256 of its 32 bytes, which are the last ones in it."""
    return hashlib.sha256(base64.b64decode(b"".join(line for line in pem.splitlines() if not line.startswith(b"-")))[-32:]).hexdigest()


def flaws(folder: str, statements: Statements) -> Iterator[str]:
    """Yield what is wrong."""
    with open(os.path.join(folder, "key.pub.pem"), "rb") as file:
        pem = file.read()
    former = None
    with open(os.path.join(folder, "events.jsonl"), "rb") as events, open(os.path.join(folder, "seals.jsonl"), "rb") as seals:
        for number, line in enumerate(seals, 1):
            seal = json.loads(line)
            statement = seal["statement"].encode()
            said = json.loads(statement)
            if not signed(pem, statement, base64.b64decode(seal["signature"])):
                yield "seal %d: its signature is wrong" % number
            expected = (1, 1, None) if former is None else (former[0] + 1, former[1] + 1, former[2])
            if (said["seal"], said["first"], said["previous"]) != expected:
                yield "seal %d: it does not follow on the one before it" % number
            leaves = base64.b64decode(seal["leaves"])
            sealed = [leaves[at : at + 32] for at in range(0, len(leaves), 32)]
            if len(sealed) != said["last"] - said["first"] + 1 or root(sealed).hex() != said["root"]:
                yield "seal %d: its hashes do not give the root that was signed" % number
            for at, leaf in enumerate(sealed, said["first"]):
                event = events.readline()
                if not event:
                    yield "event %d is missing" % at
                    return
                if hashlib.sha256(b"\x00" + event.rstrip(b"\n")).digest() != leaf:
                    yield "event %d is not what was sealed" % at
                    continue
                try:
                    flaw = statements.flaw(at, json.loads(event))
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                    # Whoever appended it wrote beside the program, and hides no other event so.
                    flaw = "it is not of the form of its type: %r" % error
                if flaw is not None:
                    yield "event %d: %s" % (at, flaw)
            former = (said["seal"], said["last"], hashlib.sha256(statement).hexdigest())
        for event in events:
            yield "after the last seal: %s" % event.decode("utf-8", "replace").strip()[:200]
    if former is None:
        raise ValueError("there is no seal in it")
    print("%d events under %d seals." % (former[1], former[0]))


def main() -> int:
    """Say what is wrong; return the exit code."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return 0
    given = [word for word in sys.argv[1:] if word != "--statements"]
    folder = given[0] if given else os.path.dirname(os.path.abspath(__file__))
    statements = Statements(shown="--statements" in sys.argv)
    wrong = 0
    try:
        for flaw in flaws(folder, statements):
            say(flaw)
            wrong += 1
        statements.tell()
    except BrokenPipeError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        print("This is no bundle of sealed events: %r" % error)
        return UNKNOWN
    print("%d flaws." % wrong if wrong else "All signatures, roots and hashes hold.")
    return WRONG if wrong else 0


if __name__ == "__main__":
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads has read enough, as `head` does. Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = UNKNOWN
    sys.exit(code)
