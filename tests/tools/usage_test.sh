#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
exec python3 tests/tools/usage_test.py
