"""Verifies a bundle of sealed events: python3 verify.py [FOLDER]. Exit codes: 0 all holds · 1 something is wrong · 2 it cannot be told.

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
from typing import Iterator

WRONG, UNKNOWN = 1, 2


def signed(key_file: str, statement: bytes, signature: bytes) -> bool:
    """Return whether the owner of the public key signed the statement."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        return signed_by_openssl(key_file, statement, signature)
    with open(key_file, "rb") as file:
        key = load_pem_public_key(file.read())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("the public key is not of Ed25519")  # noqa: TRY004 - the file is wrong, not the call
    try:
        key.verify(signature, statement)
    except InvalidSignature:
        return False
    return True


def signed_by_openssl(key_file: str, statement: bytes, signature: bytes) -> bool:
    """Return the same, as OpenSSL's command says it."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("statement", "signature")]
        for path, content in zip(paths, (statement, signature)):
            with open(path, "wb") as file:
                file.write(content)
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", key_file, "-rawin", "-in", paths[0], "-sigfile", paths[1]]
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


def flaws(folder: str) -> Iterator[str]:
    """Yield what is wrong."""
    key_file = os.path.join(folder, "key.pub.pem")
    former = None
    with open(os.path.join(folder, "events.jsonl"), "rb") as events, open(os.path.join(folder, "seals.jsonl"), "rb") as seals:
        for number, line in enumerate(seals, 1):
            seal = json.loads(line)
            statement = seal["statement"].encode()
            said = json.loads(statement)
            if not signed(key_file, statement, base64.b64decode(seal["signature"])):
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
            former = (said["seal"], said["last"], hashlib.sha256(statement).hexdigest())
        for event in events:
            yield "after the last seal: %s" % event.decode("utf-8", "replace").strip()[:200]
    if former is None:
        raise ValueError("there is no seal in it")
    print("%d events under %d seals." % (former[1], former[0]))


def main() -> int:
    """Say what is wrong; return the exit code."""
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    wrong = 0
    try:
        for flaw in flaws(folder):
            print(flaw)
            wrong += 1
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        print("This is no bundle of sealed events: %r" % error)
        return UNKNOWN
    print("%d flaws." % wrong if wrong else "All signatures, roots and hashes hold.")
    return WRONG if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
