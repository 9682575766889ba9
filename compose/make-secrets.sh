#!/bin/sh
# Makes the passwords of compose.yaml in the file .env beside it, mode 0600; passwords that are there already stay.
set -eu
umask 077
folder=${1:-$(dirname "$0")}
file=$folder/.env
draft=$file.$$
trap 'rm -f "$draft"' EXIT
if [ -f "$file" ]; then cat "$file" >"$draft"; else : >"$draft"; fi
for name in BROKER_ADMIN_PASSWORD BROKER_WORKER_PASSWORD BROKER_DOOR_PASSWORD BROKER_RELAY_PASSWORD BROKER_OBSERVER_PASSWORD BROKER_OPERATOR_PASSWORD BROKER_STOMP_PASSWORD POSTGRES_PASSWORD OWNER_PASSWORD APP_PASSWORD SERVICE_PASSWORD AUDITOR_PASSWORD FLOWER_PASSWORD; do
    # Hexadecimal, so that it can stand in a URL and in XML as it is.
    grep -q "^$name=." "$draft" || printf '%s=%s\n' "$name" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" >>"$draft"
done
mv "$draft" "$file"
chmod 600 "$file"
echo "The passwords are in $file. Keep it: the volumes were made with them."
