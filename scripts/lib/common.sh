# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts share: talking to people, building as the user who called sudo, progress for long steps.
# Sourced by scripts that have set -euo pipefail and `top`, the root of the repository.

# shellcheck disable=SC2034
if [ -t 1 ]; then bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' red='' green='' dim='' plain=''; fi

say() { printf '%s\n' "$*"; }
title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
die() {
  printf '%s%s: %s%s\n' "$red" "$(basename "$0")" "$1" "$plain" >&2
  exit "${2:-1}"
}

# The user whose files the build makes: who called sudo, else who runs this.
build_user=${SUDO_USER:-$(id -un)}
[ "$(id -u)" -eq 0 ] || build_user=$(id -un)

as_build_user() {
  if [ "$build_user" = "$(id -un)" ]; then
    "$@"
  else
    local home
    home=$(getent passwd "$build_user" | cut -d: -f6)
    local cache=()
    [ -d "$home" ] || cache=(CCACHE_DISABLE=1) # its cache would have no place
    runuser -u "$build_user" -- env HOME="$home" "${cache[@]}" "$@"
  fi
}

# with_progress LABEL LOG COMMAND...: output to LOG, on the terminal one line that moves (elsewhere one each 30 s).
with_progress() {
  local label=$1 log=$2 start=$SECONDS shown=0 step status=0
  shift 2
  "$@" >"$log" 2>&1 &
  local pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    step=$(tail -c 2000 "$log" 2>/dev/null | grep -ao '^\[[0-9]*/[0-9]*\]\|^ *[0-9]*/[0-9]* Test' | tail -n 1 || true)
    if [ -t 1 ]; then
      printf '\r%s %s %s %d s \e[K' "$label" "${dim}" "$step${plain}" $((SECONDS - start))
    elif [ $((SECONDS - start)) -ge $((shown + 30)) ]; then
      shown=$((SECONDS - start))
      printf '%s %s %d s\n' "$label" "$step" "$shown"
    fi
    sleep 0.3
  done
  wait "$pid" || status=$?
  if [ -t 1 ]; then printf '\r\e[K'; fi
  return "$status"
}

# build PRESET TARGET...: configures once (with $configure_flag) and builds as the build user; "all" builds everything.
# Log: build/PRESET.log
build() {
  local preset=$1 status=0
  shift
  # shellcheck disable=SC2154
  as_build_user mkdir -p "$top/build" 2>/dev/null || true
  as_build_user test -w "$top/build" ||
    die "user $build_user can't write $top/build; remove it, or give it back: chown -R $build_user $top/build"
  local log=$top/build/$preset.log start=$SECONDS
  as_build_user touch "$log"
  # shellcheck disable=SC2016
  with_progress "  building $preset" "$log" as_build_user bash -c \
    'cd "$1" && { [ -f build/$2/build.ninja ] || cmake --preset "$2" $3; } && cmake --build --preset "$2" --target "${@:4}"' \
    bash "$top" "$preset" "${configure_flag:-}" "$@" || status=$?
  if [ "$status" -ne 0 ]; then
    grep -aE 'error|FAILED|Error' "$log" | head -n 20 >&2 || true
    tail -n 15 "$log" >&2
    say "  the whole log is $log" >&2
    return "$status"
  fi
  say "  built $preset in $((SECONDS - start)) s"
}

# built PRESET PROGRAM: where the program is.
built() { find "$top/build/$1" -maxdepth 3 -name "$2" -type f -perm -u+x | head -n 1; }

# The cgroup2 mount; not always /sys/fs/cgroup.
cgroup2_mount() { awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts; }
