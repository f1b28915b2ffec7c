// SPDX-License-Identifier: Apache-2.0
//
// Tells ThreadSanitizer what GCC's OpenMP runtime, which is not instrumented,
// promises: a parallel region begins after what its caller did before, and ends
// before what its caller does next. Stands in front of libgomp's entry point.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

namespace {

using Body = void (*)(void*);
using Parallel = void (*)(Body, void*, unsigned, unsigned);

struct Region {
  Body body;
  void* data;
  char begin;  // whose addresses stand for
  char end;    // the two barriers
};

// Not instrumented: it reads the region before it may say that it may.
__attribute__((no_sanitize_thread)) void RunRegion(void* arg) {
  Region* const region = static_cast<Region*>(arg);
  __tsan_acquire(&region->begin);
  region->body(region->data);
  __tsan_release(&region->end);
}

}  // namespace

extern "C" __attribute__((no_sanitize_thread)) void GOMP_parallel(
    Body body, void* data, unsigned num_threads, unsigned flags) {
  static const Parallel next =
      reinterpret_cast<Parallel>(dlsym(RTLD_NEXT, "GOMP_parallel"));
  Region region = {body, data, 0, 0};
  __tsan_release(&region.begin);
  next(RunRegion, &region, num_threads, flags);
  __tsan_acquire(&region.end);
}
