// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/lt_gemm.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/status_macros.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/product_timer.h"

namespace quire {
namespace {

constexpr int64_t kWorkspaceBytes = 64 << 20;
// Raised whenever what is timed changes, or how: kept choices count no more.
constexpr int kTuningVersion = 2;
// Guesses that are timed: the library's order is a good one, but its best may
// be far down.
constexpr int kMaxGuesses = 48;
// The library guesses one cluster of blocks a tile. Of few rows others are up
// to a tenth faster; these are tried with its first guesses.
constexpr cublasLtClusterShape_t kClusters[] = {CUBLASLT_CLUSTER_SHAPE_1x1x1,
                                                CUBLASLT_CLUSTER_SHAPE_2x1x1,
                                                CUBLASLT_CLUSTER_SHAPE_1x2x1};
constexpr int64_t kClustersRows = 512;
constexpr size_t kClustersGuesses = 4;
// Of the library's first guess: what others gain beyond is no noise.
constexpr float kFirstsAllowance = 1.01f;
// Rows that a choice for any m is made for, and that it must be valid for.
constexpr int64_t kAnyM = 128;
constexpr int64_t kValidM[] = {1, 2, 3, 16, 17, 64, 100, 128, 1000, 8192};

cudaDataType_t CudaType(DType dtype) {
  return dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
}

// What a product has beside its operands: part of its key.
int ExtrasOf(const PlainGemmParams& params) {
  return (params.bias != nullptr ? 1 : 0) + (params.adds ? 2 : 0) +
         (params.is_alike ? 4 : 0) + (params.is_gated ? 8 : 0);
}

}  // namespace

// Descriptors of one product; released with it. In the library's column-major
// terms it computes y^T [n, m] = W [n, k] x^T [k, m].
struct LtGemm::Product {
  const CublasLt* lt = nullptr;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
  bool has_epilogue_bias = false;
  Choice choice;

  ~Product() {
    if (operation != nullptr) lt->MatmulDescDestroy(operation);
    for (cublasLtMatrixLayout_t layout : {w, x, y}) {
      if (layout != nullptr) lt->MatrixLayoutDestroy(layout);
    }
  }
};

int64_t GemmBucketOf(int64_t m) {
  int64_t power = 1;
  while (power < m) power *= 2;
  // From 32 on, also the middle between two powers; from 256 on, eighths and
  // then quarters, of 128 rows at most up to 2,048: the library's tiles are of
  // 128 rows and more, and what fits 1,024 rows best is far from the best for
  // 800. Decodes are recorded in eighths.
  const int64_t half = power / 2;
  if (power <= 32) return power;
  const int64_t step = power == 2048  ? 128
                       : power == 512 ? half / 8
                       : power > 256  ? half / 4
                                      : half / 2;
  return half + (m - half + step - 1) / step * step;
}

GemmKey GemmKeyOf(const PlainGemmParams& params) {
  return GemmKey(params.n, params.k, GemmBucketOf(params.m),
                 static_cast<int>(params.dtype),
                 static_cast<int>(params.y_dtype), ExtrasOf(params));
}

absl::StatusOr<std::unique_ptr<LtGemm>> LtGemm::Create(
    const LtGemmOptions& options, cudaStream_t stream) {
  QUIRE_ASSIGN_OR_RETURN(const CublasLt* lt, CublasLt::Load());
  auto gemm = absl::WrapUnique(new LtGemm(options, lt, stream));
  QUIRE_RETURN_IF_ERROR(gemm->Init());
  return gemm;
}

LtGemm::LtGemm(const LtGemmOptions& options, const CublasLt* lt,
               cudaStream_t stream)
    : options_(options), lt_(lt), stream_(stream) {}

LtGemm::~LtGemm() {
  products_.clear();
  if (handle_ != nullptr) lt_->Destroy(handle_);
}

absl::Status LtGemm::Init() {
  QUIRE_RETURN_IF_ERROR(lt_->Check(lt_->Create(&handle_), "cublasLtCreate"));
  QUIRE_ASSIGN_OR_RETURN(workspace_, AllocateCuda(kWorkspaceBytes));
  int device = 0;
  cudaDeviceProp properties;
  QUIRE_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device), "current device");
  QUIRE_RETURN_IF_CUDA_ERROR(cudaGetDeviceProperties(&properties, device),
                             "device properties");
  signature_ = absl::StrCat(
      GemmDevice(properties.name, properties.multiProcessorCount), "/",
      lt_->GetVersion(), "/", options_.is_deterministic ? "any" : "bucket",
      kTuningVersion);
  chosen_ = std::make_unique<GemmCache>(options_.cache_path, signature_,
                                        std::size(cublasLtMatmulAlgo_t().data));
  return absl::OkStatus();
}

std::optional<cublasLtMatmulAlgo_t> LtGemm::Find(const GemmKey& key) const {
  const absl::Span<const uint64_t> words = chosen_->Find(key);
  if (words.empty()) return std::nullopt;
  cublasLtMatmulAlgo_t algorithm;
  std::copy(words.begin(), words.end(), algorithm.data);
  return algorithm;
}

void LtGemm::Keep(const GemmKey& key, const cublasLtMatmulAlgo_t& algorithm) {
  chosen_->Keep(key, algorithm.data);
}

bool LtGemm::CanRun(const PlainGemmParams& params) {
  const int64_t lanes = 16 / SizeOf(params.dtype);
  const int64_t y_lanes = 16 / SizeOf(params.y_dtype);
  return !params.is_gated && params.k % lanes == 0 &&
         params.x_stride % lanes == 0 && params.n % y_lanes == 0 &&
         params.y_stride % y_lanes == 0 && IsAligned(params.x) &&
         IsAligned(params.w) && IsAligned(params.y) && IsAligned(params.bias);
}

absl::StatusOr<std::unique_ptr<LtGemm::Product>> LtGemm::Prepare(
    const PlainGemmParams& params) {
  auto product = std::make_unique<Product>();
  product->lt = lt_;
  const cudaDataType_t type = CudaType(params.dtype);
  const cudaDataType_t y_type = CudaType(params.y_dtype);
  QUIRE_RETURN_IF_ERROR(
      lt_->Check(lt_->MatmulDescCreate(&product->operation, CUBLAS_COMPUTE_32F,
                                       CUDA_R_32F),
                 "product"));
  const cublasOperation_t transpose = CUBLAS_OP_T;
  QUIRE_RETURN_IF_ERROR(
      lt_->Check(lt_->MatmulDescSetAttribute(product->operation,
                                             CUBLASLT_MATMUL_DESC_TRANSA,
                                             &transpose, sizeof(transpose)),
                 "product"));
  // The library adds a bias of the result's type alone.
  product->has_epilogue_bias =
      params.bias != nullptr && params.dtype == params.y_dtype;
  if (product->has_epilogue_bias) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    QUIRE_RETURN_IF_ERROR(
        lt_->Check(lt_->MatmulDescSetAttribute(product->operation,
                                               CUBLASLT_MATMUL_DESC_EPILOGUE,
                                               &epilogue, sizeof(epilogue)),
                   "bias"));
  }
  QUIRE_RETURN_IF_ERROR(lt_->Check(
      lt_->MatrixLayoutCreate(&product->w, type, params.k, params.n, params.k),
      "weight"));
  QUIRE_RETURN_IF_ERROR(
      lt_->Check(lt_->MatrixLayoutCreate(&product->x, type, params.k, params.m,
                                         params.x_stride),
                 "input"));
  QUIRE_RETURN_IF_ERROR(
      lt_->Check(lt_->MatrixLayoutCreate(&product->y, y_type, params.n,
                                         params.m, params.y_stride),
                 "output"));
  return product;
}

absl::StatusOr<std::vector<cublasLtMatmulAlgo_t>> LtGemm::Guess(
    const Product& product, int max_guesses) {
  cublasLtMatmulPreference_t preference = nullptr;
  QUIRE_RETURN_IF_ERROR(
      lt_->Check(lt_->MatmulPreferenceCreate(&preference), "preference"));
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute,
                       auto value) {
    lt_->MatmulPreferenceSetAttribute(preference, attribute, &value,
                                      sizeof(value));
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes});
  // Split sums are added in one order, in float; never atomically.
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      options_.is_deterministic
          ? uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE}
          : uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  for (auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                         CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                         CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                         CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    set(attribute, uint32_t{16});
  }
  std::vector<cublasLtMatmulHeuristicResult_t> results(max_guesses);
  int found = 0;
  const cublasStatus_t status = lt_->MatmulAlgoGetHeuristic(
      handle_, product.operation, product.w, product.x, product.y, product.y,
      preference, max_guesses, results.data(), &found);
  lt_->MatmulPreferenceDestroy(preference);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) {
    QUIRE_RETURN_IF_ERROR(lt_->Check(status, "choosing a product"));
  }
  std::vector<cublasLtMatmulAlgo_t> guesses;
  for (int i = 0; i < found; ++i) {
    if (results[i].state == CUBLAS_STATUS_SUCCESS &&
        results[i].workspaceSize <= kWorkspaceBytes) {
      guesses.push_back(results[i].algo);
    }
  }
  if (guesses.empty()) return absl::UnimplementedError("no product");
  return guesses;
}

void LtGemm::AddClusters(const Product& product,
                         std::vector<cublasLtMatmulAlgo_t>* guesses) const {
  using Words = std::vector<uint64_t>;
  const auto words_of = [](const cublasLtMatmulAlgo_t& algorithm) {
    return Words(std::begin(algorithm.data), std::end(algorithm.data));
  };
  std::set<Words> known;
  for (const auto& guess : *guesses) known.insert(words_of(guess));
  const size_t num_guesses = std::min(guesses->size(), kClustersGuesses);
  for (size_t i = 0; i < num_guesses; ++i) {
    for (const uint16_t cluster : kClusters) {
      cublasLtMatmulAlgo_t other = (*guesses)[i];
      lt_->MatmulAlgoConfigSetAttribute(&other,
                                        CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID,
                                        &cluster, sizeof(cluster));
      if (known.insert(words_of(other)).second && Fits(product, other)) {
        guesses->push_back(other);
      }
    }
  }
}

bool LtGemm::Fits(const Product& product,
                  const cublasLtMatmulAlgo_t& algorithm) const {
  cublasLtMatmulHeuristicResult_t result;
  return lt_->MatmulAlgoCheck(handle_, product.operation, product.w, product.x,
                              product.y, product.y, &algorithm,
                              &result) == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= kWorkspaceBytes;
}

int64_t LtGemm::Config(const cublasLtMatmulAlgo_t& algorithm,
                       cublasLtMatmulAlgoConfigAttributes_t attribute) const {
  uint32_t value = 0;
  size_t written = 0;
  lt_->MatmulAlgoConfigGetAttribute(&algorithm, attribute, &value,
                                    sizeof(value), &written);
  return value;
}

absl::StatusOr<cublasLtMatmulAlgo_t> LtGemm::ChooseForAnyM(
    const PlainGemmParams& params) {
  PlainGemmParams shape = params;
  shape.m = kAnyM;
  QUIRE_ASSIGN_OR_RETURN(const auto product, Prepare(shape));
  QUIRE_ASSIGN_OR_RETURN(const auto guesses, Guess(*product, kMaxGuesses));
  std::vector<std::unique_ptr<Product>> others;
  for (int64_t m : kValidM) {
    shape.m = m;
    QUIRE_ASSIGN_OR_RETURN(auto other, Prepare(shape));
    others.push_back(std::move(other));
  }
  for (const cublasLtMatmulAlgo_t& guess : guesses) {
    if (Config(guess, CUBLASLT_ALGO_CONFIG_SPLITK_NUM) > 1) continue;
    const bool fits =
        std::all_of(others.begin(), others.end(),
                    [&](const auto& other) { return Fits(*other, guess); });
    if (fits) return guess;
  }
  return absl::UnimplementedError("no product for any number of rows");
}

absl::Status LtGemm::Enqueue(const PlainGemmParams& params,
                             const Product& product,
                             const cublasLtMatmulAlgo_t& algorithm) {
  if (product.has_epilogue_bias) {
    QUIRE_RETURN_IF_ERROR(lt_->Check(
        lt_->MatmulDescSetAttribute(product.operation,
                                    CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                    &params.bias, sizeof(params.bias)),
        "bias"));
  }
  const float one = 1.0f, beta = params.adds ? 1.0f : 0.0f;
  QUIRE_RETURN_IF_ERROR(
      lt_->Check(lt_->Matmul(handle_, product.operation, &one, params.w,
                             product.w, params.x, product.x, &beta, params.y,
                             product.y, params.y, product.y, &algorithm,
                             workspace_->data(), kWorkspaceBytes, stream_),
                 "cublasLtMatmul"));
  if (params.bias == nullptr || product.has_epilogue_bias) {
    return absl::OkStatus();
  }
  return CudaStatus(
      LaunchAddBiasCuda(params.y, params.y_dtype, params.y_stride, params.bias,
                        params.dtype, static_cast<int32_t>(params.n),
                        static_cast<int32_t>(params.m), stream_),
      "bias");
}

absl::StatusOr<cublasLtMatmulAlgo_t> LtGemm::Time(
    const PlainGemmParams& params, const Product& product,
    const std::vector<cublasLtMatmulAlgo_t>& guesses) {
  std::unique_ptr<DeviceBuffer> elsewhere;
  QUIRE_ASSIGN_OR_RETURN(const PlainGemmParams trial,
                         TrialOf(params, &elsewhere));
  std::vector<ProductTimer::Trial> trials;
  absl::Status error;
  for (const cublasLtMatmulAlgo_t& guess : guesses) {
    const auto enqueue = [&] {
      const absl::Status status = Enqueue(trial, product, guess);
      if (!absl::IsInternal(status)) return status;
      // A guess may be wrong; there are others.
      error = status;
      return absl::UnimplementedError(status.message());
    };
    trials.push_back({enqueue, trials.empty() ? kFirstsAllowance : 1.0f});
  }
  QUIRE_ASSIGN_OR_RETURN(const auto timer, ProductTimer::Create(stream_));
  const absl::StatusOr<size_t> fastest = timer->FastestOf(trials);
  if (absl::IsUnimplemented(fastest.status()) && !error.ok()) return error;
  QUIRE_RETURN_IF_ERROR(fastest.status());
  ++num_tuned_;
  return guesses[*fastest];
}

absl::StatusOr<cublasLtMatmulAlgo_t> LtGemm::Choose(
    const PlainGemmParams& params, const Product& product) {
  GemmKey key = GemmKeyOf(params);
  if (options_.is_deterministic) std::get<2>(key) = 0;
  const std::optional<cublasLtMatmulAlgo_t> chosen = Find(key);
  if (chosen.has_value() && Fits(product, *chosen)) return *chosen;
  if (options_.is_deterministic) {
    if (lacking_.contains(key)) return absl::UnimplementedError("no product");
    const auto choice = ChooseForAnyM(params);
    if (absl::IsUnimplemented(choice.status())) lacking_.insert(key);
    QUIRE_ASSIGN_OR_RETURN(const auto algorithm, choice);
    Keep(key, algorithm);
    return algorithm;
  }
  const bool may_time = options_.is_tuned && !params.is_alike &&
                        !ProductTimer::IsCapturing(stream_) &&
                        !chosen.has_value();
  QUIRE_ASSIGN_OR_RETURN(auto guesses,
                         Guess(product, may_time ? kMaxGuesses : 1));
  if (!may_time) return guesses.front();
  if (params.m <= kClustersRows) AddClusters(product, &guesses);
  const auto timed = Time(params, product, guesses);
  // No room to time in: another time, perhaps.
  if (absl::IsResourceExhausted(timed.status())) return guesses.front();
  QUIRE_ASSIGN_OR_RETURN(const auto algorithm, timed);
  Keep(key, algorithm);
  return algorithm;
}

absl::Status LtGemm::Run(const PlainGemmParams& params) {
  std::unique_ptr<Product>& product =
      products_[Exact(params.m, params.n, params.k, params.x_stride,
                      params.y_stride, static_cast<int>(params.dtype),
                      static_cast<int>(params.y_dtype), ExtrasOf(params))];
  if (product == nullptr) {
    QUIRE_ASSIGN_OR_RETURN(product, Prepare(params));
  }
  Choice& choice = product->choice;
  if (!choice.is_known) {
    const absl::StatusOr<cublasLtMatmulAlgo_t> algorithm =
        Choose(params, *product);
    if (algorithm.ok()) {
      choice.algorithm = *algorithm;
    } else if (!absl::IsUnimplemented(algorithm.status())) {
      return algorithm.status();
    }
    choice.is_known = true;
  }
  if (!choice.algorithm.has_value()) {
    return absl::UnimplementedError(
        absl::StrCat("cuBLASLt has no product of m ", params.m, ", n ",
                     params.n, ", k ", params.k));
  }
  return Enqueue(params, *product, *choice.algorithm);
}

}  // namespace quire
