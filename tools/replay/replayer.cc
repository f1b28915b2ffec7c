// SPDX-License-Identifier: Apache-2.0
#include "tools/replay/replayer.h"

#include <array>
#include <cstdio>
#include <deque>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "common/status_macros.h"
#include "common/wire/step_plan_wire.h"
#include "coordinator/engine/engine_core.h"
#include "coordinator/recording/plan_digest.h"
#include "coordinator/recording/recording_wire.h"
#include "google/protobuf/io/zero_copy_stream_impl.h"
#include "google/protobuf/util/delimited_message_util.h"
#include "proto/recording.pb.h"

namespace quire {
namespace {

constexpr char kMagic[] = "quire-recording";
constexpr uint32_t kFormat = 2;
constexpr size_t kNumContextRecords = 12;

// One line about a record.
std::string Describe(const v1::Record& record) {
  switch (record.event_case()) {
    case v1::Record::kRequest:
      return absl::StrCat(
          "request ", record.request().request_id(), " (key ",
          record.request().key(),
          "): ", record.request().prompt().size() / sizeof(int32_t),
          " prompt tokens, up to ", record.request().max_tokens(), " more");
    case v1::Record::kFinish:
      return absl::StrCat("key ", record.finish().key(), " finished early");
    case v1::Record::kMask:
      return absl::StrCat("key ", record.mask().key(), " may sample on");
    case v1::Record::kGroupReady:
      return absl::StrCat(
          "group epoch ", record.group_ready().epoch().group_epoch(),
          " ready with ", record.group_ready().num_blocks(), " blocks");
    case v1::Record::kStepResult:
      return absl::StrCat("result of step ", record.step_result().step_id(),
                          ": ", record.step_result().token_ids_size(),
                          " tokens");
    case v1::Record::kGroupLost:
      return absl::StrCat("group lost: ", record.group_lost().message());
    case v1::Record::kAllEnded:
      return absl::StrCat("all ended: ", record.all_ended().message());
    case v1::Record::kPlan:
      return record.plan().step_id() == 0
                 ? "nothing to plan"
                 : absl::StrCat("step ", record.plan().step_id(), " planned");
    case v1::Record::kTruncated:
      return "recording ends early";
    case v1::Record::EVENT_NOT_SET:
      break;
  }
  return "an unknown event";
}

// The parts in which the two differ in size, or that they do not.
std::string CompareSizes(const v1::RecordedPlan& recorded,
                         const StepPlan& plan) {
  const std::array<uint32_t, kNumPlanParts> sizes = PlanPartSizes(plan);
  std::string text;
  for (int part = 0; part < kNumPlanParts; ++part) {
    const uint32_t was =
        part < recorded.part_sizes_size() ? recorded.part_sizes(part) : 0;
    if (was == sizes[part]) continue;
    absl::StrAppend(&text, text.empty() ? "" : ", ", kPlanPartNames[part], " ",
                    was, " recorded and ", sizes[part], " replayed");
  }
  return text.empty() ? "all parts have the recorded sizes" : text;
}

class Replayer {
 public:
  Replayer(std::unique_ptr<EngineCore> core, ReplayWatcher* watcher)
      : core_(std::move(core)), watcher_(watcher) {}

  // False once a plan differs.
  absl::StatusOr<bool> Take(const v1::Record& record);
  ReplayReport& report() { return report_; }

 private:
  absl::Status Apply(const v1::Record& record, absl::Time now);
  bool ComparePlan(const v1::Record& record, absl::Time now);
  void Remember(const v1::Record& record);

  const std::unique_ptr<EngineCore> core_;
  ReplayWatcher* const watcher_;
  ReplayReport report_;
  int64_t first_ns_ = 0;
  // Lines about the last records, a run of empty plans being left out.
  std::deque<std::string> context_;
};

void Replayer::Remember(const v1::Record& record) {
  if (report_.num_records == 0) first_ns_ = record.time_ns();
  ++report_.num_records;
  report_.recorded_s = (record.time_ns() - first_ns_) / 1e9;
  if (record.has_plan() && record.plan().step_id() == 0) return;
  if (context_.size() == kNumContextRecords) context_.pop_front();
  context_.push_back(absl::StrFormat("  #%d %+.6f s  %s", report_.num_records,
                                     report_.recorded_s, Describe(record)));
}

absl::StatusOr<bool> Replayer::Take(const v1::Record& record) {
  Remember(record);
  const absl::Time now = absl::FromUnixNanos(record.time_ns());
  bool equal = true;
  if (record.has_plan()) {
    equal = ComparePlan(record, now);
  } else {
    QUIRE_RETURN_IF_ERROR(Apply(record, now));
  }
  core_->TakeEffects();
  for (const RequestSample& sample : core_->TakeMetrics().requests) {
    watcher_->OnEnded(sample);
  }
  return equal;
}

absl::Status Replayer::Apply(const v1::Record& record, absl::Time now) {
  switch (record.event_case()) {
    case v1::Record::kRequest: {
      ++report_.num_requests;
      const EngineRequest request = DecodeRequest(record.request());
      core_->AddRequest(RequestKey(record.request().key()), request, now);
      watcher_->OnRequest(request, now);
      break;
    }
    case v1::Record::kFinish:
      if (record.finish().has_index()) {
        core_->FinishSequence(RequestKey(record.finish().key()),
                              record.finish().index(), now);
        break;
      }
      core_->FinishRequest(RequestKey(record.finish().key()),
                           static_cast<FinishReason>(record.finish().reason()),
                           now);
      break;
    case v1::Record::kMask:
      core_->SetMask(RequestKey(record.mask().key()), record.mask().index(),
                     record.mask().num_outputs(), TokenMask());
      break;
    case v1::Record::kGroupReady:
      // The recorded engine had the same answer, and went on.
      core_->OnGroupReady(DecodeGroup(record.group_ready()), now).IgnoreError();
      break;
    case v1::Record::kStepResult: {
      ++report_.num_results;
      StepResult result;
      QUIRE_RETURN_IF_ERROR(DecodeStepResult(record.step_result(), &result));
      const StepId step = result.identity.step_id;
      core_->OnStepResult(std::move(result), now);
      watcher_->OnResult(step, now);
      break;
    }
    case v1::Record::kGroupLost:
      core_->OnGroupLost(Epoch(record.group_lost().group_epoch()),
                         DecodeLoss(record.group_lost()), now);
      break;
    case v1::Record::kAllEnded:
      core_->EndAll(DecodeLoss(record.all_ended()), now);
      break;
    case v1::Record::kTruncated:
      report_.cut_off = true;
      break;
    case v1::Record::kPlan:
      break;
    case v1::Record::EVENT_NOT_SET:
      return absl::InvalidArgumentError("an unknown event");
  }
  return absl::OkStatus();
}

bool Replayer::ComparePlan(const v1::Record& record, absl::Time now) {
  const v1::RecordedPlan& recorded = record.plan();
  const StepPlan* plan = core_->Plan(now);
  const uint64_t step_id = plan == nullptr ? 0 : plan->identity.step_id.value();
  const uint64_t digest = plan == nullptr ? 0 : PlanDigest(*plan);
  if (step_id == recorded.step_id() && digest == recorded.digest()) {
    if (plan == nullptr) return true;
    ++report_.num_plans;
    watcher_->OnPlan(*plan, core_->Stats(), now);
    return true;
  }
  std::string& text = report_.difference;
  text = absl::StrFormat(
      "record %d, %+.6f s: step %d with digest %016x was recorded, step %d "
      "with digest %016x comes out\n",
      report_.num_records, report_.recorded_s, recorded.step_id(),
      recorded.digest(), step_id, digest);
  if (plan != nullptr && recorded.step_id() != 0) {
    absl::StrAppend(&text, CompareSizes(recorded, *plan), "\n");
  } else {
    absl::StrAppend(&text, "one of the two is no plan at all (step 0)\n");
  }
  const EngineStats stats = core_->Stats();
  absl::StrAppend(&text, "the engine holds ", stats.num_running,
                  " running and ", stats.num_waiting, " waiting requests, ",
                  stats.num_free_blocks, " of ", stats.num_blocks,
                  " blocks free\nbefore it:\n");
  for (const std::string& line : context_) absl::StrAppend(&text, line, "\n");
  return false;
}

}  // namespace

absl::StatusOr<ReplayReport> Replay(const std::string& path,
                                    ReplayWatcher* watcher) {
  using google::protobuf::io::FileInputStream;
  using google::protobuf::util::ParseDelimitedFromZeroCopyStream;
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) {
    return absl::NotFoundError(absl::StrCat("cannot read ", path));
  }
  FileInputStream input(fileno(file));
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> closer(file,
                                                               &std::fclose);
  v1::RecordingHeader header;
  bool at_end = false;
  if (!ParseDelimitedFromZeroCopyStream(&header, &input, &at_end) ||
      header.magic() != kMagic) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is not a recording"));
  }
  if (header.format() != kFormat) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " has format ", header.format(), ", want ", kFormat));
  }
  QUIRE_ASSIGN_OR_RETURN(std::unique_ptr<EngineCore> core,
                         EngineCore::Create(DecodeOptions(header.options())));
  ReplayWatcher nobody;
  Replayer replayer(std::move(core), watcher == nullptr ? &nobody : watcher);
  v1::Record record;
  bool equal = true;
  while (equal) {
    record.Clear();  // parsing merges
    if (!ParseDelimitedFromZeroCopyStream(&record, &input, &at_end)) {
      replayer.report().cut_off |= !at_end;
      break;
    }
    QUIRE_ASSIGN_OR_RETURN(equal, replayer.Take(record));
  }
  return std::move(replayer.report());
}

}  // namespace quire
