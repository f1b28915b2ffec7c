#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs every GPU test and bench of a bundle (tools/gpu_bundle.sh) on this
# machine, one after another, and prints one table last. Needs nothing but the
# bundle, a driver, Python, cuBLAS and, for two GPUs or more, NCCL.
#
# Usage: gpu_check.sh BUNDLE [LOG_FOLDER] [--only=PART,...] [--seconds=N]
#     [--quick] [--sanitize] [--fa3=FOLDER] [--vllm=FOLDER] [--hf[=FOLDER]]
#   --only      of these parts, in this order: tests, memcheck, racecheck,
#               kernels, steps, serve, loss
#   --seconds   begins nothing that might not end in so many seconds, 570 for
#               what takes longest, and nothing that LOG_FOLDER tells the end of.
#               A machine that bounds the time of a command runs the same
#               command again while it exits with 3
#   --quick     benches on fewer sizes
#   --sanitize  with memcheck and racecheck, which else only --only runs
#   --fa3       see kernel_bench.py
#   --vllm, --hf  to be measured beside; see cluster_bench.py
#
# The table is of all that ran with that LOG_FOLDER. Exit 1 if a test or a
# bench failed or did not end in time, if one that the bundle's MANIFEST names
# is missing or there is no test; else 3 if something is left.
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

bundle='' logs='' quick=() seconds='' vllm='' hf='' fa3=()
parts='tests kernels steps serve loss' sanitize=''
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for arg in "$@"; do
  case $arg in
    --only=*) parts=${arg#*=} parts=${parts//,/ } ;;
    --seconds=*) seconds=${arg#*=} ;;
    --quick) quick=(--quick) ;;
    --sanitize) sanitize='memcheck racecheck' ;;
    --fa3=*) fa3=("$arg") ;;
    --vllm=*) vllm=$arg ;;
    --hf | --hf=*) hf=$arg ;;
    -*) die "unknown option $arg" ;;
    *) if [[ -z $bundle ]]; then bundle=$arg; else logs=$arg; fi ;;
  esac
done
parts+=" $sanitize"
[[ -n ${parts// /} ]] || die "no part is named"
for part in $parts; do
  case $part in
    tests | memcheck | racecheck | kernels | steps | serve | loss) ;;
    *) die "no part is named $part" ;;
  esac
done
[[ -d $bundle/bin ]] || die "usage: gpu_check.sh BUNDLE [LOG_FOLDER]"
[[ -f $bundle/MANIFEST ]] ||
  die "$bundle has no MANIFEST: tools/gpu_bundle.sh makes bundles"
bundle=$(cd "$bundle" && pwd)
logs=${logs:-$(mktemp -d)}
mkdir -p "$logs"
if [[ ! -f $logs/MANIFEST ]]; then
  cp "$bundle/MANIFEST" "$logs"
fi
cmp -s "$bundle/MANIFEST" "$logs/MANIFEST" ||
  die "$logs tells of another bundle"
book=$logs/book.tsv
touch "$book"
# Where tests look for their data: in the bundle or, without, in this checkout.
if [[ ! -d $bundle/data ]]; then
  [[ -d $here/../tests/golden ]] || die "the bundle has no data, nor has $here"
  mkdir "$bundle/data"
  ln -s "$(cd "$here/.." && pwd)" "$bundle/data/quire"
fi
export TEST_SRCDIR=$bundle/data
command -v nvidia-smi >/dev/null || die "no nvidia-smi: is there a driver?"
num_gpus=$(nvidia-smi --query-gpu=index --format=csv,noheader | wc -l)
find_library QUIRE_CUBLASLT libcublasLt.so.13 nvidia.cu13
find_library QUIRE_NCCL libnccl.so.2 nvidia.nccl
left=()

# Notes in the book that $2 of the part $1 ended as $3 after $4 seconds: $5.
note() {
  printf '%s\t%s\t%s\t%s\t%s\n' "$@" >>"$book"
  printf '%-34s %-5s %5s s  %s\n' "$2" "$3" "$4" "$5"
}

# Whether $1 is still to be done and there are $2 seconds for it.
can_begin() {
  [[ -n $seconds ]] || return 0
  cut -f2,3 "$book" | grep -Eq "^$1"$'\t(ok|FAIL|late)$' && return 1
  ((SECONDS + $2 <= seconds)) && return
  left+=("$1")
  return 1
}

# Runs $4..., which is $2 of the part $1, for $3 seconds at most, into a log.
run() {
  local part=$1 name=$2 limit=$3 start=$SECONDS status=ok code remark
  can_begin "$name" "$limit" || return 0
  shift 3
  timeout --kill-after=10 "$limit" "$@" >"$logs/$name.log" 2>&1
  code=$?
  case $code in
    0) ;;
    3) status=left left+=("$name") ;;  # gpu_sanitize.py goes on another time
    124 | 137) status=late ;;
    *) status=FAIL ;;
  esac
  remark=$(sed -nE 's/^\[  (PASSED|FAILED)  \] ([0-9]+ tests?).*/\1 \2/p
    s/^\[  SKIPPED \] ([0-9]+) tests?, .*/\1 skipped/p' "$logs/$name.log" |
    paste -sd,)
  # Nothing of it could run here.
  [[ $status$remark != 'okPASSED 0 tests'* ]] || status=skip
  note "$part" "$name" "$status" $((SECONDS - start)) "$remark"
  [[ $status != FAIL && $status != late ]] ||
    grep -vE '^\[ RUN|^\[       OK' "$logs/$name.log" | tail -30
}

# The names of a kind in the manifest that are there; notes which are not.
bundled() {
  local kind name
  while read -r kind name; do
    [[ $kind == "$1" ]] || continue
    if [[ -x $bundle/bin/$name ]]; then
      echo "$name"
    else
      note "$2" "$name" FAIL 0 "the bundle lacks it" >&2
    fi
  done <"$bundle/MANIFEST"
}

has() {
  [[ -x $bundle/bin/$1 ]]
}

# Whether there are $3 GPUs for $2 of the part $1; what needs more is told.
has_gpus() {
  ((num_gpus >= $3)) && return
  note "$1" "$2" skip 0 "needs $3 GPUs, there are $num_gpus"
  return 1
}

part_tests() {
  local names name
  bundled program tests >/dev/null
  names=$(bundled test tests)
  [[ -n $names ]] || note tests tests FAIL 0 "the bundle has no test"
  for name in $names; do
    run tests "$name" 200 "$bundle/bin/$name" --gtest_brief=0
  done
}

sanitize() {
  # It leaves by itself what it has no time for.
  local limit=36000 bound=()
  if [[ -n $seconds ]]; then
    limit=$((seconds - SECONDS - 5))
    bound=("--seconds=$limit")
    ((limit > 0)) || limit=$seconds
  fi
  run "$1" "$1" "$limit" python3 "$here/gpu_sanitize.py" "$bundle" "$logs" \
    "$1" "${bound[@]}"
}
part_memcheck() { sanitize memcheck; }
part_racecheck() { sanitize racecheck; }

part_kernels() {
  local name
  for name in $(bundled bench kernels); do
    [[ $name == all_reduce_bench || $name == nccl_bench ]] || continue
    has_gpus kernels "$name" 2 || continue
    run kernels "$name" 200 "$bundle/bin/$name"
  done
  run kernels kernel_bench 550 python3 "$here/kernel_bench.py" "$bundle" \
    "$logs" "${quick[@]}" "${fa3[@]}"
}

# Whole steps of the model $1 on $2 ranks, by engine_bench with the flags $4....
steps() {
  local name=$1.tp$2$3 model=$1 ranks=$2 few=()
  shift 3
  has_gpus steps "$name" "$ranks" || return 0
  [[ ${#quick[@]} == 0 && $ranks == 1 ]] ||
    few=(--decodes=1x512,32x512,256x512 --mixes= --prefills=1920)
  run steps "$name" 280 "$bundle/bin/engine_bench" \
    --model="$TEST_SRCDIR/quire/tools/bench/$model" \
    --tensor_parallel_size="$ranks" --gemm_cache="$logs/gemm" "${few[@]}" "$@"
}

part_steps() {
  local ranks
  if ! has engine_bench; then
    note steps engine_bench FAIL 0 "the bundle lacks it"
    return
  fi
  # What only a machine of many GPUs can show comes first.
  for ranks in 4 8; do steps llama_3_1_8b "$ranks" ''; done
  for ranks in 4 8; do steps llama_3_3_70b "$ranks" ''; done
  for ranks in 1 2; do steps llama_3_1_8b "$ranks" ''; done
  steps llama_3_1_8b 1 .deterministic --deterministic
}

# A server of the model $1 on $2 groups of $3 ranks, by cluster_bench with the
# flags $5....
serve() {
  local name=$1.dp$2.tp$3$4 model=$1 groups=$2 ranks=$3 limit=300
  shift 4
  has_gpus serve "$name" $((groups * ranks)) || return 0
  [[ $* != *--vllm* && $* != *--hf* ]] || limit=550
  run serve "$name" "$limit" python3 "$here/cluster_bench.py" "$bundle" \
    "$logs/$name" "$model" --data_parallel_size="$groups" \
    --tensor_parallel_size="$ranks" --max_num_seqs=1024 \
    --max_num_batched_tokens=4096 --max_queued_requests=4096 "$@"
}

part_serve() {
  local few=() ranks
  [[ ${#quick[@]} == 0 ]] || few=(--no-steps --num_prompts=500)
  for program in quire quire_coordinator quire_worker loadgen; do
    has "$program" && continue
    note serve "$program" FAIL 0 "the bundle lacks it"
    return
  done
  for ranks in 4 8; do
    serve llama_3_1_8b 1 "$ranks" '' "${few[@]}" ${vllm:+"$vllm"}
  done
  for ranks in 4 8; do serve llama_3_3_70b 1 "$ranks" '' "${few[@]}"; done
  serve llama_3_1_8b 4 2 '' "${few[@]}"
  has group_step_bench &&
    run serve group_step_bench 200 "$bundle/bin/group_step_bench" \
      --shapes=1x1,1x8,4x2
  serve llama_3_1_8b 1 1 '' "${few[@]}" ${vllm:+"$vllm"} ${hf:+"$hf"}
  serve llama_3_1_8b 1 2 '' "${few[@]}" ${vllm:+"$vllm"}
  run serve weights_bench 120 python3 "$here/weights_bench.py" "$bundle" \
    "$logs/weights" llama_3_1_8b
  serve opt_13b 1 1 '' "${few[@]}" ${vllm:+"$vllm"}
  serve llama_2_13b 1 1 '' "${few[@]}"
  for ranks in 1 2; do serve llama_3_1_8b 1 "$ranks" .verify --verify; done
}

# A rank of two is killed while it serves.
part_loss() {
  has_gpus loss group_loss 2 || return 0
  run loss group_loss 200 python3 "$here/group_loss.py" "$bundle" \
    "$logs/group_loss"
}

for part in $parts; do "part_$part"; done
echo
python3 "$here/gpu_table.py" "$bundle" "$logs"
status=$?
if ((${#left[@]} > 0)); then
  echo "left for another call: ${left[*]}"
  ((status == 0)) && status=3
fi
exit "$status"
