#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
exec python3 tests/tools/cluster_bench_test.py
