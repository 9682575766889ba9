#!/usr/bin/env bash
# Says whether the broker takes a STOMP connection with the observer's password; in bash alone, because the image has no client.
set -euo pipefail
exec 3<>"/dev/tcp/${BROKER_HOST:-127.0.0.1}/${BROKER_STOMP_PORT:-61613}"
printf 'CONNECT\naccept-version:1.2\nhost:localhost\nlogin:observer\npasscode:%s\n\n\0' "$BROKER_OBSERVER_PASSWORD" >&3
read -r -t 3 answer <&3
[ "$answer" = CONNECTED ]
