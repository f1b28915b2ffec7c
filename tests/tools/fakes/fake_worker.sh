#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A program that behaves to its launcher like a worker. --fake=fail makes rank 1
# complain and exit with 1; otherwise every rank waits for SIGTERM.
trap 'exit 0' TERM
rank=
fails=
for arg in "$@"; do
  case $arg in
    --rank=*) rank=${arg#--rank=} ;;
    --fake=fail) fails=1 ;;
  esac
done
echo "worker $rank: $*" >&2
if [ -n "$fails" ] && [ "$rank" = 1 ]; then
  echo "tensor model.norm.weight of model.safetensors is truncated" >&2
  exit 1
fi
# Waits without end and without a process of its own for it.
fifo=$(mktemp -u)
mkfifo "$fifo"
exec 3<>"$fifo"
rm -f "$fifo"
while :; do read -r line <&3; done
