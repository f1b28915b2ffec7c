#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Remakes the demo model from nothing: corpus, tokenizer, training, samples.
# Needs one GPU and the packages of requirements.txt.
#
# Usage: tools/demo_model/build.sh WORK_DIR [train.py flags]
set -euo pipefail
readonly HERE="$(cd "$(dirname "$0")" && pwd)"
readonly WORK_DIR="${1:?usage: build.sh WORK_DIR [train.py flags]}"
shift

python3 "$HERE/make_corpus.py" --output_dir="$WORK_DIR/corpus"
python3 "$HERE/train_tokenizer.py" --corpus_dir="$WORK_DIR/corpus" \
  --output_dir="$WORK_DIR/model"
python3 "$HERE/train.py" --corpus_dir="$WORK_DIR/corpus" \
  --model_dir="$WORK_DIR/model" "$@"
python3 "$HERE/check_samples.py" --model_dir="$WORK_DIR/model"
