#!/usr/bin/env bash
# Submits a step by curl and waits for its end. Needs a pod that runs (npm start).
#   examples/13-client.sh [http://localhost:8000]
set -euo pipefail

url="${1:-http://localhost:8000}"

field() { # the value of a text field of a JSON object on stdin
  sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"
}

step=$(curl -fsS "$url/submit" -H 'content-type: application/json' \
  -d '{"type": "hello_world", "args": {"name": "Ada"}, "tags": ["shell"]}' | field step_id)

for _ in $(seq 100); do
  status=$(curl -fsS "$url/status/$step" | field tray)
  [ "$status" = settled ] && break
  sleep 0.1
done

curl -fsS "$url/why/$step" | field sentence

# It prints:
# It is over: completed on attempt 1 at 2026-11-20T14:31:05.112Z.
