#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs every GPU test and bench of a bundle (tools/bundle.sh) on this machine
# and prints one table last. Needs nothing but the bundle, a driver, cuBLAS and,
# for two GPUs or more, NCCL.
#
# Usage: gpu_check.sh BUNDLE [LOG_FOLDER] [--quick] [--sanitize] [--fa3=FOLDER]
#     [--vllm=FOLDER]
#   --quick     benches on fewer sizes
#   --sanitize  tests again under compute-sanitizer, memcheck and racecheck
#   --fa3       see kernel_bench.py
#   --vllm      vLLM's packages, to be measured beside; see cluster_bench.py
#
# A bundle for all of it holds as data tests/golden, tools/demo_model and
# tools/bench and tools/workloads, and beside the tests and benches
# tools/bench:engine_bench and, to serve from groups and to kill ranks of one
# (group_loss.py), tools:quire, coordinator:quire_coordinator,
# worker:quire_worker and tools:loadgen; for cuda_lost_worker_test also
# tests/worker/service:poisoned_worker.
# Exit 1 if a test failed.
set -uo pipefail

die() {
  echo "gpu_check: $*" >&2
  exit 2
}

# Lets the variable $1 name the library $2 of the Python package $3, where the
# system has none.
find_library() {
  [[ -n ${!1:-} ]] && return
  ldconfig -p 2>/dev/null | grep -F "$2" >/dev/null && return
  [[ -f /usr/local/cuda/lib64/$2 ]] && return
  local found
  found=$(python3 -c 'import importlib.util as u, os, sys
s = u.find_spec(sys.argv[1])
print(os.path.join(list(s.submodule_search_locations)[0], "lib"))' "$3" \
    2>/dev/null)
  if [[ -f $found/$2 ]]; then
    export "$1=$found/$2"
  fi
}

sanitizer() {
  command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer \
    /opt/nvidia/*/compute-sanitizer 2>/dev/null | head -1
}

bundle='' logs='' quick='' sanitize='' fa3='' vllm=''
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for arg in "$@"; do
  case $arg in
    --quick) quick=--quick ;;
    --sanitize) sanitize=1 ;;
    --fa3=*) fa3=$arg ;;
    --vllm=*) vllm=${arg#*=} ;;
    -*) die "unknown option $arg" ;;
    *) if [[ -z $bundle ]]; then bundle=$arg; else logs=$arg; fi ;;
  esac
done
[[ -d $bundle/bin ]] || die "usage: gpu_check.sh BUNDLE [LOG_FOLDER]"
logs=${logs:-$(mktemp -d)}
# Where tests look for their data; the bundle keeps it.
TEST_SRCDIR=$(cd "$bundle" && pwd)/data
export TEST_SRCDIR
mkdir -p "$logs"
command -v nvidia-smi >/dev/null || die "no nvidia-smi: is there a driver?"
nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,temperature.gpu \
  --format=csv,noheader | head -1
find_library QUIRE_CUBLASLT libcublasLt.so.13 nvidia.cu13
find_library QUIRE_NCCL libnccl.so.2 nvidia.nccl

table=() failed=0
# Runs "$2"... into a log named $1 and notes the outcome.
run() {
  local name=$1 start=$SECONDS status=ok note skipped
  shift
  "$@" >"$logs/$name.log" 2>&1 || { status=FAIL failed=1; }
  note=$(grep -E '^\[  (PASSED|FAILED)  \] [0-9]+ tests?' "$logs/$name.log" |
    tail -1 | sed 's/^\[  \([A-Z]*\)  \] /\1 /; s/\.$//')
  skipped=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) tests\?, .*/, \1 skipped/p' \
    "$logs/$name.log")
  note+=$skipped
  [[ -n $note ]] || note=$(grep 'ERROR SUMMARY' "$logs/$name.log" | tail -1)
  if [[ $status == FAIL ]]; then
    grep -vE '^\[ RUN|^\[       OK' "$logs/$name.log" | tail -30
  fi
  table+=("$(printf '%-34s %-5s %4d s  %s' "$name" "$status" \
    $((SECONDS - start)) "$note")")
}

# Runs shard $3 of $4 of the test $2 under the sanitizer's tool $1.
check() {
  local log=$logs/$2.$1.$3.log
  # Tests provoke failing calls on purpose; kernels of others are theirs to check.
  GTEST_TOTAL_SHARDS=$4 GTEST_SHARD_INDEX=$3 timeout 600 "$(sanitizer)" \
    --tool "$1" --report-api-errors no --kernel-name kns=quire --print-limit 5 \
    --error-exitcode 9 "$bundle/bin/$2" --gtest_filter='-*Death*:*Follow*' \
    >"$log" 2>&1
  echo "$?" >"$log.status"
}
# Every test with kernels of this project, three cases a process and as many
# processes at once as there are cores: most of their time is the reference's.
# Ranks wait for each other in time that the sanitizer does not give them, and
# mapped pages have no kernels.
check_all() {
  local name kind shard shards status summary
  for kind in memcheck racecheck; do
    for name in "$@"; do
      case $name in *peer* | nccl* | *group* | *virtual_memory* | *lost*) continue ;; esac
      shards=$((($("$bundle/bin/$name" --gtest_list_tests | grep -c '^  ') + 2) / 3))
      for ((shard = 0; shard < shards; ++shard)); do
        while (($(jobs -rp | wc -l) >= $(nproc))); do wait -n; done
        check "$kind" "$name" "$shard" "$shards" &
      done
    done
  done
  wait
  for log in "$logs"/*.{memcheck,racecheck}.*.log; do
    status=ok summary=$(grep 'SUMMARY' "$log" | tail -1)
    [[ $(<"$log.status") == 0 ]] || { status=FAIL failed=1; }
    [[ $status == ok ]] || grep -v '^\[' "$log" | head -30
    table+=("$(printf '%-34s %-5s %6s  %s' "$(basename "$log" .log)" "$status" \
      '' "${summary#========= }")")
  done
}

tests=()
for program in "$bundle"/bin/*_test; do
  [[ -e $program ]] || continue
  tests+=("$(basename "$program")")
  run "${tests[-1]}" timeout 300 "$program" --gtest_brief=0
done
if [[ -n $sanitize ]]; then
  [[ -n $(sanitizer) ]] || die "no compute-sanitizer"
  check_all "${tests[@]}"
fi
# Ranks killed while they serve.
if [[ -e $bundle/bin/quire_coordinator && -e $bundle/bin/loadgen ]] &&
  (($(nvidia-smi -L | wc -l) >= 2)); then
  run group_loss timeout 200 python3 "$here/group_loss.py" "$bundle" \
    "$logs/group_loss"
  cat "$logs/group_loss.log"
fi
# Kernels beside their limits and peers, then whole steps.
if compgen -G "$bundle/bin/*_bench" >/dev/null; then
  # shellcheck disable=SC2086
  run kernel_bench timeout 900 python3 "$here/kernel_bench.py" "$bundle" \
    "$logs" $quick $fa3
  cat "$logs/kernel_bench.log"
fi
for program in "$bundle"/bin/*_bench; do
  [[ -e $program ]] || continue
  name=$(basename "$program")
  case $name in
    attention_bench | moe_bench | op_bench | product_bench | sampler_bench | \
      engine_bench) continue ;;
  esac
  # shellcheck disable=SC2086
  run "$name" timeout 600 "$program" $quick
  cat "$logs/$name.log"
done
engine=$bundle/bin/engine_bench model=$TEST_SRCDIR/quire/tools/bench/llama_3_1_8b
if [[ -e $engine && -d $model ]]; then
  few=()
  [[ -z $quick ]] || few=(--decodes=1x512,32x512,256x512 --mixes= --prefills=1920)
  run engine_bench timeout 600 "$engine" --model="$model" \
    --gemm_cache="$logs/gemm" "${few[@]}"
  cat "$logs/engine_bench.log"
  # What --deterministic costs.
  run engine_bench.deterministic timeout 600 "$engine" --model="$model" \
    --deterministic --gemm_cache="$logs/gemm" "${few[@]}"
  cat "$logs/engine_bench.deterministic.log"
fi

# Groups of GPUs: whole steps, then a server with one and with several groups.
# What needs more GPUs than there are is skipped by name.
num_gpus=$(nvidia-smi --query-gpu=index --format=csv,noheader | wc -l)
has_gpus() {
  ((num_gpus >= $2)) && return
  table+=("$(printf '%-34s %-5s %6s  %s' "$1" skip '' \
    "needs $2 GPUs, there are $num_gpus")")
  return 1
}

# Steps of the model $1 on $2 ranks.
step_groups() {
  local name=$1.tp$2
  [[ -e $engine ]] && has_gpus "$name" "$2" || return 0
  run "$name" timeout 300 "$engine" \
    --model="$TEST_SRCDIR/quire/tools/bench/$1" --tensor_parallel_size="$2" \
    --gemm_cache="$logs/gemm" --decodes=1x512,32x512,256x512 --mixes= \
    --prefills=1920
  cat "$logs/$name.log"
}

# Steps and ShareGPT's lengths at once, against a server of the model $1 on $2
# groups of $3 ranks.
serve_groups() {
  local name=$1.dp$2.tp$3 few=() peer=()
  [[ -e $bundle/bin/loadgen && -e $bundle/bin/quire ]] &&
    has_gpus "$name" $(($2 * $3)) || return 0
  [[ -z $quick ]] || few=(--no-steps --num_prompts=500)
  [[ -z $vllm || $2 != 1 ]] || peer=("--vllm=$vllm")
  run "$name" timeout 900 python3 "$here/cluster_bench.py" "$bundle" \
    "$logs/$name" "$1" --data_parallel_size="$2" --tensor_parallel_size="$3" \
    --max_num_seqs=1024 --max_num_batched_tokens=4096 \
    --max_queued_requests=4096 "${few[@]}" "${peer[@]}"
  cat "$logs/$name.log"
}

for ranks in 2 4 8; do step_groups llama_3_1_8b "$ranks"; done
for ranks in 4 8; do step_groups llama_3_3_70b "$ranks"; done
serve_groups llama_3_1_8b 1 1
serve_groups llama_2_13b 1 1
serve_groups opt_13b 1 1
serve_groups llama_3_1_8b 1 2
serve_groups llama_3_1_8b 1 4
serve_groups llama_3_1_8b 1 8
serve_groups llama_3_1_8b 4 2
serve_groups llama_3_3_70b 1 4
serve_groups llama_3_3_70b 1 8
echo
printf '%s\n' "${table[@]}"
exit "$failed"
