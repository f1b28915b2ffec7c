// SPDX-License-Identifier: Apache-2.0
//
// The calls of a run, made from its options: a function of their seed.
#ifndef TOOLS_LOADGEN_PLAN_H_
#define TOOLS_LOADGEN_PLAN_H_

#include <string>
#include <vector>

#include "tools/loadgen/dataset.h"
#include "tools/loadgen/options.h"
#include "tools/loadgen/request_record.h"
#include "tools/loadgen/runner.h"

namespace quire {

// One call per prompt. Request ids are `id_prefix` and the index; every request
// has a sampling seed of its own.
std::vector<PlannedCall> PlanRun(const LoadgenOptions& options,
                                 const std::vector<LoadPrompt>& prompts,
                                 const std::string& id_prefix);

// The requests of `run` that completed, due at once and never cancelled.
std::vector<PlannedCall> PlanRepetition(const LoadgenOptions& options,
                                        const std::vector<LoadPrompt>& prompts,
                                        const std::vector<RequestRecord>& run,
                                        const std::string& id_prefix);

}  // namespace quire

#endif  // TOOLS_LOADGEN_PLAN_H_
