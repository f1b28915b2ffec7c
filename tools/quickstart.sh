#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# From nothing to an answer on a bare Debian 12 machine: installs what is
# missing, builds, serves the demo model on two tensor-parallel CPU workers,
# streams an answer to the terminal, and leaves no process behind.
#
# Usage: tools/quickstart.sh ["prompt"]
set -euo pipefail
cd "$(dirname "$0")/.."

serve_pid=
scratch=$(mktemp -d)

# Ends the server, if it runs, and returns its exit status.
stop_server() {
  local status=0 pid=$serve_pid
  serve_pid=
  [[ -n $pid ]] || return 0
  kill -TERM "$pid" 2>/dev/null || true
  wait "$pid" || status=$?
  return "$status"
}

cleanup() {
  stop_server || true
  rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n== %s\n' "$*" >&2; }

# Streams the continuation of prompt $1, the prompt before it.
ask() {
  printf '\n%s' "$1"
  "$quire" generate "$1" --target="$public" --seed=7 "${@:2}"
}

say "1/4 packages"
tools/setup.sh
setup_s=$SECONDS

say "2/4 build (about 6 minutes the first time on 2 cores)"
bazel build --config=opt //tools:quire  # with the coordinator and the worker
# Bazel's server would stay; it has nothing more to do.
bazel shutdown
quire=bazel-bin/tools/quire/quire
build_s=$((SECONDS - setup_s))

say "3/4 serve on two tensor-parallel CPU workers"
"$quire" serve --tensor_parallel_size=2 --device=cpu \
  --port=0 --control_port=0 --metrics_port=0 \
  --ready_file="$scratch/ready" --log_dir="$scratch/logs" &
serve_pid=$!
while [[ ! -e $scratch/ready ]]; do
  if ! kill -0 "$serve_pid" 2>/dev/null; then
    status=0
    wait "$serve_pid" || status=$?
    serve_pid=
    exit "$((status == 0 ? 1 : status))"
  fi
  sleep 0.1
done
# public=host:port, control=host:port, metrics=host:port
# shellcheck disable=SC1091
. "$scratch/ready"
serve_s=$((SECONDS - setup_s - build_s))

say "4/4 generate"
if (($# > 0)); then
  ask "$1" --max_tokens=160
else
  ask "Once upon a time" --max_tokens=160 --temperature=0.8
  ask "What is a KV block?" --max_tokens=96 --temperature=0
fi
answer_s=$((SECONDS - setup_s - build_s - serve_s))

say "ending the server"
stop_server
cat >&2 <<END

took: packages ${setup_s} s, build ${build_s} s, start ${serve_s} s, answers ${answer_s} s; ${SECONDS} s in all

How to go on:
  $quire serve --tensor_parallel_size=2 --device=cpu
and in another terminal
  $quire generate "Tell me a story about a fox" --max_tokens=100
  $quire status
  bazel run --config=opt //tools:loadgen -- --num_prompts=100 --random_input_len=64 --random_output_len=64
  grpcurl -plaintext -d '{"text": "Once upon a time", "sampling": {"maxTokens": 40}}' localhost:8001 quire.v1.Inference/Generate
END
