// SPDX-License-Identifier: Apache-2.0
//
// Memory for slices that must be made before a backend can take them.
#ifndef WORKER_WEIGHTS_SCRATCH_H_
#define WORKER_WEIGHTS_SCRATCH_H_

#include <cstdint>
#include <memory>

namespace quire {

// Lends blocks and keeps those given back for the next slices: touching fresh
// memory costs as much as filling it (measured in a virtual machine: 1 to 2.7 s
// of system time a GB, against 0.1 s for a block that was used before).
// Thread-compatible.
class ScratchPool {
 public:
  ScratchPool();
  ~ScratchPool();
  ScratchPool(const ScratchPool&) = delete;
  ScratchPool& operator=(const ScratchPool&) = delete;

  // `bytes` of memory, not initialised, aligned for any element. It returns to
  // the pool when the last pointer to it goes, and may outlive the pool.
  // Running out of host memory ends the process.
  std::shared_ptr<void> Lend(int64_t bytes);

 private:
  class Blocks;
  // Owned by the pool and by every block that is out, whichever lives longer.
  std::shared_ptr<Blocks> blocks_;
};

}  // namespace quire

#endif  // WORKER_WEIGHTS_SCRATCH_H_
