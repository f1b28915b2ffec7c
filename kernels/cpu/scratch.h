// SPDX-License-Identifier: Apache-2.0
//
// Working memory of operations: one piece per thread, grown when a call needs
// more than any before it and kept, so that a warm step allocates nothing.
#ifndef KERNELS_CPU_SCRATCH_H_
#define KERNELS_CPU_SCRATCH_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace quire {

// A 64-byte aligned array that only grows; growing drops what it held.
class ScratchBuffer {
 public:
  template <typename T>
  T* Get(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 63) & ~63ull;
    if (bytes > bytes_) {
      data_.reset();
      bytes_ = 0;
      data_.reset(std::aligned_alloc(64, bytes));
      if (data_ == nullptr) throw std::bad_alloc();
      bytes_ = bytes;
    }
    return static_cast<T*>(data_.get());
  }

 private:
  struct Free {
    void operator()(void* data) const { std::free(data); }
  };
  std::unique_ptr<void, Free> data_;
  size_t bytes_ = 0;
};

// One buffer per thread of a team, on cache lines of their own.
class ThreadScratch {
 public:
  explicit ThreadScratch(int num_threads) : buffers_(num_threads) {}

  template <typename T>
  T* Get(int thread, int64_t count) {
    return buffers_[thread].buffer.Get<T>(count);
  }

 private:
  struct alignas(64) Padded {
    ScratchBuffer buffer;
  };
  std::vector<Padded> buffers_;
};

}  // namespace quire

#endif  // KERNELS_CPU_SCRATCH_H_
