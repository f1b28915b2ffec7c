// SPDX-License-Identifier: Apache-2.0
//
// How the threads that compute on CPUs wait for each other.
#ifndef TOOLS_QUIRE_THREAD_WAITS_H_
#define TOOLS_QUIRE_THREAD_WAITS_H_

namespace quire {

// Lets the programs that this one starts spin for a short while and then sleep,
// unless the environment says how they are to wait. libgomp reads it before
// main(), so a program cannot say so itself.
// REQUIRES: no other thread runs.
void LimitThreadSpins();

}  // namespace quire

#endif  // TOOLS_QUIRE_THREAD_WAITS_H_
