// SPDX-License-Identifier: Apache-2.0
#include "coordinator/recording/recording_wire.h"

#include <algorithm>
#include <string>
#include <vector>

#include "common/wire/slot_sampling_wire.h"
#include "coordinator/engine/preemption_mode.h"
#include "coordinator/engine/prefix_demotion.h"
#include "coordinator/engine/tenant_config.h"
#include "proto/recording.pb.h"

namespace quire {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "tokens are stored as little-endian words");

void EncodeTokens(const std::vector<TokenId>& tokens, std::string* bytes) {
  bytes->assign(reinterpret_cast<const char*>(tokens.data()),
                tokens.size() * sizeof(TokenId));
}

std::vector<TokenId> DecodeTokens(const std::string& bytes) {
  std::vector<TokenId> tokens(bytes.size() / sizeof(TokenId));
  bytes.copy(reinterpret_cast<char*>(tokens.data()),
             tokens.size() * sizeof(TokenId));
  return tokens;
}

void EncodeTenant(const TenantLimits& from, v1::RecordedTenant* to) {
  to->set_weight(from.weight);
  to->set_guaranteed_kv(from.guaranteed_kv);
  to->set_max_kv(from.max_kv);
  to->set_guaranteed_blocks(from.guaranteed_blocks);
  to->set_max_blocks(from.max_blocks);
  to->set_priority(from.priority);
}

TenantLimits DecodeTenant(const v1::RecordedTenant& from) {
  return {.weight = from.weight(),
          .guaranteed_kv = from.guaranteed_kv(),
          .max_kv = from.max_kv(),
          .guaranteed_blocks = from.guaranteed_blocks(),
          .max_blocks = from.max_blocks(),
          .priority = from.priority()};
}

void EncodeTenants(const TenantConfig& from, v1::RecordedTenants* to) {
  for (const auto& [name, limits] : from.tenants) {
    v1::RecordedTenant* tenant = to->add_listed();
    tenant->set_name(name);
    EncodeTenant(limits, tenant);
  }
  EncodeTenant(from.unlisted, to->mutable_unlisted());
  to->set_max_tracked(from.max_tracked);
  to->set_idle_expiry_us(absl::ToInt64Microseconds(from.idle_expiry));
  to->set_prompt_token_cost(from.prompt_token_cost);
  to->set_output_token_cost(from.output_token_cost);
  to->set_burst_tokens(from.burst_tokens);
}

TenantConfig DecodeTenants(const v1::RecordedTenants& from) {
  TenantConfig to;
  for (const v1::RecordedTenant& tenant : from.listed()) {
    to.tenants[tenant.name()] = DecodeTenant(tenant);
  }
  to.unlisted = DecodeTenant(from.unlisted());
  to.max_tracked = from.max_tracked();
  to.idle_expiry = absl::Microseconds(from.idle_expiry_us());
  to.prompt_token_cost = from.prompt_token_cost();
  to.output_token_cost = from.output_token_cost();
  to.burst_tokens = from.burst_tokens();
  return to;
}

}  // namespace

void EncodeOptions(const EngineOptions& options, v1::RecordedOptions* message) {
  message->set_max_num_seqs(options.max_num_seqs);
  message->set_max_num_batched_tokens(options.max_num_batched_tokens);
  message->set_max_model_len(options.max_model_len);
  message->set_block_size(options.block_size);
  message->set_kv_manager(options.kv_manager);
  message->set_scheduling_policy(options.scheduling_policy);
  message->set_run_ahead_depth(options.run_ahead_depth);
  message->set_watermark(options.watermark);
  message->set_max_queued_requests(options.max_queued_requests);
  message->set_max_queued_tokens(options.max_queued_tokens);
  message->set_requeue_on_group_lost(options.on_group_lost ==
                                     OnGroupLostAction::kRequeue);
  message->set_forced_preemption_period(options.forced_preemption_period);
  message->set_preemption_mode(PreemptionModeName(options.preemption_mode));
  message->set_enable_prefix_caching(options.enable_prefix_caching);
  message->set_sliding_window(options.sliding_window);
  message->set_sparse_pages(options.sparse_pages);
  message->set_token_multiple(options.token_multiple);
  message->set_demote_prefixes(PrefixDemotionName(options.demote_prefixes));
  message->set_priority_ageing_us(
      absl::ToInt64Microseconds(options.priority_ageing));
  EncodeTenants(options.tenants, message->mutable_tenants());
}

EngineOptions DecodeOptions(const v1::RecordedOptions& message) {
  EngineOptions options;
  options.max_num_seqs = message.max_num_seqs();
  options.max_num_batched_tokens = message.max_num_batched_tokens();
  options.max_model_len = message.max_model_len();
  options.block_size = message.block_size();
  options.kv_manager = message.kv_manager();
  options.scheduling_policy = message.scheduling_policy();
  options.run_ahead_depth = message.run_ahead_depth();
  options.watermark = message.watermark();
  options.max_queued_requests = message.max_queued_requests();
  options.max_queued_tokens = message.max_queued_tokens();
  options.on_group_lost = message.requeue_on_group_lost()
                              ? OnGroupLostAction::kRequeue
                              : OnGroupLostAction::kFail;
  options.forced_preemption_period = message.forced_preemption_period();
  // The salts' key stays secret: decisions depend on which salts are equal.
  options.preemption_mode = ParsePreemptionMode(message.preemption_mode())
                                .value_or(PreemptionMode::kRecompute);
  options.enable_prefix_caching = message.enable_prefix_caching();
  options.sliding_window = message.sliding_window();
  options.sparse_pages = message.sparse_pages();
  options.token_multiple = std::max(1, message.token_multiple());
  options.demote_prefixes = ParsePrefixDemotion(message.demote_prefixes())
                                .value_or(PrefixDemotion::kNever);
  options.priority_ageing = absl::Microseconds(message.priority_ageing_us());
  options.tenants = DecodeTenants(message.tenants());
  return options;
}

void EncodeRequest(const EngineRequest& request, v1::RecordedRequest* message) {
  const SamplingParams& sampling = request.sampling;
  message->set_request_id(request.request_id);
  EncodeTokens(request.prompt, message->mutable_prompt());
  EncodeSlotSampling(sampling.slot, message->mutable_sampling());
  message->set_n(sampling.n);
  message->set_best_of(sampling.best_of);
  message->set_beam_width(sampling.beam_width);
  message->set_length_penalty(sampling.length_penalty);
  message->set_early_stopping(static_cast<int32_t>(sampling.early_stopping));
  EncodeTokens(sampling.stop_token_ids, message->mutable_stop_token_ids());
  message->set_has_stop_strings(!sampling.stop.empty());
  message->set_max_tokens(sampling.max_tokens);
  message->set_priority(request.priority);
  message->set_tenant(request.tenant);
  message->set_use_prefix_cache(request.use_prefix_cache);
  message->set_cache_salt(request.cache_salt);
  if (request.deadline != absl::InfiniteFuture()) {
    message->set_deadline_ns(absl::ToUnixNanos(request.deadline));
  }
}

EngineRequest DecodeRequest(const v1::RecordedRequest& message) {
  EngineRequest request;
  SamplingParams& sampling = request.sampling;
  request.request_id = message.request_id();
  request.prompt = DecodeTokens(message.prompt());
  // Of a file that is damaged a field more or less makes no difference.
  DecodeSlotSampling(message.sampling(), &sampling.slot).IgnoreError();
  sampling.n = message.n();
  sampling.best_of = message.best_of();
  sampling.beam_width = message.beam_width();
  sampling.length_penalty = message.length_penalty();
  sampling.early_stopping =
      static_cast<EarlyStopping>(message.early_stopping());
  sampling.stop_token_ids = DecodeTokens(message.stop_token_ids());
  if (message.has_stop_strings()) sampling.stop.push_back("(not recorded)");
  sampling.max_tokens = message.max_tokens();
  request.priority = message.priority();
  request.tenant = message.tenant();
  request.use_prefix_cache = message.use_prefix_cache();
  request.cache_salt = message.cache_salt();
  if (message.deadline_ns() != 0) {
    request.deadline = absl::FromUnixNanos(message.deadline_ns());
  }
  return request;
}

void EncodeGroup(const GroupReady& group, v1::RecordedGroup* message) {
  message->mutable_epoch()->set_coordinator_epoch(
      group.coordinator_epoch.value());
  message->mutable_epoch()->set_group_epoch(group.group_epoch.value());
  message->set_num_blocks(group.num_blocks);
  message->set_num_host_blocks(group.num_host_blocks);
  message->set_swap_blocks_per_second(group.swap_blocks_per_second);
  message->set_prefill_tokens_per_second(group.prefill_tokens_per_second);
  message->set_block_size(group.block_size);
}

GroupReady DecodeGroup(const v1::RecordedGroup& message) {
  return {.coordinator_epoch = Epoch(message.epoch().coordinator_epoch()),
          .group_epoch = Epoch(message.epoch().group_epoch()),
          .num_blocks = message.num_blocks(),
          .num_host_blocks = message.num_host_blocks(),
          .swap_blocks_per_second = message.swap_blocks_per_second(),
          .prefill_tokens_per_second = message.prefill_tokens_per_second(),
          .block_size = message.block_size()};
}

void EncodeLoss(const absl::Status& cause, v1::RecordedLoss* message) {
  message->set_code(static_cast<int32_t>(cause.code()));
  message->set_message(std::string(cause.message()));
}

absl::Status DecodeLoss(const v1::RecordedLoss& message) {
  return absl::Status(static_cast<absl::StatusCode>(message.code()),
                      message.message());
}

}  // namespace quire
