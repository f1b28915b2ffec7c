// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/onednn_gemm.h"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/cpu/gemm_kernel.h"
#include "kernels/cpu/host_memory.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace quire {
namespace {

// Columns of one product: its weight (k = 2048 in bfloat16: 512 KiB) stays in
// the second-level cache while all tiles of x pass.
constexpr int64_t kChunkColumns = 128;

dnnl::memory::data_type TypeOf(DType dtype) {
  return dtype == DType::kF32 ? dnnl::memory::data_type::f32
                              : dnnl::memory::data_type::bf16;
}

// Makes oneDNN single-threaded on this thread, as it is inside a team's loop.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  int before_;
};

}  // namespace

// A product [kOneDnnTileRows, k] x [k, columns], and its weight's layout.
struct OneDnnProduct {
  dnnl::matmul::primitive_desc desc;
  dnnl::matmul matmul;
  int64_t scratchpad_bytes;
  int64_t weight_bytes;
};

struct OneDnnGemm::Engine {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<std::pair<int64_t, int64_t>, std::shared_ptr<const OneDnnProduct>>
      products;  // by (k, columns); weights share them with this cache

  // Throws dnnl::error.
  std::shared_ptr<const OneDnnProduct> Find(DType dtype, int64_t k,
                                            int64_t columns);
};

std::shared_ptr<const OneDnnProduct> OneDnnGemm::Engine::Find(DType dtype,
                                                              int64_t k,
                                                              int64_t columns) {
  auto& product = products[{k, columns}];
  if (product != nullptr) return product;
  const OneThread one_thread;
  using Tag = dnnl::memory::format_tag;
  const auto type = TypeOf(dtype);
  const dnnl::matmul::desc op(
      {{kOneDnnTileRows, k}, type, Tag::ab}, {{k, columns}, type, Tag::any},
      {{kOneDnnTileRows, columns}, dnnl::memory::data_type::f32, Tag::ab});
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  auto made = std::make_shared<OneDnnProduct>();
  made->desc = dnnl::matmul::primitive_desc(op, attr, engine);
  made->matmul = dnnl::matmul(made->desc);
  made->scratchpad_bytes = made->desc.scratchpad_desc().get_size();
  // Chunks start on cache lines.
  made->weight_bytes = (made->desc.weights_desc().get_size() + 63) & ~63ull;
  product = std::move(made);
  return product;
}

namespace {

class OneDnnWeight final : public PackedWeight {
 public:
  struct Chunk {
    std::shared_ptr<const OneDnnProduct> product;
    int64_t offset;  // bytes
  };

  OneDnnWeight(int64_t n, int64_t k, HostMemory memory,
               std::vector<Chunk> chunks)
      : PackedWeight(n, k, memory.bytes()),
        memory_(std::move(memory)),
        chunks_(std::move(chunks)) {}

  const std::vector<Chunk>& chunks() const { return chunks_; }
  void* At(const Chunk& chunk) const {
    return static_cast<char*>(memory_.data()) + chunk.offset;
  }

 private:
  HostMemory memory_;
  std::vector<Chunk> chunks_;
};

// Rows [begin, end) of the stack, as [end - begin, k] of `dtype`.
void CopyStackedRows(absl::Span<const HostMatrix> stacked, int64_t begin,
                     int64_t end, DType dtype, char* to) {
  int64_t first = 0;
  for (const HostMatrix& matrix : stacked) {
    const int64_t from = std::max(begin, first);
    const int64_t until = std::min(end, first + matrix.rows);
    for (int64_t row = from; row < until; ++row) {
      ConvertElements(matrix, (row - first) * matrix.row_stride, matrix.cols,
                      dtype, to + (row - begin) * matrix.cols * SizeOf(dtype));
    }
    first += matrix.rows;
  }
}

absl::Status FromError(const dnnl::error& error) {
  const std::string message =
      absl::StrCat("oneDNN: ", error.what(), " (", error.status, ")");
  return error.status == dnnl_out_of_memory
             ? absl::ResourceExhaustedError(message)
             : absl::InternalError(message);
}

}  // namespace

OneDnnGemm::OneDnnGemm(DType dtype, const ThreadTeam* team)
    : engine_(std::make_unique<Engine>()),
      dtype_(dtype),
      team_(team),
      sums_(team->num_threads()),
      scratchpads_(team->num_threads()) {}

OneDnnGemm::~OneDnnGemm() = default;

absl::StatusOr<std::unique_ptr<PackedWeight>> OneDnnGemm::Pack(
    absl::Span<const HostMatrix> stacked) try {
  int64_t n = 0;
  for (const HostMatrix& matrix : stacked) n += matrix.rows;
  const int64_t k = stacked.front().cols;
  std::vector<OneDnnWeight::Chunk> chunks;
  int64_t bytes = 0;
  for (int64_t column = 0; column < n; column += kChunkColumns) {
    auto product =
        engine_->Find(dtype_, k, std::min(kChunkColumns, n - column));
    chunks.push_back({product, bytes});
    bytes += product->weight_bytes;
  }
  QUIRE_ASSIGN_OR_RETURN(HostMemory memory, HostMemory::Allocate(bytes));
  auto weight = std::make_unique<OneDnnWeight>(n, k, std::move(memory), chunks);
  // One thread: reorders are oneDNN's and happen once, at load.
  const OneThread one_thread;
  ScratchBuffer rows;
  for (int64_t i = 0; i < static_cast<int64_t>(chunks.size()); ++i) {
    const int64_t begin = i * kChunkColumns;
    const int64_t columns = std::min(kChunkColumns, n - begin);
    char* plain = rows.Get<char>(columns * k * SizeOf(dtype_));
    CopyStackedRows(stacked, begin, begin + columns, dtype_, plain);
    dnnl::memory from(
        {{k, columns}, TypeOf(dtype_), dnnl::memory::format_tag::ba},
        engine_->engine, plain);
    dnnl::memory to(chunks[i].product->desc.weights_desc(), engine_->engine,
                    weight->At(chunks[i]));
    dnnl::reorder(from, to).execute(engine_->stream, from, to);
  }
  return weight;
} catch (const dnnl::error& error) {
  return FromError(error);
}

absl::Status OneDnnGemm::Run(const GemmParams& params) try {
  const auto& weight = static_cast<const OneDnnWeight&>(*params.weight);
  if (params.m == 0) return absl::OkStatus();
  const OneThread one_thread;
  const int64_t k = weight.k();
  const int64_t n = weight.n();
  const int64_t row_bytes = k * SizeOf(dtype_);
  const int64_t tiles = (params.m + kOneDnnTileRows - 1) / kOneDnnTileRows;
  char* x = x_.Get<char>(tiles * kOneDnnTileRows * row_bytes);
  for (int64_t row = 0; row < tiles * kOneDnnTileRows; ++row) {
    if (row < params.m) {
      std::memcpy(x + row * row_bytes,
                  static_cast<const char*>(params.x) +
                      row * params.x_stride * SizeOf(dtype_),
                  row_bytes);
    } else {
      std::memset(x + row * row_bytes, 0, row_bytes);
    }
  }
  // An error inside the loop must not leave the thread it happened on.
  std::vector<absl::Status> errors(team_->num_threads());
  const auto run_chunk = [&](int thread, int64_t index) {
    const OneDnnWeight::Chunk& chunk = weight.chunks()[index];
    const OneDnnProduct& product = *chunk.product;
    const int64_t column = index * kChunkColumns;
    const int64_t columns = std::min(kChunkColumns, n - column);
    float* sums = sums_.Get<float>(thread, kOneDnnTileRows * kChunkColumns);
    char* pad = scratchpads_.Get<char>(
        thread, std::max<int64_t>(1, product.scratchpad_bytes));
    const dnnl::engine& engine = engine_->engine;
    dnnl::memory source(product.desc.src_desc(), engine, x);
    const dnnl::memory sink(product.desc.dst_desc(), engine, sums);
    const std::unordered_map<int, dnnl::memory> arguments = {
        {DNNL_ARG_SRC, source},
        {DNNL_ARG_WEIGHTS,
         dnnl::memory(product.desc.weights_desc(), engine, weight.At(chunk))},
        {DNNL_ARG_DST, sink},
        {DNNL_ARG_SCRATCHPAD,
         dnnl::memory(product.desc.scratchpad_desc(), engine, pad)}};
    dnnl::stream stream = engine_->stream;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      source.set_data_handle(x + tile * kOneDnnTileRows * row_bytes);
      product.matmul.execute(stream, arguments);
      GemmStore store;
      store.bias_dtype = dtype_;
      store.bias =
          params.bias == nullptr
              ? nullptr
              : static_cast<const char*>(params.bias) + column * SizeOf(dtype_);
      store.y_dtype = params.y_dtype;
      store.count = columns;
      const int64_t begin = tile * kOneDnnTileRows;
      const int64_t end = std::min<int64_t>(begin + kOneDnnTileRows, params.m);
      for (int64_t row = begin; row < end; ++row) {
        store.sums = sums + (row - begin) * columns;
        store.y = static_cast<char*>(params.y) +
                  (row * params.y_stride + column) * SizeOf(params.y_dtype);
        StoreGemmRow(store);
      }
    }
  };
  team_->For(weight.chunks().size(), /*grain=*/1,
             [&](int thread, int64_t begin, int64_t end) {
               try {
                 for (int64_t i = begin; i < end; ++i) run_chunk(thread, i);
               } catch (const dnnl::error& error) {
                 errors[thread] = FromError(error);
               }
             });
  for (absl::Status& error : errors) QUIRE_RETURN_IF_ERROR(std::move(error));
  return absl::OkStatus();
} catch (const dnnl::error& error) {
  return FromError(error);
}

}  // namespace quire
