"""Broken variants of the paged manager, each of which random use must catch.

A mutant is one source file of //coordinator/kv with one line changed, linked in
the place of the original. The product knows nothing of it.
"""

load("//tools/bazel:quire.bzl", "quire_cc_test")

# name: (file, what the line has, what it has instead)
MUTANTS = {
    # Contents are lost track of.
    "drop_frees_what_is_wanted": (
        "block_store.cc",
        "contents.is_wanted() && pool_.num_refs(block) == 1",
        "false && contents.is_wanted()",
    ),
    "evicted_prefix_is_still_found": (
        "block_store.cc",
        "    SetPlace(contents, BlockPlace());",
        "    if (contents.node == kNoNode) SetPlace(contents, BlockPlace());",
    ),
    "overwritten_prefix_is_still_found": (
        "block_store.cc",
        "if (contents.node != kNoNode) {",
        "if (false) {",
    ),
    "overwritten_parked_rows_are_still_found": (
        "block_store.cc",
        "parked_.num_rows(contents.parked) > offset) {",
        "false && parked_.num_rows(contents.parked) > offset) {",
    ),
    "siblings_share_one_note": (
        "parked_sequences.cc",
        "  ++parked.num_notes;",
        "",
    ),
    # Moves are wrong, or race with others of the plan.
    "swap_out_is_not_sent": (
        "block_store.cc",
        "    host_pool_.SwapOut(block, *host, plan);",
        "",
    ),
    "swap_in_is_not_sent": (
        "block_store.cc",
        "  host_pool_.SwapIn(host, block, plan);",
        "",
    ),
    "host_block_is_written_while_read": (
        "host_pool.cc",
        "  if (IsReadBy(plan, block)) return std::nullopt;",
        "",
    ),
    "host_block_is_written_twice": (
        "host_pool.cc",
        "plan->swap_outs[idx].host == host",
        "false",
    ),
    "forgotten_host_block_is_not_freed": (
        "block_store.cc",
        "      host_pool_.Free(place.host());",
        "",
    ),
    "own_blocks_are_evicted_for_the_rest": (
        "block_store.cc",
        "    if (place.is_host()) host_pool_.Claim(place.host());",
        "",
    ),
    # Sharing.
    "shared_block_is_written": (
        "paged_manager.cc",
        "pool.num_refs(table.block(idx)) > 1;",
        "pool.num_refs(table.block(idx)) > 2;",
    ),
    "parked_block_that_a_sibling_holds_is_written": (
        "paged_manager.cc",
        "offset > 0 && IsHeldByOthers(places_.back())",
        "false && IsHeldByOthers(places_.back())",
    ),
    "fork_holds_nothing": (
        "paged_manager.cc",
        "  for (BlockId block : seat.table.live()) store_.Hold(block);",
        "",
    ),
    # Prefixes.
    "every_token_is_found": (
        "block_store.cc",
        "static_cast<int32_t>(admission.tokens.size()) - 1;",
        "static_cast<int32_t>(admission.tokens.size());",
    ),
    "prefix_outlives_its_beginning": (
        "prefix_index.cc",
        "  Pin(parent);",
        "",
    ),
    "scopes_share": (
        "paged_manager.cc",
        "  const ReusableBlocks found = store_.FindReusable(admission, &places_);",
        "  KvAdmission other = admission; other.scope = admission.scope != 0; " +
        "const ReusableBlocks found = store_.FindReusable(other, &places_);",
    ),
    "partial_block_is_published": (
        "paged_manager.cc",
        "const int32_t num_full = num_computed / options_.block_size;",
        "const int32_t num_full = std::min<int32_t>(BlocksFor(num_computed), " +
        "tokens.size() / options_.block_size);",
    ),
    "cursor_stays_pinned": (
        "paged_manager.cc",
        "  store_.Unpin(std::exchange(seat.cursor, {}));",
        "  seat.cursor = {};",
    ),
    # Arithmetic.
    "parked_one_token_too_many": (
        "block_store.cc",
        "ParkedSequence parked = {.num_computed = num_computed,",
        "ParkedSequence parked = {.num_computed = num_computed + " +
        "(num_computed % options_.block_size != 0),",
    ),
    "window_drops_a_block_too_many": (
        "paged_manager.cc",
        "std::min(num_tokens / options_.block_size, table.num_blocks());",
        "std::min(BlocksFor(num_tokens), table.num_blocks());",
    ),
    "prefix_window_begins_a_block_too_late": (
        "block_store.cc",
        "        FirstSeenToken((idx + 1) * block_size, window) / block_size;",
        "        std::min(idx, FirstSeenToken((idx + 1) * block_size, window)" +
        " / block_size + 1);",
    ),
    "replaced_block_is_not_in_the_digest": (
        "paged_manager.cc",
        "    digest_.Toggle(slot, idx, block_copy.dst.value());",
        "",
    ),
}

# Replaces the one line that has $OLD; fails unless there is exactly one.
_MUTATE = """
OLD='{old}' NEW='{new}' awk '
  BEGIN {{ old = ENVIRON["OLD"]; new = ENVIRON["NEW"] }}
  (at = index($$0, old)) {{
    ++count
    $$0 = substr($$0, 1, at - 1) new substr($$0, at + length(old))
  }}
  {{ print }}
  END {{
    if (count != 1) {{
      print "{name}: " count + 0 " lines match" > "/dev/stderr"
      exit 1
    }}
  }}' $< > $@
"""

def kv_mutant_tests(deps):
    """One test a mutant.

    Args:
      deps: the check and all libraries of the paged manager.
    """
    for name, (file, old, new) in MUTANTS.items():
        native.genrule(
            name = name + "_source",
            testonly = True,
            srcs = ["//coordinator/kv:" + file],
            outs = ["mutants/%s/%s" % (name, file)],
            cmd = _MUTATE.format(name = name, old = old, new = new),
        )
        quire_cc_test(
            name = "mutant_%s_test" % name,
            size = "medium",
            srcs = ["mutants/%s/%s" % (name, file)],
            # What was taken away may leave a name unused.
            copts = ["-Wno-error"],
            # From an archive the linker takes what nobody else defines.
            linkstatic = True,
            deps = deps,
        )
