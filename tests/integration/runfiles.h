// SPDX-License-Identifier: Apache-2.0
#ifndef TESTS_INTEGRATION_RUNFILES_H_
#define TESTS_INTEGRATION_RUNFILES_H_

#include <string>

namespace quire {

// A file of the test's runfiles, by its path in the repository.
std::string Runfile(const std::string& path);

// A model folder of the runfiles. Its files there are links, which a loader
// refuses, so this is the folder that they point into.
std::string ModelFolder(const std::string& path);

// A fresh path for a file that the test may write.
std::string TempPath(const std::string& name);

}  // namespace quire

#endif  // TESTS_INTEGRATION_RUNFILES_H_
