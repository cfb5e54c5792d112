# Sourced by its neighbours: a step is said, then done, unless --dry-run. Knows
# no cloud.
# shellcheck shell=bash

dry= # not empty: say, and do nothing
child= # the step that is being done

# WORD …: a mistake, told in one sentence before anything is made.
refuse() {
  printf 'launch/%s: %s\n' "${0##*/}" "$*" >&2
  exit 2
}

# WORD …: what went wrong while something was done.
fail() {
  printf 'launch/%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# NAME EXAMPLE: refuses where the variable is not set.
need() {
  [[ -n ${!1:-} ]] || refuse "$1 is not set; say it in front, $1=$2 $0 …"
}

# PROGRAM: refuses where it is not installed; a dry run needs none.
need_program() {
  [[ -n $dry ]] || command -v "$1" > /dev/null ||
    refuse "$1 is not installed or not on PATH; --dry-run needs none"
}

# FLAG …: what --workdir among flags of ptjax.main names.
workdir_of() {
  local word found=
  for word; do
    [[ $word != --workdir=* ]] || found=${word#--workdir=}
  done
  printf '%s' "$found"
}

# FLAG …: refuses flags of ptjax.main whose --workdir ends with the machine.
need_workdir() {
  local found
  found=$(workdir_of "$@")
  [[ $found == /* || $found == gs://?*/?* ]] ||
    refuse "--workdir=${found:-…} must be an absolute folder that all hosts" \
      'share and that outlives them, or one in a bucket; name it with' \
      '--workdir=/FOLDER or --workdir=gs://BUCKET/FOLDER behind the verb'
}

# WORD …: as a shell reads them again.
quoted() {
  local word between=
  for word; do
    if [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then
      :
    elif [[ $word == *\'* ]]; then
      printf -v word %q "$word"
    else
      word="'$word'"
    fi
    printf '%s%s' "$between" "$word"
    between=' '
  done
}

say() {
  if [[ -n $dry ]]; then
    printf '%s\n' "$(quoted "$@")" >&3
  else
    printf '+ %s\n' "$(quoted "$@")" >&2
  fi
}
exec 3>&1 # what a dry run says, also from where output is read

# COMMAND …: done in the background, so that a trap is heard meanwhile.
step() {
  say "$@"
  [[ -z $dry ]] || return 0
  "$@" <&0 &
  child=$!
  local code real
  while
    code=0
    wait "$child" || code=$?
    kill -0 "$child" 2> /dev/null
  do :; done # a trap ended the waiting, not the child
  if ((code > 128)); then
    real=0
    wait "$child" 2> /dev/null || real=$?
    ((real == 127)) || code=$real
  fi
  child=
  return "$code"
}

# INSTEAD COMMAND …: its output; in a dry run, INSTEAD.
ask() {
  say "${@:2}"
  if [[ -n $dry ]]; then echo "$1"; else "${@:2}"; fi
}

# Ends the step that is being done.
end_child() {
  [[ -z $child ]] || kill -TERM "$child" 2> /dev/null || true
  child=
}

# Calls clean_up, which its file has, however the script ends.
clean_up_at_end() {
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
}

# The first thing that clean_up does: nothing stops it any more.
begin_clean_up() {
  trap - EXIT
  trap '' INT TERM HUP
  end_child
}

# COST COMMAND …: deletes $NAME; where that fails, it and the cost are told.
remove() {
  local cost=$1
  shift
  step "$@" && return
  # shellcheck disable=SC2153 # NAME is the user's
  echo "launch/${0##*/}: $NAME is NOT deleted, and $cost; delete it by:" \
    "$(quoted "$@")" >&2
  return 1
}
