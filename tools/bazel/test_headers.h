// SPDX-License-Identifier: Apache-2.0
//
// What most tests read of other people's headers, compiled once for all of
// them (quire.bzl). Tests include what they use all the same: optimised builds
// and product code go without this.
#ifndef TOOLS_BAZEL_TEST_HEADERS_H_
#define TOOLS_BAZEL_TEST_HEADERS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "glog/logging.h"

#endif  // TOOLS_BAZEL_TEST_HEADERS_H_
