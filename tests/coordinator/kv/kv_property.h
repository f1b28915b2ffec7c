// SPDX-License-Identifier: Apache-2.0
//
// Random use of a KV manager, judged by models that are plain enough to be
// right: a mirror of the workers (kv_mirror.h), counts over its tables, and, in
// cases where nothing may be lost, the set of all that was published and
// parked.
//
// The contents of a token's place stand for all tokens up to it, as its key and
// value do, and for whose they are: the scope, or in scope 0 the sequence and
// its forks. So a block found by mistake, moved wrongly, or overwritten is
// seen the next time that anyone who holds it is looked at.
#ifndef TESTS_COORDINATOR_KV_KV_PROPERTY_H_
#define TESTS_COORDINATOR_KV_KV_PROPERTY_H_

#include <cstdint>
#include <ostream>

#include "absl/status/status.h"
#include "coordinator/kv/kv_manager.h"

namespace quire {

struct KvPropertyCase {
  const char* name = "";
  KvOptions options;
  int32_t max_length = 40;  // tokens of a sequence
  // Parked sequences are re-admitted or forgotten before there are more.
  int32_t max_parked = 6;
  // The pool is so large that nothing is ever evicted: what an admission finds
  // is all that was published and parked, to the token.
  bool finds_all = false;
  // Everything is parked to be swapped, and the host has room for it: a parked
  // sequence comes back to the token.
  bool keeps_parked = false;
  // Sequences fork at earlier tokens too, and come back without a new one, so
  // that contents that somebody may ask for are overwritten.
  bool rewrites = false;

  friend std::ostream& operator<<(std::ostream& os,
                                  const KvPropertyCase& property) {
    return os << property.name;
  }
};

// Internal, with the operation's number, at the first contradiction. A manager
// may also die of its own checks.
absl::Status RunKvProperty(const KvPropertyCase& property, KvManager* manager,
                           int64_t num_operations, uint32_t seed);

}  // namespace quire

#endif  // TESTS_COORDINATOR_KV_KV_PROPERTY_H_
