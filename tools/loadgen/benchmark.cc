// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/benchmark.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tools/loadgen/plan.h"
#include "tools/loadgen/report.h"
#include "tools/loadgen/verify.h"

namespace quire {
namespace {

constexpr absl::Duration kIdleTimeout = absl::Seconds(10);
constexpr absl::Duration kConnectTimeout = absl::Seconds(5);
constexpr size_t kMaxErrors = 5;

// Differs between load generators that use one server at once.
std::string MakeIdPrefix() {
  return absl::StrCat("loadgen-", absl::ToUnixMicros(absl::Now()), "-",
                      getpid(), "-");
}

// The percentiles of both lists.
std::vector<double> AllPercentiles(const LoadgenOptions& options) {
  std::vector<double> all = options.metric_percentiles;
  all.insert(all.end(), options.console_percentiles.begin(),
             options.console_percentiles.end());
  return all;
}

}  // namespace

Benchmark::Benchmark(LoadgenOptions options, ProgressStyle style,
                     std::ostream* out, std::ostream* err, Clock* clock)
    : options_(std::move(options)),
      style_(options_.disable_progress ? ProgressStyle::kNone : style),
      out_(out),
      err_(err),
      clock_(clock),
      id_prefix_(MakeIdPrefix()),
      target_(options_.target, clock) {}

absl::Status Benchmark::Run() {
  QUIRE_RETURN_IF_ERROR(CheckDataset(options_.dataset));
  QUIRE_RETURN_IF_ERROR(CheckResultFile());
  QUIRE_RETURN_IF_ERROR(Prepare());
  QUIRE_RETURN_IF_ERROR(WarmUp());
  const RunResult run =
      Send("requests", PlanRun(options_, prompts_, id_prefix_),
           options_.max_concurrency);
  const RunMetrics metrics =
      ComputeMetrics(run.records, run.end - run.start, options_.goodput,
                     AllPercentiles(options_));
  PrintErrors(run);
  *out_ << ConsoleBlock(options_, metrics) << std::flush;
  std::optional<VerifyResult> verify;
  if (options_.verify && !run.is_interrupted) {
    QUIRE_ASSIGN_OR_RETURN(verify, Verify(run));
    *out_ << VerifyText(*verify) << std::flush;
  }
  if (options_.save_result || options_.save_detailed) {
    QUIRE_RETURN_IF_ERROR(Save(run, metrics, verify ? &*verify : nullptr));
  }
  if (run.is_interrupted) return absl::CancelledError("interrupted");
  if (verify && !verify->ok()) {
    return absl::DataLossError(absl::StrCat(
        verify->num_differing, " streams differ and ", verify->num_unrepeated,
        " could not be repeated undisturbed"));
  }
  if (options_.check_blocks) {
    QUIRE_ASSIGN_OR_RETURN(const std::string blocks,
                           target_.CheckBlocks(kIdleTimeout));
    *out_ << blocks << std::endl;
  }
  if (metrics.num_failed > 0) {
    return absl::AbortedError(absl::StrCat(
        metrics.num_failed, " of ", run.records.size(), " requests failed"));
  }
  return absl::OkStatus();
}

void Benchmark::Interrupt() {
  target_.Interrupt();
  absl::MutexLock lock(&mutex_);
  is_interrupted_ = true;
  if (runner_ != nullptr) runner_->Interrupt();
}

absl::Status Benchmark::CheckResultFile() const {
  if (!options_.save_result && !options_.save_detailed) return absl::OkStatus();
  const std::filesystem::path file =
      std::filesystem::path(options_.result_dir) / options_.result_filename;
  const std::string folder =
      file.has_parent_path() ? file.parent_path().string() : ".";
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (!error && access(folder.c_str(), W_OK) != 0) {
    error.assign(errno, std::generic_category());
  }
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--result_dir=", options_.result_dir,
        " --result_filename=", options_.result_filename, ": ", folder, ": ",
        error.message(), "; name a folder that can be written"));
  }
  if (file.has_filename() && std::filesystem::is_directory(file, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--result_filename=", options_.result_filename,
                     " is a folder; name a file"));
  }
  return absl::OkStatus();
}

absl::Status Benchmark::Prepare() {
  QUIRE_RETURN_IF_ERROR(
      target_.AwaitReady(absl::Seconds(options_.ready_check_timeout_s), err_));
  QUIRE_ASSIGN_OR_RETURN(const v1::Model model,
                         target_.FindModel(options_.model));
  options_.model = model.name();
  QUIRE_ASSIGN_OR_RETURN(prompts_,
                         MakePrompts(options_.dataset,
                                     {.vocab_size = model.vocab_size(),
                                      .max_model_len = model.max_model_len()},
                                     options_.num_prompts, options_.seed));
  return absl::OkStatus();
}

absl::Status Benchmark::WarmUp() {
  if (options_.num_warmups == 0) return absl::OkStatus();
  LoadgenOptions options = options_;
  options.arrival = ArrivalOptions();
  options.cancel_fraction = 0;
  std::vector<LoadPrompt> prompts;
  for (int64_t idx = 0; idx < options_.num_warmups; ++idx) {
    prompts.push_back(prompts_[idx % prompts_.size()]);
  }
  const RunResult run =
      Send("warm-up", PlanRun(options, prompts, id_prefix_ + "warm-up-"),
           options_.max_concurrency);
  for (const RequestRecord& record : run.records) {
    if (record.outcome == RequestOutcome::kFailed) {
      return absl::AbortedError(
          absl::StrCat("a warm-up request failed: ", record.error));
    }
  }
  return absl::OkStatus();
}

RunResult Benchmark::Send(const std::string& label,
                          std::vector<PlannedCall> calls,
                          int64_t max_concurrency) {
  LoadClient client(options_.target, options_.num_channels, clock_);
  client.Connect(kConnectTimeout);
  Progress progress(label, Progress::Unit::kCount, style_, err_, clock_);
  LoadRunner runner(&client, clock_, &progress);
  {
    absl::MutexLock lock(&mutex_);
    runner_ = &runner;
    if (is_interrupted_) runner.Interrupt();
  }
  RunResult result = runner.Run(std::move(calls), max_concurrency);
  absl::MutexLock lock(&mutex_);
  runner_ = nullptr;
  return result;
}

absl::StatusOr<VerifyResult> Benchmark::Verify(const RunResult& run) {
  const RunResult repetition = Send(
      "verify",
      PlanRepetition(options_, prompts_, run.records, id_prefix_ + "verify-"),
      options_.verify_concurrency);
  if (repetition.is_interrupted) return absl::CancelledError("interrupted");
  return CompareRuns(run.records, repetition.records);
}

absl::Status Benchmark::Save(const RunResult& run, const RunMetrics& metrics,
                             const VerifyResult* verify) {
  const absl::Time now = clock_->Now();
  const std::string path = std::filesystem::path(options_.result_dir) /
                           ResultFilename(options_, now);
  std::ofstream file(path);
  // Generated text may end within a character; such bytes are replaced.
  file << ResultJson(options_, metrics, run, verify, now)
              .dump(2, ' ', false,
                    nlohmann::ordered_json::error_handler_t::replace)
       << "\n";
  file.close();
  if (!file) {
    return absl::InternalError(absl::StrCat("cannot write the result to ", path,
                                            "; see --result_dir"));
  }
  *out_ << "Result saved to " << path << std::endl;
  return absl::OkStatus();
}

void Benchmark::PrintErrors(const RunResult& run) {
  std::map<std::string, int64_t> counts;
  for (const RequestRecord& record : run.records) {
    if (record.outcome == RequestOutcome::kFailed) ++counts[record.error];
  }
  size_t num_printed = 0;
  for (const auto& [error, count] : counts) {
    if (num_printed++ == kMaxErrors) break;
    *err_ << count << " failed: " << error << std::endl;
  }
  if (counts.size() > kMaxErrors) {
    *err_ << "... and " << counts.size() - kMaxErrors << " other errors"
          << std::endl;
  }
}

}  // namespace quire
