// SPDX-License-Identifier: Apache-2.0
//
// NVIDIA's libraries, found on the machine when they are first wanted: programs
// run without them where nothing wants them.
#ifndef COMMON_GPU_LIBRARY_H_
#define COMMON_GPU_LIBRARY_H_

#include <string>

#include "absl/status/statusor.h"

namespace quire {

struct GpuLibrarySpec {
  const char* title;     // "NCCL"
  const char* file;      // "libnccl.so.2"
  const char* variable;  // of the environment, names the file
  const char* remedy;    // "install libnccl2"
};

// Functions by name. The library stays loaded until the process ends.
class GpuLibrary {
 public:
  // Looks where the variable says, where the loader looks, in CUDA_HOME's lib64
  // and in that of /usr/local/cuda. NotFound says where it looked and what
  // helps.
  static absl::StatusOr<GpuLibrary> Open(const GpuLibrarySpec& spec);

  // NotFound names the function.
  absl::StatusOr<void*> Find(const char* function) const;
  template <typename Pointer>
  absl::Status Bind(const char* function, Pointer* pointer) const {
    const absl::StatusOr<void*> found = Find(function);
    if (found.ok()) *pointer = reinterpret_cast<Pointer>(*found);
    return found.status();
  }

 private:
  GpuLibrary(void* handle, const char* title)
      : handle_(handle), title_(title) {}

  void* handle_;
  std::string title_;
};

}  // namespace quire

#endif  // COMMON_GPU_LIBRARY_H_
