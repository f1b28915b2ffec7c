// SPDX-License-Identifier: Apache-2.0
//
// The pools and rules under which a paged manager is tried.
#ifndef TESTS_COORDINATOR_KV_KV_PROPERTY_CASES_H_
#define TESTS_COORDINATOR_KV_KV_PROPERTY_CASES_H_

#include "tests/coordinator/kv/kv_property.h"

namespace quire {

inline constexpr KvPropertyCase kKvPropertyCases[] = {
    {.name = "NothingIsEvicted",
     .options = {.num_blocks = 400,
                 .block_size = 4,
                 .max_num_seqs = 8,
                 .max_model_len = 40},
     .finds_all = true},
    {.name = "HostHoldsAllThatIsParked",
     .options = {.num_blocks = 24,
                 .block_size = 4,
                 .max_num_seqs = 6,
                 .max_model_len = 40,
                 .num_host_blocks = 200},
     .keeps_parked = true},
    {.name = "HostHoldsAllThatIsParkedAndPrefixes",
     .options = {.num_blocks = 24,
                 .block_size = 4,
                 .max_num_seqs = 6,
                 .max_model_len = 40,
                 .num_host_blocks = 200,
                 .demote_prefixes = true},
     .keeps_parked = true},
    {.name = "NoHost",
     .options = {.num_blocks = 20,
                 .block_size = 4,
                 .max_num_seqs = 6,
                 .max_model_len = 40},
     .rewrites = true},
    {.name = "SmallHost",
     .options = {.num_blocks = 20,
                 .block_size = 4,
                 .max_num_seqs = 6,
                 .max_model_len = 40,
                 .num_host_blocks = 7},
     .rewrites = true},
    {.name = "SmallHostForPrefixesToo",
     .options = {.num_blocks = 20,
                 .block_size = 4,
                 .max_num_seqs = 6,
                 .max_model_len = 40,
                 .num_host_blocks = 12,
                 .demote_prefixes = true},
     .rewrites = true},
    {.name = "BlocksOfOneToken",
     .options = {.num_blocks = 40,
                 .block_size = 1,
                 .max_num_seqs = 5,
                 .max_model_len = 20,
                 .num_host_blocks = 20,
                 .demote_prefixes = true},
     .max_length = 20,
     .rewrites = true},
    {.name = "ScarceBlocks",
     .options = {.num_blocks = 6,
                 .block_size = 8,
                 .max_num_seqs = 4,
                 .max_model_len = 40,
                 .num_host_blocks = 3,
                 .demote_prefixes = true},
     .rewrites = true},
};

}  // namespace quire

#endif  // TESTS_COORDINATOR_KV_KV_PROPERTY_CASES_H_
