// SPDX-License-Identifier: Apache-2.0
//
// Where the contents of a block are.
#ifndef COORDINATOR_KV_BLOCK_PLACE_H_
#define COORDINATOR_KV_BLOCK_PLACE_H_

#include "common/ids.h"
#include "glog/logging.h"

namespace quire {

// In a device block, in a host block, or lost. Thread-compatible.
class BlockPlace {
 public:
  BlockPlace() = default;  // nowhere
  explicit BlockPlace(BlockId block)
      : kind_(Kind::kDevice), number_(block.value()) {}
  explicit BlockPlace(HostBlockId block)
      : kind_(Kind::kHost), number_(block.value()) {}

  bool is_device() const { return kind_ == Kind::kDevice; }
  bool is_host() const { return kind_ == Kind::kHost; }
  bool is_nowhere() const { return kind_ == Kind::kNowhere; }

  // REQUIRES: of that kind.
  BlockId device() const {
    DCHECK(is_device());
    return BlockId(number_);
  }
  HostBlockId host() const {
    DCHECK(is_host());
    return HostBlockId(number_);
  }

  friend bool operator==(const BlockPlace&, const BlockPlace&) = default;

 private:
  enum class Kind : int32_t { kNowhere, kDevice, kHost };

  Kind kind_ = Kind::kNowhere;
  int32_t number_ = 0;
};

}  // namespace quire

#endif  // COORDINATOR_KV_BLOCK_PLACE_H_
