"""A bundle of sealed events for a stranger: the events, their seals, the public key, and a program that compares them."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from federation.errors import PermanentError
from federation.security import bundle_verifier, seals
from federation.security.seals import Seal
from federation.security.signing import PublicKey
from federation.store import event_order

_READ_ME = """\
# Sealed events

`events.jsonl` has an event a line, in the one order of all; the bytes of a line, without its end, are what was hashed.
`seals.jsonl` has a seal a line: `statement` is what was signed, `signature` (base64) is Ed25519 over it, `leaves` (base64) are the hashes of its
events. `key.pub.pem` is the public key. `python3 verify.py` compares them; it needs OpenSSL's command or Python's package `cryptography`.

A hash of an event is SHA-256 over a zero byte and the line. The root of a seal is the Merkle tree hash of RFC 9162, 2.1. Each statement has the
SHA-256 of the one before it as `previous`, that of the first is null.

Events of the type `statement.made` hold what somebody stated: `statement` is what was signed, `signature` (base64) is Ed25519 over it. `signed`
means that its author did, with a key that an event `agent.key_added` or `signer.registered` before it says is his; `attested` means that he called
with a token, and the part of the federation that is named `attested_by` signed for him. `verify.py` checks each, compares what was handed out,
decided, completed, cancelled and said with it, and tells of authors who signed contraries; `verify.py --statements` lists all, and what was handed
out without one.

What the bundle cannot prove: whose key it is (ask for its number by another way), that nothing came after the last seal, and that each event told
the truth when it was written; so also whose key an agent's is.
"""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was written; `key` is the name of the public key."""

    events: int
    seals: int
    key: str


def write(session: Session, folder: Path, key: PublicKey, filed: Sequence[Seal], *, progress: Callable[[int, int], None]) -> Bundle:
    """Write all that these seals speak of into a new folder, or nothing.

    Raises PermanentError if an event is missing or the folder cannot be made.
    """
    unready = folder.with_name(f".{folder.name}.{os.getpid()}.unready")
    try:
        # Of the owner alone: it holds what was said and done.
        unready.mkdir(parents=True, mode=0o700)
        written = _write(session, unready, key, filed, progress)
        unready.rename(folder)
    except OSError as error:
        raise PermanentError(f"{folder} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(unready, ignore_errors=True)
    return written


def _write(session: Session, folder: Path, key: PublicKey, filed: Sequence[Seal], progress: Callable[[int, int], None]) -> Bundle:
    total = filed[-1].last if filed else 0
    with (folder / "events.jsonl").open("w", encoding="utf-8", newline="\n") as events, (folder / "seals.jsonl").open("w", newline="\n") as told:
        for seal in filed:
            there = 0
            for line in event_order.each_line(session, seal.first, seal.last):
                events.write(line.text + "\n")
                there += 1
            if there != seal.last - seal.first + 1:
                raise PermanentError(f"events of seal {seal.number} are missing; `federation audit verify` says which")
            told.write(seals.line(seal) + "\n")
            progress(seal.last, total)
    (folder / "key.pub.pem").write_text(key.pem)
    (folder / "README.md").write_text(_READ_ME)
    (folder / "verify.py").write_text(Path(bundle_verifier.__file__).read_text("utf-8"))
    return Bundle(total, len(filed), key.identity)
