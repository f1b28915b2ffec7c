// SPDX-License-Identifier: Apache-2.0
//
// What DecoderOps does in layers of experts.
#include "common/status_macros.h"
#include "worker/model/decoder_ops.h"

namespace quire {

absl::Status DecoderOps::Experts(const MoeWeights& moe, const void* x,
                                 int32_t num_tokens) {
  const Activations& act = activations_;
  const int32_t top_k = config_.moe.top_k;
  const int32_t num_experts = config_.moe.num_experts;
  const int32_t width = shape_.num_expert_intermediate;
  const bool has_shared = moe.shared_in.weight != nullptr;
  if (has_shared) {
    QUIRE_RETURN_IF_ERROR(
        MlpIn(moe.shared_in, shape_.num_shared_intermediate, x, num_tokens));
    QUIRE_RETURN_IF_ERROR(
        Multiply(*moe.shared_out.weight, moe.shared_out.bias.get(), act.mlp_act,
                 act.partial, backend_.partial_dtype(), num_tokens));
  }
  // Ranks that routed a token to different experts would sum halves of each.
  QUIRE_RETURN_IF_ERROR(backend_.Gemm({.x = x,
                                       .x_stride = moe.router->k(),
                                       .weight = moe.router.get(),
                                       .bias = nullptr,
                                       .y = act.router_logits,
                                       .y_stride = moe.router->n(),
                                       .y_dtype = DType::kF32,
                                       .m = num_tokens,
                                       .is_alike = true}));
  QUIRE_RETURN_IF_ERROR(
      backend_.RouteTokens({.logits = act.router_logits,
                            .logits_stride = moe.router->n(),
                            .num_experts = num_experts,
                            .top_k = top_k,
                            .num_tokens = num_tokens,
                            .renormalize = config_.moe.renormalize,
                            .weights = act.expert_weights,
                            .experts = act.experts,
                            .row_tokens = act.row_tokens,
                            .pair_rows = act.pair_rows,
                            .expert_start = act.expert_start}));
  ExpertGemmParams product = {.x = x,
                              .row_tokens = act.row_tokens,
                              .weight = moe.experts_in.get(),
                              .expert_start = act.expert_start,
                              .y = act.expert_in,
                              .y_dtype = backend_.dtype(),
                              .num_experts = num_experts,
                              .num_rows = num_tokens * top_k};
  QUIRE_RETURN_IF_ERROR(backend_.ExpertGemm(product));
  QUIRE_RETURN_IF_ERROR(backend_.Activation({.kind = activation(),
                                             .x = act.expert_in,
                                             .out = act.expert_act,
                                             .width = width,
                                             .num_tokens = product.num_rows}));
  product.x = act.expert_act;
  product.row_tokens = nullptr;
  product.weight = moe.experts_out.get();
  product.y = act.expert_out;
  product.y_dtype = backend_.partial_dtype();
  QUIRE_RETURN_IF_ERROR(backend_.ExpertGemm(product));
  return backend_.CombineExperts(
      {.y = act.expert_out,
       .dtype = backend_.partial_dtype(),
       .pair_rows = act.pair_rows,
       .weights = act.expert_weights,
       .shared = has_shared ? act.partial : nullptr,
       // Behind the experts' logits.
       .gate = has_shared ? act.router_logits + num_experts : nullptr,
       .gate_stride = moe.router->n(),
       .out = act.partial,
       .width = config_.hidden_size,
       .top_k = top_k,
       .num_tokens = num_tokens});
}

}  // namespace quire
