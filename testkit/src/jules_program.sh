#!/bin/sh
# A stand-in of Jules' command-line program 0.1.42: the documented commands and the form of what they print.
# A session does what words in its prompt order: end=failed, end=feedback, end=plan, end=never, new=PATH, silent, lost.
# What it was called with is in $HOME/jules/calls, a line for each call; $HOME/jules/logged-out makes it so.
set -eu
state="$HOME/jules"
mkdir -p "$state"

line() { printf '%s' "$*" | tr '\n' ' '; echo; }
line "$@" >>"$state/calls"

if [ "${1-}" = version ]; then
  echo "Version: v0.1.42"
  exit 0
fi
if [ -e "$state/logged-out" ]; then
  echo "Error: Trying to make a GET request without a valid client (did you forget to login?)" >&2
  exit 1
fi

case "${1-} ${2-}" in
"remote new")
  shift 2
  prompt='' repo=''
  while [ $# -gt 0 ]; do
    case "$1" in
    --repo) repo="$2" ;;
    --session) prompt="$2" ;;
    *) echo "Error: unknown flag: $1" >&2 && exit 1 ;;
    esac
    shift 2
  done
  [ "$repo" = acme/demo ] || { echo "Error: repo $repo is not connected" >&2 && exit 1; }
  number=$(find "$state" -name '*.prompt' | wc -l)
  id=$((1001 + number))
  printf '%s' "$prompt" >"$state/$id.prompt"
  echo 0 >"$state/$id.looks"
  case "$prompt" in *lost*) exit 1 ;; esac
  echo "Session is created."
  echo "ID: $id"
  echo "URL: https://jules.google.com/session/$id"
  ;;
"remote list")
  [ "${3-}" = --session ] || { echo "Error: unknown flag: ${3-}" >&2 && exit 1; }
  echo "  ID      Description                        Repo        Last active   Status"
  for file in "$state"/*.prompt; do
    [ -e "$file" ] || continue
    id=$(basename "$file" .prompt)
    looks=$(($(cat "$state/$id.looks") + 1))
    echo "$looks" >"$state/$id.looks"
    status='In Progress'
    if [ "$looks" -gt 2 ]; then
      case "$(cat "$file")" in
      *end=failed*) status=Failed ;;
      *end=feedback*) status='Awaiting User F…' ;;
      *end=plan*) status='Awaiting Plan A…' ;;
      *end=never*) ;;
      *) status=Completed ;;
      esac
    fi
    description=$(line "$(cut -c1-20 "$file")")
    echo "  $id    $description              acme/demo   1m ago        $status"
  done
  ;;
"remote pull")
  [ "${3-}" = --session ] || { echo "Error: unknown flag: ${3-}" >&2 && exit 1; }
  path=$(sed -n 's/.*new=\([^ ]*\).*/\1/p' "$state/$4.prompt")
  if [ -n "$path" ]; then
    printf 'diff --git a/%s b/%s\nnew file mode 100644\n--- /dev/null\n+++ b/%s\n@@ -0,0 +1 @@\n+by %s\n' \
      "$path" "$path" "$path" "$4"
  elif ! grep -q silent "$state/$4.prompt"; then
    echo "No changes in session $4."
  fi
  ;;
*)
  echo "Error: could not open a new TTY" >&2
  exit 1
  ;;
esac
