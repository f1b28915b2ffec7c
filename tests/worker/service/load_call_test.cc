// SPDX-License-Identifier: Apache-2.0
#include "worker/service/load_call.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/service/served_worker.h"

namespace quire {
namespace {

using LoadCallTest = ServedWorker;

// The fake loader says 10, 20 and 30 of 30; what waits for the wire while more
// comes is overtaken, but by nothing of another phase.
TEST_F(LoadCallTest, PhasesComeInOrderAndTheLastWordIsTheWhole) {
  grpc::ClientContext context;
  const auto reader = stub_->Load(&context, LoadRequest());
  std::vector<std::string> phases;
  uint64_t bytes_done = 0;
  v1::LoadProgress progress;
  while (reader->Read(&progress)) {
    if (phases.empty() || phases.back() != progress.phase()) {
      phases.push_back(progress.phase());
      bytes_done = 0;
    }
    EXPECT_GE(progress.bytes_done(), bytes_done);
    EXPECT_LE(progress.bytes_done(), progress.bytes_total());
    bytes_done = progress.bytes_done();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(phases,
            (std::vector<std::string>{"collective", "weights", "done"}));
  EXPECT_EQ(progress.bytes_done(), 30);
  EXPECT_EQ(progress.bytes_total(), 30);
}

TEST_F(LoadCallTest, AFailedLoadSaysWhyAndMayBeTriedAgain) {
  v1::LoadRequest request = LoadRequest();
  request.set_model_path("elsewhere");
  const grpc::Status missing = Load(request);
  EXPECT_EQ(missing.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(missing.error_message(), "elsewhere is not there");
  request = LoadRequest();
  request.set_world_size(2);
  EXPECT_EQ(Load(request).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  request = LoadRequest();
  *request.mutable_epoch() = Now(1, 7);
  EXPECT_EQ(Load(request).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_TRUE(Load(LoadRequest()).ok());
}

TEST_F(LoadCallTest, WhatTheRequestSaysIsWhatIsLoaded) {
  v1::LoadRequest request = LoadRequest();
  request.set_dtype("float32");
  request.set_load_format("dummy");
  request.set_seed(9);
  request.set_virtual_page_bytes(1 << 21);
  request.set_sparse_pages(8);
  ASSERT_TRUE(Load(request).ok());
  const LoadSpec spec = loaded_spec();
  EXPECT_EQ(spec.dtype, "float32");
  EXPECT_EQ(spec.load_format, "dummy");
  EXPECT_EQ(spec.seed, 9);
  EXPECT_EQ(spec.rank, 0);
  EXPECT_EQ(spec.world_size, 1);
  EXPECT_EQ(spec.block_size, 4);
  EXPECT_EQ(spec.virtual_page_bytes, 1 << 21);
  EXPECT_EQ(spec.limits.max_num_seqs, 4);
  EXPECT_EQ(spec.limits.max_num_batched_tokens, 16);
  EXPECT_EQ(spec.limits.max_model_len, 32);
  EXPECT_EQ(spec.limits.sparse_pages, 8);
}

TEST_F(LoadCallTest, WhatIsNotSaidHasItsDefault) {
  ASSERT_TRUE(Load(LoadRequest()).ok());
  const LoadSpec spec = loaded_spec();
  EXPECT_EQ(spec.dtype, LoadSpec().dtype);
  EXPECT_EQ(spec.load_format, LoadSpec().load_format);
}

// Wrapped round, 2^32 - 2^31 sequences would be a number that a loader takes.
TEST_F(LoadCallTest, ASizeBeyondAnInt32IsNoSize) {
  v1::LoadRequest request = LoadRequest();
  request.set_model_path("elsewhere");  // whose loader looks no further
  request.set_max_num_seqs(1u << 31);
  request.set_max_model_len(~0u);
  request.set_block_size((1u << 31) - 1);
  EXPECT_FALSE(Load(request).ok());
  const LoadSpec spec = loaded_spec();
  EXPECT_EQ(spec.limits.max_num_seqs, -1);
  EXPECT_EQ(spec.limits.max_model_len, -1);
  EXPECT_EQ(spec.block_size, (1u << 31) - 1);
}

}  // namespace
}  // namespace quire
