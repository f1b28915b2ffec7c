// SPDX-License-Identifier: Apache-2.0
#include "tools/embedded/batch_run.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "tools/embedded/batch_input.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

// How soon a stop is noticed while all jobs run.
constexpr absl::Duration kStopPoll = absl::Milliseconds(50);

Json ToJson(const LLMAnswer& answer) {
  const std::string reason = v1::FinishReason_Name(answer.finish_reason);
  Json json = {{"text", answer.text},
               {"token_ids", answer.token_ids},
               {"finish_reason", absl::AsciiStrToLower(absl::StripPrefix(
                                     reason, "FINISH_REASON_"))}};
  if (!answer.logprobs.empty()) {
    for (const v1::TokenLogprobs& logprobs : answer.logprobs) {
      json["logprobs"].push_back(logprobs.logprob());
    }
  }
  return json;
}

std::string ToLine(const std::string& id, const LLMResult& result) {
  Json json = {{"id", id}};
  if (!result.status.ok()) {
    json["error"] = std::string(result.status.message());
  } else if (result.answers.size() == 1) {
    json.update(ToJson(result.answers[0]));
  } else {
    for (const LLMAnswer& answer : result.answers) {
      json["answers"].push_back(ToJson(answer));
    }
  }
  if (result.status.ok()) {
    json["usage"] = {
        {"prompt_tokens", result.complete.usage().prompt_tokens()},
        {"output_tokens", result.complete.usage().output_tokens()}};
  }
  return json.dump(-1, ' ', /*ensure_ascii=*/false,
                   Json::error_handler_t::replace);
}

absl::StatusOr<int64_t> CountLines(const std::string& path) {
  QUIRE_RETURN_IF_ERROR(CheckBatchInput(path));
  std::ifstream file(path, std::ios::binary);
  int64_t count = 0;
  for (std::string line; std::getline(file, line);) ++count;
  return count;
}

// What the run's threads share. Requests may outlast RunBatch if it is stopped,
// so they hold shares of it.
class Desk {
 public:
  Desk(BatchOutput* output, Progress* progress, int64_t num_lines)
      : start_(absl::Now()), output_(output), progress_(progress) {
    counts_.num_lines = num_lines;
  }

  // Waits until fewer than `jobs` requests run. False: the run is over.
  bool AwaitTurn(int64_t jobs, const std::atomic<bool>& stop) {
    absl::MutexLock lock(&mutex_);
    const auto may_go_on = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return num_running_ < jobs || !failure_.ok();
    };
    while (!stop) {
      if (!mutex_.AwaitWithTimeout(absl::Condition(&may_go_on), kStopPoll)) {
        continue;
      }
      if (!failure_.ok()) return false;
      ++num_running_;
      return !stop;
    }
    return false;
  }

  bool Has(const std::string& id) {
    absl::MutexLock lock(&mutex_);
    return output_->Has(id);
  }

  // The line's request did not run after all.
  void Skip() {
    absl::MutexLock lock(&mutex_);
    --num_running_;
    ++counts_.num_skipped;
  }

  void Take(const std::string& id, const LLMResult& result) {
    absl::MutexLock lock(&mutex_);
    --num_running_;
    if (output_ == nullptr) return;  // stopped
    const bool is_bad = absl::IsInvalidArgument(result.status);
    if (!result.status.ok() && !is_bad) {
      failure_.Update(absl::Status(
          result.status.code(),
          absl::StrCat("\"", id, "\": ", result.status.message())));
      return;
    }
    failure_.Update(output_->Append(id, ToLine(id, result)));
    ++(is_bad ? counts_.num_bad : counts_.num_answered);
    for (const LLMAnswer& answer : result.answers) {
      counts_.num_output_tokens +=
          static_cast<int64_t>(answer.token_ids.size());
    }
    Draw();
  }

  // Waits for the requests that run, or for a stop; nothing is written then.
  absl::StatusOr<BatchCounts> End(const std::atomic<bool>& stop) {
    absl::MutexLock lock(&mutex_);
    const auto is_idle = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return num_running_ == 0;
    };
    while (!stop &&
           !mutex_.AwaitWithTimeout(absl::Condition(&is_idle), kStopPoll)) {
    }
    output_ = nullptr;
    progress_->Finish();
    counts_.was_stopped = stop;
    QUIRE_RETURN_IF_ERROR(failure_);
    return counts_;
  }

 private:
  void Draw() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start_);
    progress_->Update(
        counts_.num_skipped + counts_.num_answered + counts_.num_bad,
        counts_.num_lines,
        seconds > 0 ? absl::StrCat(static_cast<int64_t>(
                                       counts_.num_output_tokens / seconds),
                                   " tokens/s")
                    : "");
  }

  const absl::Time start_;
  absl::Mutex mutex_;
  BatchOutput* output_ ABSL_GUARDED_BY(mutex_);  // null: the run is over
  Progress* const progress_;
  int64_t num_running_ ABSL_GUARDED_BY(mutex_) = 0;
  BatchCounts counts_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::Status CheckBatchInput(const std::string& path) {
  std::error_code error;
  // It is read twice, which a pipe is not.
  const bool is_file = std::filesystem::is_regular_file(path, error);
  if (is_file && access(path.c_str(), R_OK) == 0) return absl::OkStatus();
  const std::string reason = error     ? error.message()
                             : is_file ? std::string(strerror(errno))
                                       : "it is no regular file";
  return absl::NotFoundError(
      absl::StrCat("cannot read --input=", path, ": ", reason));
}

absl::StatusOr<BatchCounts> RunBatch(const BatchOptions& options,
                                     const StartRequest& start,
                                     BatchOutput* output, Progress* progress,
                                     const std::atomic<bool>* stop) {
  QUIRE_ASSIGN_OR_RETURN(const int64_t num_lines, CountLines(options.input));
  const auto desk = std::make_shared<Desk>(output, progress, num_lines);
  // What an earlier run has answered, before this one adds to it.
  std::unordered_set<std::string> seen;
  std::ifstream file(options.input, std::ios::binary);
  std::string text;
  for (int64_t number = 1; std::getline(file, text); ++number) {
    BatchLine line =
        ParseBatchLine(number, text, options.sampling, options.seed);
    if (!seen.insert(line.id).second) {
      line.status = absl::InvalidArgumentError(
          absl::StrCat("line ", number, ": \"", line.id.substr(0, 100),
                       "\" is another line's id, too"));
      line.id = absl::StrCat("line-", number);
      seen.insert(line.id);
    }
    if (!desk->AwaitTurn(options.jobs, *stop)) break;
    if (desk->Has(line.id)) {
      desk->Skip();
      continue;
    }
    if (!line.status.ok()) {
      LLMResult refused;
      refused.status = line.status;
      desk->Take(line.id, refused);
      continue;
    }
    start(line.request,
          [desk, id = line.id](LLMResult result) { desk->Take(id, result); });
  }
  return desk->End(*stop);
}

}  // namespace quire
