// SPDX-License-Identifier: Apache-2.0
//
// best_of > n: every sequence of a group runs to its end before any is heard
// of; then the n with the highest cumulative log probability are returned.
#ifndef COORDINATOR_ENGINE_BEST_OF_H_
#define COORDINATOR_ENGINE_BEST_OF_H_

#include <vector>

#include "coordinator/engine/engine_client.h"
#include "coordinator/engine/sequence_group.h"

namespace quire {

// Makes the sequences of a new group hold their outputs back, if it samples
// more than it returns. They need log probabilities to be ranked by, whether or
// not the client asked for them.
void WithholdUnlessAllReturned(SequenceGroup* group);

// Adds `output`, the news of `sequence`, to what is held. REQUIRES: withheld.
void Hold(SequenceOutput output, Sequence* sequence);

// Appends the n best sequences, whole, as indices [0, n): best first, of equal
// ones the earlier. REQUIRES: the group is withheld and all have finished.
void ReleaseBest(SequenceGroup* group, std::vector<SequenceOutput>* outputs);

}  // namespace quire

#endif  // COORDINATOR_ENGINE_BEST_OF_H_
