#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
exec python3 tests/tools/gpu_table_test.py
