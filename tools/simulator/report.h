// SPDX-License-Identifier: Apache-2.0
//
// A simulated run for people and for programs.
#ifndef TOOLS_SIMULATOR_REPORT_H_
#define TOOLS_SIMULATOR_REPORT_H_

#include <string>

#include "tools/simulator/simulation.h"

namespace quire {

// Some lines of text.
std::string FormatResult(const SimulationResult& result);

// One JSON object. Its fields are those of SimulationResult; `wall_s` and
// `speed` alone differ between runs of one seed.
std::string ResultToJson(const SimulationResult& result);

}  // namespace quire

#endif  // TOOLS_SIMULATOR_REPORT_H_
