// SPDX-License-Identifier: Apache-2.0
#include "coordinator/coordinator_flags.h"

#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "common/flags/parse_flags.h"
#include "common/sparse_attention.h"
#include "common/status_macros.h"
#include "common/text/tool_call_parser.h"
#include "coordinator/engine/engine_core.h"
#include "coordinator/engine/engine_options.h"
#include "coordinator/engine/preemption_mode.h"
#include "coordinator/engine/prefix_demotion.h"
#include "coordinator/engine/tenant_config.h"

ABSL_FLAG(std::string, model, "", "Hugging Face model folder.");
ABSL_FLAG(std::string, served_model_name, "",
          "Name of the model for clients; empty: the folder's name.");
ABSL_FLAG(std::string, dtype, "auto",
          "Weights and activations: auto (as stored), float32, bfloat16.");
ABSL_FLAG(std::string, load_format, "auto",
          "auto or safetensors: read the weights; dummy: random ones.");
ABSL_FLAG(bool, skip_tokenizer_init, false,
          "Serve token ids only; the folder needs no tokenizer.json.");
ABSL_FLAG(std::string, chat_template, "",
          "A Jinja file in place of the model's own chat template.");
ABSL_FLAG(
    bool, trust_request_chat_template, false,
    "Let a Chat request bring a template of its own. Its steps and output "
    "are bounded, the memory it takes meanwhile is not.");
ABSL_FLAG(
    std::string, tool_call_parser, "auto",
    "How the model writes tool calls: hermes (Qwen too), llama3, mistral, "
    "none: they stay text, or auto: as its chat template shows.");
ABSL_FLAG(int, max_model_len, 0,
          "Tokens of prompt and output; 0: as many as the model knows. With "
          "dynamic or longrope scaling also the length that all positions are "
          "turned for.");
ABSL_FLAG(int, max_num_seqs, 128, "Sequences of a step.");
ABSL_FLAG(int, max_num_batched_tokens, 2048, "Tokens of a step.");
ABSL_FLAG(int, token_multiple, 128,
          "Steps with as many decodes are cut to a multiple of it, as matrix "
          "units work on tiles; 1: never.");
ABSL_FLAG(int, block_size, 16, "Tokens of a KV block: a power of two to 256.");
ABSL_FLAG(double, memory_utilization, 0.9,
          "Share of a worker's memory to use, above 0 and at most 1.");
ABSL_FLAG(int, num_gpu_blocks_override, 0,
          "KV blocks; 0: as many as the memory holds.");
ABSL_FLAG(int, tensor_parallel_size, 1, "Workers that share the model.");
ABSL_FLAG(int, data_parallel_size, 1,
          "Groups of so many workers, each with the whole model; a request "
          "goes to the one that will start it earliest.");
ABSL_FLAG(std::string, routing, "earliest_start",
          "Which group a request goes to: earliest_start: by its queue and "
          "what its cache has of the prompt; round_robin: in turns.");
ABSL_FLAG(uint64_t, seed, 0,
          "Where seeds come from that requests leave to the server, and dummy "
          "weights; 0: requests' seeds differ from run to run.");
ABSL_FLAG(std::string, kv_manager, "paged",
          "How KV memory is managed: paged: blocks on demand; orca_max, "
          "orca_pow2, orca_oracle: reserved in a row at admission, for "
          "max_model_len, for the next power of two of max_tokens, for "
          "max_tokens; virtual: a row of addresses for each sequence, with "
          "pages put behind it on demand.");
ABSL_FLAG(int, virtual_page_size, 2 << 20,
          "Bytes of a page under --kv_manager=virtual.");
ABSL_FLAG(std::string, scheduling_policy, "paged_fcfs",
          "What decides the next step: paged_fcfs; orca: iteration by "
          "iteration, nobody preempted; static_batch: a new batch when the "
          "last one has wholly ended. The last two need memory that is "
          "reserved.");
ABSL_FLAG(std::string, preemption_mode, "auto",
          "How blocks are taken back: swap to host memory, recompute, or auto: "
          "whichever is faster for each request by measured rates.");
ABSL_FLAG(double, swap_space, 4,
          "GiB of host memory of each worker to move KV blocks to; 0: none.");
ABSL_FLAG(double, watermark, quire::EngineOptions().watermark,
          "Share of the KV blocks that an admission leaves free for running "
          "sequences to grow into, 0 to 0.5. More: fewer preemptions, smaller "
          "batches.");
ABSL_FLAG(bool, enable_prefix_caching, true,
          "Let requests of equal salt reuse each other's prefixes.");
ABSL_FLAG(std::string, sparse_attention, "",
          "top_pages:K: a decode reads the K KV blocks of its context that "
          "promise most; changes the output. Empty: all of it.");
ABSL_FLAG(std::string, demote_prefixes, "auto",
          "What becomes of cached prefixes whose blocks are needed: never: "
          "they are lost; always: they move to what preempted requests leave "
          "of --swap_space and come back by a copy; auto: so if a block moves "
          "out and in four times faster than it is computed, by measured "
          "rates.");
ABSL_FLAG(int, run_ahead_depth, 2,
          "Steps sent before the first of them is known.");
ABSL_FLAG(int, max_queued_requests, 1024,
          "Waiting requests; more are refused.");
ABSL_FLAG(int64_t, max_queued_tokens, 1 << 22,
          "Prompt tokens of waiting requests; more are refused.");
ABSL_FLAG(absl::Duration, priority_ageing, absl::ZeroDuration(),
          "A waiting request gains a level of priority each so long, such as "
          "5s; 0: never.");
ABSL_FLAG(std::string, tenants, "",
          "JSON file of tenants' weights and KV quotas; empty: all are equal.");
ABSL_FLAG(std::string, host, "127.0.0.1", "Address to listen on.");
ABSL_FLAG(int, port, 8001, "Public gRPC port; 0: any.");
ABSL_FLAG(int, control_port, 9000, "gRPC port for workers; 0: any.");
ABSL_FLAG(int, metrics_port, 8002, "HTTP port of /metrics; 0: any.");
ABSL_FLAG(std::string, on_group_lost, "exit",
          "When a worker is lost: exit, or reform: wait for workers to join "
          "anew and go on. Other groups take the requests of a lost one over; "
          "exit then means when the last group is lost.");
ABSL_FLAG(double, heartbeat_timeout, 3,
          "Seconds without a sign of life after which a worker is lost, 1 to "
          "30; and the coordinator to its workers, after a second more, 4 at "
          "least. A step that waits may end it before: --step_timeout.");
ABSL_FLAG(double, step_timeout, 0,
          "Seconds after which a step without an answer means a lost worker; "
          "0: from measured steps.");
ABSL_FLAG(int, forced_preemption_period, 0,
          "For tests: preempt somebody each so many steps; 0: never.");
ABSL_FLAG(std::string, record, "",
          "Record what the engine hears and plans in this file, for "
          "//tools:replay; with several groups in a file each, ending in .0, "
          ".1 ..., until a request moves between them.");
ABSL_FLAG(bool, exit_with_parent, false,
          "End when the process that started this one ends.");

namespace quire {
namespace {

constexpr double kMaxSwapSpace = 1 << 19;  // GiB

absl::Status CheckChoice(const std::string& flag, const std::string& value,
                         const std::vector<std::string>& choices) {
  if (absl::c_linear_search(choices, value)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--", flag, "=", value, ": it may be ", absl::StrJoin(choices, " or ")));
}

// In whole numbers, if the value is one.
template <typename T>
absl::Status CheckRange(const std::string& flag, T value,
                        std::type_identity_t<T> least,
                        std::type_identity_t<T> most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--", flag, "=", value, ": it may be ", least, " to ", most));
}

// Of the model, its memory, and what becomes of it.
absl::Status CheckModelFlags() {
  if (absl::GetFlag(FLAGS_model).empty()) {
    return absl::InvalidArgumentError(
        "--model is missing: give a Hugging Face model folder");
  }
  QUIRE_RETURN_IF_ERROR(CheckChoice("dtype", absl::GetFlag(FLAGS_dtype),
                                    {"auto", "float32", "bfloat16"}));
  QUIRE_RETURN_IF_ERROR(CheckChoice("load_format",
                                    absl::GetFlag(FLAGS_load_format),
                                    {"auto", "safetensors", "dummy"}));
  QUIRE_RETURN_IF_ERROR(
      ParsePreemptionMode(absl::GetFlag(FLAGS_preemption_mode)).status());
  QUIRE_RETURN_IF_ERROR(
      ParsePrefixDemotion(absl::GetFlag(FLAGS_demote_prefixes)).status());
  QUIRE_RETURN_IF_ERROR(CheckRange(
      "swap_space", absl::GetFlag(FLAGS_swap_space), 0, kMaxSwapSpace));
  QUIRE_RETURN_IF_ERROR(CheckChoice(
      "on_group_lost", absl::GetFlag(FLAGS_on_group_lost), {"exit", "reform"}));
  const int block_size = absl::GetFlag(FLAGS_block_size);
  if (block_size < 1 || block_size > 256 ||
      (block_size & (block_size - 1)) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--block_size=", block_size, ": it may be a power of two, 1 to 256"));
  }
  return absl::OkStatus();
}

// Of groups and their caches.
absl::Status CheckGroupFlags() {
  QUIRE_RETURN_IF_ERROR(CheckRange("tensor_parallel_size",
                                   absl::GetFlag(FLAGS_tensor_parallel_size), 1,
                                   1024));
  QUIRE_RETURN_IF_ERROR(CheckRange(
      "data_parallel_size", absl::GetFlag(FLAGS_data_parallel_size), 1, 1024));
  QUIRE_RETURN_IF_ERROR(CheckChoice("routing", absl::GetFlag(FLAGS_routing),
                                    {"earliest_start", "round_robin"}));
  const double memory = absl::GetFlag(FLAGS_memory_utilization);
  if (!(memory > 0 && memory <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--memory_utilization=", memory, ": it must be above 0 and at most 1"));
  }
  QUIRE_RETURN_IF_ERROR(CheckRange("num_gpu_blocks_override",
                                   absl::GetFlag(FLAGS_num_gpu_blocks_override),
                                   0, 1 << 30));
  const int page_size = absl::GetFlag(FLAGS_virtual_page_size);
  QUIRE_RETURN_IF_ERROR(
      CheckRange("virtual_page_size", page_size, 4096, 1 << 30));
  if (page_size % 64 != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--virtual_page_size=", page_size, ": it may be a multiple of 64"));
  }
  const int max_model_len = absl::GetFlag(FLAGS_max_model_len);
  if (max_model_len != 0) {  // the model's
    QUIRE_RETURN_IF_ERROR(
        CheckRange("max_model_len", max_model_len, 2, 1 << 30));
  }
  return absl::OkStatus();
}

absl::Status CheckFlags() {
  QUIRE_RETURN_IF_ERROR(CheckModelFlags());
  QUIRE_RETURN_IF_ERROR(CheckGroupFlags());
  QUIRE_RETURN_IF_ERROR(CheckRange(
      "heartbeat_timeout", absl::GetFlag(FLAGS_heartbeat_timeout), 1, 30));
  QUIRE_RETURN_IF_ERROR(
      CheckRange("step_timeout", absl::GetFlag(FLAGS_step_timeout), 0, 86400));
  QUIRE_RETURN_IF_ERROR(
      CheckRange("port", absl::GetFlag(FLAGS_port), 0, 65535));
  QUIRE_RETURN_IF_ERROR(
      CheckRange("control_port", absl::GetFlag(FLAGS_control_port), 0, 65535));
  return CheckRange("metrics_port", absl::GetFlag(FLAGS_metrics_port), 0,
                    65535);
}

// None: as the chat template shows.
absl::StatusOr<std::optional<ToolCallFormat>> ToolCallFromFlag() {
  const std::string name = absl::GetFlag(FLAGS_tool_call_parser);
  if (name == "auto") return std::nullopt;
  absl::StatusOr<ToolCallFormat> format = ParseToolCallFormat(name);
  if (format.ok()) return *format;
  return absl::InvalidArgumentError(
      absl::StrCat("--tool_call_parser=", name,
                   ": it may be auto, hermes, llama3, mistral or none"));
}

absl::StatusOr<TenantConfig> TenantsFromFlag() {
  const std::string path = absl::GetFlag(FLAGS_tenants);
  if (path.empty()) return TenantConfig();
  absl::StatusOr<TenantConfig> tenants = ReadTenantConfig(path);
  if (tenants.ok()) return tenants;
  return absl::Status(tenants.status().code(),
                      absl::StrCat("--tenants: ", tenants.status().message()));
}

absl::StatusOr<EngineOptions> EngineOptionsFromFlags() {
  EngineOptions engine;
  engine.max_num_seqs = absl::GetFlag(FLAGS_max_num_seqs);
  engine.max_num_batched_tokens = absl::GetFlag(FLAGS_max_num_batched_tokens);
  engine.token_multiple = absl::GetFlag(FLAGS_token_multiple);
  engine.block_size = absl::GetFlag(FLAGS_block_size);
  engine.kv_manager = absl::GetFlag(FLAGS_kv_manager);
  engine.scheduling_policy = absl::GetFlag(FLAGS_scheduling_policy);
  engine.watermark = absl::GetFlag(FLAGS_watermark);
  engine.run_ahead_depth = absl::GetFlag(FLAGS_run_ahead_depth);
  engine.max_queued_requests = absl::GetFlag(FLAGS_max_queued_requests);
  engine.max_queued_tokens = absl::GetFlag(FLAGS_max_queued_tokens);
  engine.priority_ageing = absl::GetFlag(FLAGS_priority_ageing);
  engine.enable_prefix_caching = absl::GetFlag(FLAGS_enable_prefix_caching);
  engine.forced_preemption_period =
      absl::GetFlag(FLAGS_forced_preemption_period);
  QUIRE_ASSIGN_OR_RETURN(engine.tenants, TenantsFromFlag());
  QUIRE_ASSIGN_OR_RETURN(
      engine.preemption_mode,
      ParsePreemptionMode(absl::GetFlag(FLAGS_preemption_mode)));
  QUIRE_ASSIGN_OR_RETURN(
      engine.demote_prefixes,
      ParsePrefixDemotion(absl::GetFlag(FLAGS_demote_prefixes)));
  QUIRE_ASSIGN_OR_RETURN(
      engine.sparse_pages,
      ParseSparseAttention(absl::GetFlag(FLAGS_sparse_attention)));
  return engine;
}

// Whether anything of such an engine's goes to host memory: only blocks can be
// moved, and somebody must want to.
bool MovesBlocks(const EngineOptions& engine) {
  if (engine.kv_manager != "paged") return false;
  const bool demotes = engine.enable_prefix_caching &&
                       engine.demote_prefixes != PrefixDemotion::kNever;
  return demotes || engine.preemption_mode != PreemptionMode::kRecompute;
}

void SetLaunchFlags(const EngineOptions& engine, LaunchOptions* launch) {
  launch->dtype = absl::GetFlag(FLAGS_dtype);
  launch->load_format =
      absl::GetFlag(FLAGS_load_format) == "dummy" ? "dummy" : "safetensors";
  launch->memory_utilization = absl::GetFlag(FLAGS_memory_utilization);
  launch->num_blocks_override = absl::GetFlag(FLAGS_num_gpu_blocks_override);
  if (MovesBlocks(engine)) {
    launch->swap_space_bytes =
        static_cast<int64_t>(absl::GetFlag(FLAGS_swap_space) * (1 << 30));
  }
  if (engine.kv_manager == "virtual") {
    launch->virtual_page_bytes = absl::GetFlag(FLAGS_virtual_page_size);
  }
}

}  // namespace

absl::StatusOr<CoordinatorOptions> OptionsFromFlags() {
  QUIRE_RETURN_IF_ERROR(CheckFlags());
  CoordinatorOptions options;
  options.model = absl::GetFlag(FLAGS_model);
  options.served_model_name = absl::GetFlag(FLAGS_served_model_name);
  options.skip_tokenizer_init = absl::GetFlag(FLAGS_skip_tokenizer_init);
  options.chat.chat_template = absl::GetFlag(FLAGS_chat_template);
  options.chat.trust_request_chat_template =
      absl::GetFlag(FLAGS_trust_request_chat_template);
  QUIRE_ASSIGN_OR_RETURN(options.chat.tool_call_format, ToolCallFromFlag());
  options.tensor_parallel_size = absl::GetFlag(FLAGS_tensor_parallel_size);
  options.data_parallel_size = absl::GetFlag(FLAGS_data_parallel_size);
  options.routing = absl::GetFlag(FLAGS_routing) == "round_robin"
                        ? RoutingPolicy::kRoundRobin
                        : RoutingPolicy::kEarliestStart;
  options.max_model_len = absl::GetFlag(FLAGS_max_model_len);
  options.seed = absl::GetFlag(FLAGS_seed);
  options.record = absl::GetFlag(FLAGS_record);
  options.host = absl::GetFlag(FLAGS_host);
  options.port = absl::GetFlag(FLAGS_port);
  options.control_port = absl::GetFlag(FLAGS_control_port);
  options.metrics_port = absl::GetFlag(FLAGS_metrics_port);
  options.reform_lost_groups = absl::GetFlag(FLAGS_on_group_lost) == "reform";
  options.heartbeat_timeout =
      absl::Seconds(absl::GetFlag(FLAGS_heartbeat_timeout));
  options.watchdog.fixed = absl::Seconds(absl::GetFlag(FLAGS_step_timeout));
  QUIRE_ASSIGN_OR_RETURN(options.engine, EngineOptionsFromFlags());
  // Again when the model's window and its sliding one are known.
  QUIRE_RETURN_IF_ERROR(EngineCore::Create(options.engine, nullptr).status());
  SetLaunchFlags(options.engine, &options.launch);
  options.flags = EffectiveFlags();
  return options;
}

bool ExitWithParent() { return absl::GetFlag(FLAGS_exit_with_parent); }

}  // namespace quire
