// SPDX-License-Identifier: Apache-2.0
#include "common/gpu_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace quire {
namespace {

std::vector<std::string> Places(const GpuLibrarySpec& spec) {
  std::vector<std::string> places;
  if (const char* file = std::getenv(spec.variable)) places.push_back(file);
  places.push_back(spec.file);
  if (const char* home = std::getenv("CUDA_HOME")) {
    places.push_back(absl::StrCat(home, "/lib64/", spec.file));
  }
  places.push_back(absl::StrCat("/usr/local/cuda/lib64/", spec.file));
  return places;
}

}  // namespace

absl::StatusOr<GpuLibrary> GpuLibrary::Open(const GpuLibrarySpec& spec) {
  const std::vector<std::string> places = Places(spec);
  for (const std::string& place : places) {
    void* const handle = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr) return GpuLibrary(handle, spec.title);
  }
  return absl::NotFoundError(
      absl::StrCat(spec.title, " is not on this machine (looked for ",
                   absl::StrJoin(places, ", "), "); ", spec.remedy, ", or let ",
                   spec.variable, " name the file"));
}

absl::StatusOr<void*> GpuLibrary::Find(const char* function) const {
  void* const found = dlsym(handle_, function);
  if (found != nullptr) return found;
  return absl::NotFoundError(
      absl::StrCat(title_, " has no function ", function));
}

}  // namespace quire
