# ruff: noqa: T201 - it answers line by line
"""A process that claims and writes as it is told, a line at a time; tests stop it at bad moments: `claim_holder.py NAME APP_URL SERVICE_URL`."""

import os
import signal
import sys
from typing import Any

from federation.errors import FederationError
from federation.services import claims, resource_claims
from federation.services.resources import parsed
from federation.store import event_log
from federation.transaction import Silent, Transactions, connect

WRITTEN = "test.written"


def write(session: Any, resource: str, token: int) -> None:
    """Do what only the holder may: the check first, then the write, in one transaction."""
    claims.require(session, parsed(resource), token)
    event_log.append(session, WRITTEN, f"claim:{resource}", payload={"fencing_token": token})


def main(name: str, app_url: str, service_url: str) -> None:
    claims.SILENT_AT_MOST_S = 1
    transactions = Transactions(connect(app_url, most=2), Silent(), service=connect(service_url, most=2))
    print("ready", flush=True)
    for line in sys.stdin:
        verb, resource, number = line.split()
        try:
            with transactions.begin(name) as session:
                if verb == "claim":
                    print(resource_claims.take(session, resource, ttl_s=float(number)).fencing_token, flush=True)
                    continue
                write(session, resource, int(number))
                if verb == "stop":
                    print("stopped", flush=True)
                    os.kill(os.getpid(), signal.SIGSTOP)
            print("written", flush=True)
        except FederationError as error:
            print(f"{type(error).__name__}: {error}".replace("\n", " "), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
