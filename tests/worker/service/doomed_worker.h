// SPDX-License-Identifier: Apache-2.0
//
// The process of a worker whose device a test will break.
#ifndef TESTS_WORKER_SERVICE_DOOMED_WORKER_H_
#define TESTS_WORKER_SERVICE_DOOMED_WORKER_H_

#include "worker/service/worker_process.h"

namespace quire {

// Reads the command line, of which --coordinator is for RunDoomedWorker(), logs
// to stderr from now on, and blocks the signals that RunWorker() waits for.
// REQUIRES: the process has no second thread.
void BeginDoomedWorker(int argc, char** argv);

// RunWorker() for the coordinator of the command line; returns the exit status.
// Dies where the worker could not begin.
// REQUIRES: BeginDoomedWorker() was called.
int RunDoomedWorker(WorkerProcessOptions options, const ProcessLoader& loader,
                    GroupEnd* group_end);

}  // namespace quire

#endif  // TESTS_WORKER_SERVICE_DOOMED_WORKER_H_
