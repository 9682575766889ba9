"""What a signature costs an execution: making it where the message is sent, and checking it where it arrives; sends nothing."""

import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from kombu import Message

from federation.delivery.envelope import HEADER, SIGNATURE, Envelope, Signature, settled
from federation.delivery.gate import signature_flaw
from federation.delivery.known_signers import KnownSigner
from federation.delivery.signer import Signer
from federation.placement.requirements import Requirements

ROUNDS, MESSAGES = 15, 400
# As Celery's messages are, with arguments of some hundred bytes.
KWARGS = {"prompt": "Name one thing that a task queue must never do. " * 8, "max_tokens": 64, "model": "SmolLM2-135M-Instruct"}


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds an execution, medians of the rounds; `bare_us` is what Ed25519 takes of them, for as many bytes."""

    signing_us: float
    checking_us: float
    bare_us: float

    @property
    def both_us(self) -> float:
        return self.signing_us + self.checking_us


class _Registered(Signer):
    def register(self) -> None:
        """Pass: what a process does once at its start is not an execution's."""


def measure(folder: Path) -> Cost:
    """Sign and check the same kind of message again and again; the key is made in this folder."""
    signer = _Registered("service:benchmark", folder, "")
    signers_key = KnownSigner(signer.name, signer.key.public, None, 0.0)
    signing, checking, bare = [], [], []
    for number in range(ROUNDS + 1):
        messages = [_message() for _ in range(MESSAGES)]
        began = time.perf_counter()
        signatures = [
            signer.sign(settled(headers), body, node=None, content_type="application/json", content_encoding="utf-8") for headers, body in messages
        ]
        middle = time.perf_counter()
        arrived: list[Message] = [
            _arrived({**headers, SIGNATURE: signature}, body) for (headers, body), signature in zip(messages, signatures, strict=True)
        ]
        before = time.perf_counter()
        flaws = [signature_flaw(message, Signature.model_validate(message.headers[SIGNATURE]), signers_key) for message in arrived]
        after = time.perf_counter()
        assert not any(flaws), flaws
        said = [json.dumps(headers).encode() + body for headers, body in messages]
        public = signer.key.public
        again = time.perf_counter()
        assert all(public.signed(each, signer.key.sign(each)) for each in said)
        end = time.perf_counter()
        if number:
            bare.append((end - again) / MESSAGES * 1e6)
            signing.append((middle - began) / MESSAGES * 1e6)
            checking.append((after - before) / MESSAGES * 1e6)
    return Cost(median(signing), median(checking), median(bare))


def _arrived(headers: dict[str, Any], body: Any) -> Message:
    return Message(body=body, content_type="application/json", content_encoding="utf-8", headers=headers)


def _message() -> tuple[dict[str, Any], bytes]:
    identity = str(uuid.uuid4())
    envelope = Envelope(actor="ada", trace_id=uuid.uuid4().hex, requirements=Requirements(engine="llamacpp", model="SmolLM2-135M-Instruct"))
    headers: dict[str, Any] = {
        "lang": "py",
        "task": "federation.tasks.inference.infer",
        "id": identity,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": identity,
        "parent_id": None,
        "argsrepr": "()",
        "kwargsrepr": repr(KWARGS),
        "origin": "gen1@here",
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
        HEADER: envelope.header(),
    }
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return headers, json.dumps([[], KWARGS, embed]).encode()
