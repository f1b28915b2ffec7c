# SPDX-License-Identifier: Apache-2.0
"""What the demo model knows: questions, many ways of asking, one answer each.

`FACTS` holds the in-domain facts; `questions(fact)` lists every base phrasing
of one, and `dress(rng, question)` varies greeting, case and punctuation.
Beside them stand small talk (`SMALL_TALK`) and questions from outside the
domain (`write_off_topic`), which get a polite refusal.
"""

import dataclasses
import functools
import hashlib
from typing import Tuple

from phrases import expand, expand_all


@dataclasses.dataclass(frozen=True)
class Fact:
    """One answer and the ways to ask for it.

    `terms` are noun phrases to be defined ("a KV block"); `asks` are whole
    questions, with [a|b] alternatives.
    """

    key: str
    answer: str
    terms: Tuple[str, ...] = ()
    asks: Tuple[str, ...] = ()


# How to ask for a definition. {x} is the term, {is} agrees with it.
_SINGULAR = (
    "What is {x}?", "What's {x}?", "What exactly is {x}?",
    "So what is {x}?", "Explain {x}.", "Explain {x} to me.",
    "Can you explain {x}?", "Could you explain {x} to me?",
    "Please explain {x}.", "Tell me about {x}.", "Tell me what {x} is.",
    "Can you tell me about {x}?", "Could you tell me what {x} is?",
    "Do you know what {x} is?", "I do not understand {x}.",
    "I don't know what {x} is.", "Describe {x}.", "Define {x}.",
    "Give me a definition of {x}.", "What do you mean by {x}?",
    "What is meant by {x}?", "How would you define {x}?",
    "In simple words, what is {x}?", "What is {x} in Quire?",
    "What is {x} in LLM serving?", "Help me understand {x}.",
    "Explain what {x} is.", "{x}?", "I want to know what {x} is.",
    "What can you tell me about {x}?", "What do you know about {x}?",
    "What is the meaning of {x}?", "Can you say what {x} is?",
    "How do you explain {x}?", "What sort of thing is {x}?",
)
_PLURAL = (
    "What are {x}?", "What exactly are {x}?", "So what are {x}?",
    "Explain {x}.", "Explain {x} to me.", "Can you explain {x}?",
    "Could you explain {x} to me?", "Please explain {x}.",
    "Tell me about {x}.", "Tell me what {x} are.",
    "Can you tell me about {x}?", "Could you tell me what {x} are?",
    "Do you know what {x} are?", "I do not understand {x}.",
    "I don't know what {x} are.", "Describe {x}.", "Define {x}.",
    "What do you mean by {x}?", "What is meant by {x}?",
    "In simple words, what are {x}?", "What are {x} in Quire?",
    "What are {x} in LLM serving?", "Help me understand {x}.", "{x}?",
    "I want to know what {x} are.", "What can you tell me about {x}?",
    "What do you know about {x}?",
)


def _is_plural(term):
    return term.endswith("s") and not term.startswith(("a ", "an ", "the ")) \
        and not term.endswith(("ss", "us", "is"))


@functools.lru_cache(maxsize=None)
def questions(fact):
    """Every base phrasing of the fact, as a tuple without repeats."""
    found = []
    for term in fact.terms:
        templates = _PLURAL if _is_plural(term) else _SINGULAR
        found += [t.replace("{x}", term) for t in templates]
        bare = term.split(" ", 1)[1] if term.startswith(("a ", "an ")) else term
        found += [f"What does {bare} mean?", f"Meaning of {bare}?"]
    for ask in fact.asks:
        found += expand_all(ask)
    found = [q[0].upper() + q[1:] for q in found]
    return tuple(dict.fromkeys(found))


_GREETINGS = ("Hello, ", "Hi, ", "Hi! ", "Hello! ", "Hey, ", "Please tell me: ",
              "Quick question: ", "A question: ", "Excuse me, ", "Okay, ",
              "I have a question. ", "Good morning. ", "Can you help me? ")


@functools.lru_cache(maxsize=None)
def _always_learnt(fact):
    """Phrasings without a close relative, and the first one, as plain text."""
    lonely = [a for a in fact.asks if len(expand_all(a)) < 3]
    return {_plain(q) for a in lonely for q in expand_all(a)} | {
        _plain(questions(fact)[0])}


def _plain(question):
    return question.lower().rstrip("?.!")


def is_held_out(fact, question):
    """Whether training never sees this phrasing: about one in twelve.

    A question that has no close relative among the phrasings is always learnt:
    holding it out would test knowledge that was never given.
    """
    if _plain(question) in _always_learnt(fact):
        return False
    digest = hashlib.md5(f"{fact.key}|{_plain(question)}".encode()).digest()
    return digest[0] < 21


def dress(rng, question):
    """The question as people type it: greeted, lower case, no question mark."""
    if rng.random() < 0.12:
        greeting = rng.choice(_GREETINGS)
        if greeting[-2] in ",:":
            keep = (question[1:2].isupper()
                    or question.startswith(("I ", "Quire")))
            question = question if keep else question[0].lower() + question[1:]
        question = greeting + question
    style = rng.random()
    if style < 0.22:
        question = question.lower()
    elif style < 0.25:
        question = question.upper()
    ending = rng.random()
    if ending < 0.22:
        question = question.rstrip("?.")
    elif ending < 0.25:
        question = question.rstrip("?.") + rng.choice(("??", " ?", "!", "..."))
    return question


def _fact(key, terms, asks, answer):
    return Fact(key, answer, tuple(terms), tuple(asks))


FACTS = [
    # -- paging ---------------------------------------------------------------
    _fact("kv_cache", ["the KV cache", "a KV cache", "KV cache", "KV caching",
                       "the key-value cache"],
          ["[Why|What] do [we|you|LLMs] need [a|the] KV cache[ for|]?",
           "What is [stored|kept|held|inside] [in|] the KV cache?",
           "What does the KV cache [hold|store|contain]?"],
          "The KV cache holds the keys and values of the past tokens, so that "
          "each new token can attend to them without computing them again."),
    _fact("kv_block", ["a KV block", "KV blocks", "the KV block", "KV block",
                       "a block of the KV cache", "a KV cache block",
                       "a block in Quire", "blocks in the KV cache"],
          ["What does a KV block [hold|store|contain]?",
           "What is a block?", "What is a block in paged attention?"],
          "A KV block is a fixed run of token positions in the KV cache. It "
          "holds their keys and values, and it is the unit in which KV memory "
          "is allocated."),
    _fact("block_size", ["the block size", "block size", "a block size"],
          ["How [big|large|long] is a [KV |]block?",
           "How many tokens [are in|fit in|fit into|does] [a|one] [KV |]block"
           "[ hold|]?",
           "What is the default block size?",
           "Which block size [does Quire use|is the default]?",
           "What does --block_size [do|mean|set]?"],
          "The block size is the number of tokens in one KV block. The default "
          "is 16, and any power of two up to 256 is allowed."),
    _fact("paged_attention", ["paged attention", "PagedAttention",
                              "attention with paging"],
          ["How does [paged attention|PagedAttention] work?",
           "[Why|What] is [paged attention|PagedAttention] [good|used] for?",
           "What is the idea [of|behind] [paged attention|PagedAttention]?"],
          "PagedAttention keeps the KV cache in fixed-size blocks that need "
          "not be contiguous in memory. A block table maps the blocks of each "
          "sequence, as a page table does in an operating system."),
    _fact("block_table", ["a block table", "block tables", "the block table",
                          "block table"],
          ["What does [a|the] block table [hold|do|contain|map]?",
           "What is [a|the] block table [good|used] for?",
           "How does a sequence find its blocks?"],
          "A block table belongs to one sequence. It maps its logical blocks "
          "to physical block numbers, so that the blocks can lie anywhere in "
          "the pool."),
    _fact("logical_block", ["a logical block", "logical blocks",
                            "logical block"],
          ["What is the difference between [a |]logical and [a |]physical "
           "block[s|]?"],
          "A logical block is the nth block of a sequence. A physical block is "
          "its number in the pool. The block table maps the one to the other."),
    _fact("physical_block", ["a physical block", "physical blocks",
                             "physical block"], [],
          "A physical block is a numbered block of the pool. One number is "
          "valid in every layer, and several sequences may share it."),
    _fact("block_pool", ["the block pool", "a block pool", "block pool"],
          ["What does the block pool do?", "Who [hands out|owns] [the |]blocks?",
           "Where do [free |]blocks come from?"],
          "The block pool is a fixed set of equal KV blocks with reference "
          "counts. It hands out block numbers, never addresses, and a block is "
          "free again when its last holder lets go."),
    _fact("block_manager", ["the block manager", "a block manager",
                            "the KV block manager", "the KV manager",
                            "the global block manager", "block manager"],
          ["What does the [KV |global |]block manager do?",
           "What is the job of the block manager?"],
          "The block manager owns the KV blocks. It gives blocks to sequences, "
          "shares and copies them, and knows which prefix is cached where."),
    _fact("slot", ["a slot", "slots", "a KV slot"],
          ["How is a slot [computed|calculated]?",
           "Where is [the KV of a token|one token] [stored|kept]?"],
          "A slot is the place of one token in the KV cache. It is the block "
          "number times the block size, plus the offset in the block."),
    _fact("slot_mapping", ["the slot mapping", "a slot mapping",
                           "slot mapping"],
          ["[Where|Who] [is|makes] the slot mapping[ made|]?",
           "What does -1 mean in [the|a] slot mapping?"],
          "The slot mapping says, for each new token, to which slot its key "
          "and value are written. It is -1 for padding, and only the input "
          "builder makes it."),
    _fact("reference_count", ["a reference count", "reference counts",
                              "the reference count", "reference counting"],
          ["Why do blocks have [a |]reference count[s|]?",
           "When is a block [freed|given back|free again]?",
           "How [do you know|does Quire know] that a block is free?"],
          "The reference count of a block is the number of its holders. When "
          "the last holder lets go, the count is zero and the block is free."),
    _fact("fork", ["a fork", "forks", "forking a sequence", "a fork of a "
                   "sequence"],
          ["What happens when a sequence [forks|is forked]?",
           "How does a fork work?"],
          "A fork is a new sequence that shares all blocks of its parent. "
          "Nothing is copied until one of them writes to a shared block."),
    _fact("cow", ["copy-on-write", "copy on write", "COW",
                  "a copy-on-write block"],
          ["How does copy[-| ]on[-| ]write work?",
           "Why do[es Quire| we] need copy[-| ]on[-| ]write?",
           "What happens when [a sequence writes|two sequences write] to a "
           "shared block?"],
          "Copy-on-write means that a shared last block is copied before a "
          "sequence appends to it. So sequences can share blocks safely, and "
          "only what differs is copied."),
    _fact("internal_fragmentation", ["internal fragmentation"],
          ["What is the difference between internal and external "
           "fragmentation?"],
          "Internal fragmentation is memory that was reserved but is never "
          "used. With paging it is at most one partly filled block per "
          "sequence."),
    _fact("external_fragmentation", ["external fragmentation"], [],
          "External fragmentation is memory that is free but cannot be used, "
          "because the pieces are too small. Equal blocks do not suffer from "
          "it."),
    _fact("why_paging", [],
          ["Why [is paging|are pages|is paged memory] [better|good|useful]?",
           "Why do we need paging?", "Why not [reserve|allocate] one contiguous "
           "[buffer|piece of memory] [for each request|per request]?",
           "What [is the advantage|are the advantages] of paging?",
           "What is wrong with contiguous KV [memory|caches]?"],
          "With contiguous memory one must reserve the maximum length, and most "
          "of it is wasted. With paging, blocks are given on demand, so more "
          "requests fit and throughput rises."),
    _fact("watermark", ["the watermark", "a watermark", "watermark"],
          ["Why [is there|do we need] a watermark?",
           "What does the watermark do?"],
          "The watermark is a number of blocks that stay free when new requests "
          "are admitted, so that they are not preempted at once."),
    _fact("out_of_blocks", [],
          ["What happens when [the blocks run out|there are no free blocks|"
           "Quire runs out of [KV |]blocks|KV memory is full|no block is "
           "free]?",
           "What if [there are no more blocks|the KV cache is full|the pool is "
           "empty]?"],
          "Being out of KV blocks is an answer, never a crash. The scheduler "
          "preempts the request that arrived last, and it goes on later."),
    _fact("invariant", [],
          ["What [is the|] invariant [of|holds in|does] the block pool"
           "[ keep|]?", "How [do you know|does Quire check] that no block is "
           "[lost|leaked]?", "How are [block |memory |]leaks found?"],
          "When the engine is idle, free blocks plus cached blocks must equal "
          "all blocks, and every reference count must equal its owners. The "
          "tests assert it."),
    # -- preemption -----------------------------------------------------------
    _fact("preemption", ["preemption", "preempting a request",
                         "a preemption", "preemption in the scheduler"],
          ["[When|Why] [does Quire preempt|are requests preempted|is a request "
           "preempted]?", "How does preemption work?",
           "Which request is preempted[ first|]?"],
          "Preemption takes the blocks of a request back when memory runs out, "
          "by swapping or by recomputation. It is all or nothing, and the "
          "request that arrived last goes first."),
    _fact("swapping", ["swapping", "swap", "preemption by swapping",
                       "swap-out"],
          ["How does swapping work?", "Where do swapped blocks go?",
           "What happens when a request is swapped out?"],
          "Swapping is preemption that moves KV blocks to host memory. When "
          "blocks are free again, they are moved back and the request goes "
          "on."),
    _fact("recompute", ["recomputation", "recompute",
                        "preemption by recomputation",
                        "preemption by recompute"],
          ["How does recomput[ation|ing] work?",
           "What happens when a request is recomputed?"],
          "Recomputation is preemption that drops the KV blocks of a request. "
          "Later its prompt and output tokens are prefilled again, and the "
          "output stays the same."),
    _fact("swap_or_recompute", ["preemption_mode", "--preemption_mode"],
          ["Is it better to swap or[ to|] recompute?",
           "When [should I|do I|does Quire] swap and when recompute?",
           "What is the difference between swap[ping|] and recomput[ation|e]?",
           "How [do I|can I] choose the preemption mode?",
           "What does preemption_mode auto do?"],
          "Choose with --preemption_mode=swap, recompute or auto. The mode auto "
          "compares the measured speed of copying over PCIe with the measured "
          "speed of prefill."),
    _fact("swap_space", ["the swap space", "swap space", "--swap_space"],
          ["How much swap space is there?", "How do I set the swap space?"],
          "The swap space is pinned host memory for swapped KV blocks. Its size "
          "is set with --swap_space."),
    # -- scheduling -----------------------------------------------------------
    _fact("continuous_batching", ["continuous batching",
                                  "iteration-level scheduling",
                                  "continuous batches",
                                  "iteration level scheduling"],
          ["How does continuous batching work?",
           "Why is continuous batching [good|fast|better]?",
           "What is the difference between continuous and static batching?"],
          "In continuous batching the batch may change at every step. A new "
          "request joins, and a finished one leaves, without waiting for the "
          "others."),
    _fact("static_batching", ["static batching", "a static batch"],
          ["Why is static batching [slow|bad]?"],
          "In static batching the batch stays the same until its longest "
          "request has finished. Short requests must wait, so the GPU is badly "
          "used."),
    _fact("iteration", ["an iteration", "a step", "iterations",
                        "a scheduler step"],
          ["What happens in [one|a] step?", "What is a step id?"],
          "An iteration, or step, is one forward pass over one batch. Steps "
          "are numbered by a step id."),
    _fact("step_plan", ["a step plan", "step plans", "the step plan",
                        "StepPlan"],
          ["What is in a step plan?", "What does the coordinator send to the "
           "workers?", "How do workers know what to compute?"],
          "A step plan says what one step computes: the slices to run, the "
          "changes of the block tables and the block copies. The coordinator "
          "sends it to every rank."),
    _fact("step_result", ["a step result", "step results", "the step result",
                          "StepResult"],
          ["What do workers send back?", "What is in a step result?"],
          "A step result holds the tokens that were sampled in one step. Rank 0 "
          "reports the tokens, and every rank reports a digest that the "
          "coordinator compares."),
    _fact("deltas", [],
          ["Why [does Quire send deltas|are deltas sent]?",
           "Why are block tables not sent[ whole| in full|]?",
           "Does the coordinator send [whole|full|complete] block tables?",
           "How are block tables sent[ to the workers|]?"],
          "A step plan carries only changes of the block tables, because whole "
          "tables cost far more time to encode. Each worker mirrors the "
          "tables."),
    _fact("run_ahead", ["run-ahead", "run ahead", "run-ahead scheduling"],
          ["How does Quire hide the scheduling time?",
           "Why does the coordinator plan ahead?", "How deep is the run-ahead?"],
          "Run-ahead means that the coordinator plans the next step before it "
          "has the tokens of this one, since it needs lengths, not values. The "
          "depth is 2 by default."),
    _fact("prefill", ["prefill", "the prefill", "the prefill phase",
                      "prefilling"],
          ["What happens [in|during] [the |]prefill?",
           "What is the difference between prefill and decode?"],
          "Prefill computes the prompt tokens and fills the KV cache with "
          "them. After it comes decode, which makes one new token per sequence "
          "and step."),
    _fact("decode", ["decode", "the decode phase", "decoding"],
          ["What happens [in|during] [the |]decode?",
           "Why is decode [slow|memory bound]?"],
          "Decode computes one new token per sequence from the KV cache. It "
          "moves many bytes for little arithmetic, so it is limited by memory "
          "bandwidth."),
    _fact("chunked_prefill", ["chunked prefill", "chunked prefilling",
                              "prefill chunking", "a prefill chunk"],
          ["How does chunked prefill work?",
           "Why [is chunked prefill good|use chunked prefill|do we chunk "
           "prefill]?",
           "How are long prompts [handled|processed]?"],
          "Chunked prefill spreads a long prompt over several steps under a "
          "token budget, so that running requests do not wait while a long "
          "prompt is computed."),
    _fact("token_budget", ["the token budget", "a token budget",
                           "max_num_batched_tokens",
                           "--max_num_batched_tokens"],
          ["How many tokens are computed [in one|per] step?",
           "How do I set the token budget?"],
          "The token budget is the most tokens that one step may compute. It is "
          "set with --max_num_batched_tokens."),
    _fact("sequence_budget", ["the sequence budget", "a sequence budget",
                              "max_num_seqs", "--max_num_seqs"],
          ["How many [sequences|requests] [run|can run] [at once|together|in "
           "one step]?", "How do I set the batch size?"],
          "The sequence budget is the most sequences that one step may run. It "
          "is set with --max_num_seqs."),
    _fact("scheduler", ["the scheduler", "a scheduler",
                        "the scheduler of Quire"],
          ["What does the scheduler do?", "How does the scheduler work?",
           "How does Quire schedule requests?"],
          "The scheduler decides at every step which sequences run: decodes "
          "first, then prefill chunks, in order of arrival. It is a pure "
          "function of a snapshot."),
    _fact("policy", ["a policy", "scheduling policies",
                     "a scheduling policy"],
          ["Which [scheduling |]policies [are there|does Quire have|can I "
           "choose]?", "How do I add a [new |]policy?"],
          "A policy decides what runs next. There are paged_fcfs, orca and "
          "static_batch. A new one is one file, one test and one line in a "
          "registry."),
    _fact("fcfs", ["FCFS", "first come, first served",
                   "first-come-first-served"],
          ["In which order are requests served?", "Who is served first?",
           "Does Quire have priorities?"],
          "FCFS means first come, first served. Quire serves requests in the "
          "order of arrival, with priorities, and no request waits for ever."),
    _fact("progress", [],
          ["Can a request [starve|wait for ever|wait forever]?",
           "Is progress guaranteed?", "Will my request [always |ever |]finish?",
           "Does every request finish?"],
          "Yes, progress is proved: a single request that fits the pool alone "
          "always finishes."),
    _fact("sequence", ["a sequence", "sequences"], [],
          "A sequence is one stream of tokens that is being extended. A request "
          "with several samples or beams has several sequences."),
    _fact("sequence_group", ["a sequence group", "sequence groups"], [],
          "A sequence group holds the sequences of one request. They are "
          "admitted and preempted together."),
    _fact("request", ["a request", "requests in Quire"],
          ["What happens to [a|my] request?",
           "[What is the|Describe the] life of a request[?|.]"],
          "A request is one client call. The gateway checks it, the scheduler "
          "admits it, the block manager gives it blocks, the workers compute "
          "its tokens, and the tokens are streamed back."),
    _fact("orca", ["Orca", "the Orca policy", "Orca Max"],
          ["What is the difference between Orca Max, Pow2 and Oracle?",
           "What are Orca Max, Pow2 and Oracle?", "What is Pow2?"],
          "Orca brought iteration-level scheduling, with contiguous KV memory. "
          "Orca Max reserves the maximum length, Pow2 the next power of two, "
          "and Oracle the true length."),
    # -- parallelism ----------------------------------------------------------
    _fact("tensor_parallelism", ["tensor parallelism", "tensor parallel",
                                 "TP", "tensor parallel execution"],
          ["How does tensor parallel[ism|] work?",
           "How [are weights|is a model|is the model] [split|sharded|spread] "
           "over [GPUs|several GPUs|ranks]?",
           "How do I use [two|several|many|more] GPUs?",
           "What does --tensor_parallel_size [do|mean]?"],
          "Tensor parallelism splits each layer over several ranks, and an "
          "all-reduce joins the parts. Set --tensor_parallel_size to the number "
          "of ranks."),
    _fact("rank", ["a rank", "ranks", "a tensor parallel rank"],
          ["What is rank 0?", "What is the driver rank?"],
          "A rank is one worker process of a tensor-parallel group, numbered "
          "from 0. Each rank holds its own part of the weights and of the KV "
          "cache."),
    _fact("world_size", ["the world size", "world size"], [],
          "The world size is the number of ranks in a group. With tensor "
          "parallelism over two GPUs it is 2."),
    _fact("all_reduce", ["an all-reduce", "all-reduce", "all-reduces",
                         "allreduce"],
          ["Why [is|do we need] an all-reduce[ needed|]?",
           "What does an all-reduce do?"],
          "An all-reduce sums the partial results of all ranks and gives the "
          "sum to each of them. A row-parallel layer needs one."),
    _fact("column_row", ["column parallelism", "row parallelism",
                         "column parallel", "row parallel"],
          ["What is the difference between column and row parallel[ layers|]?"],
          "Column parallel splits the outputs of a layer over the ranks, and "
          "row parallel splits its inputs. Row parallel needs an all-reduce."),
    _fact("collective", ["a collective", "collectives",
                         "a collective operation"],
          ["Which collectives does Quire [use|have]?",
           "Does Quire use NCCL?", "What is Gloo used for?"],
          "A collective is an operation that all ranks join, such as an "
          "all-reduce. Quire uses NCCL between GPUs, Gloo between CPU "
          "processes, and a local one for tests."),
    _fact("worker", ["a worker", "workers", "the workers",
                     "a worker in Quire"],
          ["What does a worker do?", "What [do|are] the workers [do|for]?",
           "Which process runs the model?"],
          "A worker is the process of one tensor-parallel rank. It runs the "
          "model and the attention kernels, and keeps no scheduling state, so "
          "it can be lost and restarted."),
    _fact("coordinator", ["the coordinator", "a coordinator",
                          "the coordinator of Quire", "coordinator"],
          ["What does the coordinator do?",
           "What is the job of the coordinator?",
           "Where does the scheduler run?"],
          "The coordinator is the central process. It runs the scheduler and "
          "the global block manager, and once per step it sends a step plan to "
          "all workers."),
    _fact("gateway", ["the gateway", "a gateway"],
          ["What does the gateway do?", "Where are bad requests refused?"],
          "The gateway is the door of Quire. It speaks gRPC and OpenAI HTTP, "
          "checks every request once, and streams the tokens back to the "
          "client."),
    _fact("engine_loop", ["the engine loop", "the engine", "an engine loop"],
          ["Which thread writes [the |]engine state?"],
          "The engine loop is the only thread that writes engine state. It "
          "takes requests from an inbox, asks the scheduler, and sends the step "
          "plan."),
    _fact("input_builder", ["the input builder", "an input builder"], [],
          "The input builder turns block tables into slot mappings, positions "
          "and lengths for one step. It is the only place where a slot mapping "
          "is made."),
    _fact("sampler", ["the sampler", "a sampler"],
          ["What does the sampler do?"],
          "The sampler turns logits into tokens. It uses counter-based random "
          "numbers, made from the seed of the request and the position."),
    _fact("epoch", ["an epoch", "epochs", "the group epoch"],
          ["Why do plans carry [epochs|an epoch]?",
           "What is an epoch [good|used] for?"],
          "An epoch numbers the lives of a group. Every plan and result carries "
          "it, so that a process that was paused and wakes up late can do no "
          "harm."),
    # -- prefix cache, vAttention ---------------------------------------------
    _fact("prefix_cache", ["the prefix cache", "prefix caching",
                           "a prefix cache", "prefix cache"],
          ["How does [the prefix cache|prefix caching] work?",
           "How do I [turn on|enable] [the prefix cache|prefix caching]?",
           "What does --enable_prefix_caching do?",
           "Can requests share [a prompt|prompts|their prompt]?"],
          "The prefix cache lets requests with the same beginning share full KV "
          "blocks, found by a hash chained over the tokens. Turn it on with "
          "--enable_prefix_caching."),
    _fact("prefix_hit", ["a prefix hit", "prefix hits", "a prefix cache hit"],
          ["Is a prefix hit safe?", "What happens on a prefix [cache |]hit?"],
          "On a prefix hit, cached blocks are used instead of computing them "
          "again. The token ids are compared, so a hash collision does no "
          "harm."),
    _fact("eviction", ["eviction", "evicting blocks"],
          ["Which cached blocks are [evicted|dropped] first?",
           "When are cached blocks evicted?"],
          "Eviction gives cached blocks back to the pool when memory is needed. "
          "The cached block that was not used for the longest time, and that "
          "nobody holds, goes first."),
    _fact("vattention", ["vAttention", "virtual KV", "the virtual KV manager",
                         "virtual-contiguous KV"],
          ["How does vAttention work?",
           "What is the difference between vAttention and "
           "[PagedAttention|paged attention]?"],
          "vAttention keeps the KV cache contiguous in virtual memory and maps "
          "physical pages of 2 MiB on demand. So kernels need no block table."),
    _fact("page", ["a page in vAttention", "a page", "pages in vAttention"],
          ["What is the difference between a page and a block?"],
          "In vAttention a page is the unit of the driver, for example 2 MiB. A "
          "block is a run of tokens, for example 16 of them."),
    # -- decoding methods -----------------------------------------------------
    _fact("beam_search", ["beam search", "a beam search", "beams"],
          ["How does beam search work?", "Does Quire [support|have|do] beam "
           "search?", "Where does beam search run?"],
          "Beam search keeps the best few sequences at every step and extends "
          "them. Quire runs it inside the engine, where beams share blocks by "
          "fork and copy-on-write."),
    _fact("parallel_sampling", ["parallel sampling"],
          ["How do I get several [answers|outputs|samples]?",
           "What does n [mean|do]?", "How do samples share memory?"],
          "Parallel sampling makes n outputs for one prompt. The samples share "
          "the blocks of the prompt, and copy-on-write separates them when "
          "they differ."),
    _fact("temperature", ["temperature", "the temperature"],
          ["What does temperature do?", "How do I set the temperature?",
           "Which temperature is greedy?"],
          "Temperature controls how random the sampling is, from 0 to 2. At "
          "zero the most likely token is always taken, which is called greedy."),
    _fact("greedy", ["greedy sampling", "greedy decoding", "greedy"], [],
          "Greedy decoding always takes the most likely token. You get it with "
          "temperature 0."),
    _fact("top_p", ["top_p", "top-p", "nucleus sampling"], [],
          "With top_p, only the most likely tokens whose probabilities sum to "
          "top_p are kept for sampling."),
    _fact("top_k", ["top_k", "top-k", "top-k sampling"], [],
          "With top_k, only the k most likely tokens are kept for sampling. "
          "The value -1 turns it off."),
    _fact("seed", ["a seed", "the seed"],
          ["How do I get the same [output|answer] [again|twice]?",
           "Is sampling reproducible?", "What does the seed do?"],
          "The seed fixes the random numbers of a request. In Quire each number "
          "depends only on the seed and the position, so the same request gives "
          "the same output again."),
    _fact("structured_output", ["structured output", "guided decoding",
                                "constrained decoding", "a token mask"],
          ["Can Quire [write|produce|return] JSON?",
           "How do I get valid JSON?"],
          "Constrained decoding allows only tokens that fit a JSON schema, a "
          "regular expression or a grammar. A token mask forbids all others."),
    # -- measures -------------------------------------------------------------
    _fact("ttft", ["TTFT", "time to first token", "the time to first token"],
          ["How is TTFT [measured|defined|computed]?",
           "What does TTFT stand for?"],
          "TTFT is the time to first token: from the arrival of a request until "
          "its first output token."),
    _fact("tpot", ["TPOT", "time per output token",
                   "the time per output token"],
          ["How is TPOT [measured|defined|computed]?",
           "What does TPOT stand for?"],
          "TPOT is the time per output token: the time from the first to the "
          "last token, divided by the number of output tokens minus one."),
    _fact("itl", ["ITL", "inter-token latency", "the inter-token latency"],
          ["How is ITL [measured|defined|computed]?",
           "What does ITL stand for?",
           "What is the difference between TPOT and ITL?"],
          "ITL is the inter-token latency: each gap between two consecutive "
          "tokens. TPOT is one mean per request, and ITL is every single gap."),
    _fact("ttft_tpot_itl", [],
          ["What are TTFT, TPOT and ITL?", "What [do|are] TTFT[,| and] TPOT "
           "[mean|]?", "What is the difference between TTFT and TPOT?",
           "Explain TTFT, TPOT and ITL."],
          "TTFT is the time until the first token, TPOT is the mean time per "
          "output token after it, and ITL is each gap between two tokens."),
    _fact("normalized_latency", ["normalized latency",
                                 "the normalized latency"], [],
          "Normalized latency is the end-to-end time of a request divided by "
          "the number of its output tokens."),
    _fact("throughput", ["throughput", "the throughput"],
          ["How is throughput measured?", "How can I get more throughput?"],
          "Throughput is how much work is done per second, in tokens or in "
          "requests. Larger batches raise it, and paging makes larger batches "
          "fit."),
    _fact("goodput", ["goodput", "the goodput"],
          ["What is the difference between throughput and goodput?"],
          "Goodput is the number of requests per second that meet their latency "
          "target."),
    _fact("slo", ["an SLO", "SLO"], [],
          "An SLO is a latency target, for example a time to first token below "
          "200 ms. Goodput counts the requests that meet it."),
    _fact("latency_tradeoff", [],
          ["Why does a [large|larger|big|bigger] batch [raise|increase] "
           "latency?", "What limits the batch size?",
           "Is a [large|larger|bigger] batch always better?"],
          "A larger batch uses the GPU better and raises throughput, but each "
          "step takes longer. Memory for the KV cache limits the batch size."),
    # -- models and kernels ---------------------------------------------------
    _fact("gqa", ["GQA", "grouped-query attention", "grouped query attention"],
          ["Why is GQA [good|useful]?", "What does GQA stand for?"],
          "In grouped-query attention, GQA, several query heads share one KV "
          "head. So the KV cache is smaller."),
    _fact("mqa", ["MQA", "multi-query attention"], [],
          "In multi-query attention, MQA, all query heads share a single KV "
          "head."),
    _fact("kv_head", ["a KV head", "KV heads"], [],
          "A KV head makes one set of keys and values. With GQA there are fewer "
          "KV heads than query heads."),
    _fact("head_dim", ["the head dim", "head_dim", "the head dimension"], [],
          "The head dim is the number of elements per attention head, for "
          "example 64 or 128."),
    _fact("online_softmax", ["online softmax", "the online softmax"],
          ["How [is|does] the online softmax [computed|work]?"],
          "The online softmax keeps a partial output, a running max and a "
          "running sum. Two such states can be merged, so attention can be "
          "computed in pieces."),
    _fact("split_kv", ["split-KV", "flash-decoding", "flash decoding"], [],
          "In split-KV, or flash-decoding, several blocks of threads share one "
          "long sequence, and their partial results are merged at the end."),
    _fact("cuda_graph", ["a CUDA graph", "CUDA graphs"],
          ["Why does Quire use CUDA graphs?"],
          "A CUDA graph is a recorded list of kernel launches that is replayed "
          "for a fixed shape. It saves launch time, and the batch is padded to "
          "a captured size."),
    _fact("context_length", ["the context length", "context length"], [],
          "The context length is the number of tokens that a query may attend "
          "to: the prompt and the output so far."),
    _fact("token", ["a token", "tokens"],
          ["What is the difference between a token and a word?"],
          "A token is a piece of text with a number. Models read and write "
          "tokens, and a tokenizer turns text into tokens and back."),
    _fact("tokenizer", ["a tokenizer", "the tokenizer", "tokenizers"],
          ["Which tokenizer does Quire use?"],
          "A tokenizer turns text into token ids and back. Quire uses the "
          "tokenizer.json of the model."),
    _fact("chat_template", ["a chat template", "the chat template",
                            "chat templates"], [],
          "A chat template turns a list of messages into one prompt, with "
          "special tokens between the roles."),
    _fact("llm", ["an LLM", "LLMs", "a large language model",
                  "a language model"], [],
          "An LLM is a large language model: it reads tokens and predicts the "
          "next one, again and again."),
    _fact("llm_serving", ["LLM serving", "LLM inference", "model serving"],
          ["Why is LLM serving [hard|difficult]?"],
          "LLM serving means running a language model for many users at once. "
          "It is hard because the KV cache is large and nobody knows how long "
          "an output will be."),
    _fact("attention", ["attention", "self-attention",
                        "the attention mechanism"], [],
          "In attention, each token looks at the tokens before it: its query is "
          "compared with their keys, and their values are mixed accordingly."),
    _fact("kernel", ["a kernel", "kernels", "an attention kernel"], [],
          "A kernel is a small program that runs on the GPU. In Quire it gets "
          "pointers and shapes in and gives an error code back."),
    _fact("backend", ["a backend", "backends", "the CPU backend"],
          ["Which backends does Quire have?", "Does Quire run on [a |]CPU"
           "[ only|s|]?", "Can I run Quire without a GPU?",
           "Do I need a GPU?", "Does Quire need a GPU?"],
          "Quire has two backends: cpu and cuda. The CPU backend runs the whole "
          "cluster without a GPU, and the same binaries run on eight GPUs."),
    _fact("batch_invariance", ["batch invariance", "batch-invariance"],
          ["Does the output depend on the batch?",
           "Does the output [of a request |]depend on [other|what else is in "
           "the] [requests|batch]?",
           "Is [Quire|the output] deterministic?",
           "Can other [requests|users] change my [output|answer]?",
           "[Why|How] is Quire exact?", "What does exact mean?"],
          "In Quire the output never depends on what else is in the batch, nor "
          "on preemption, chunking, prefix hits or the replica that ran it."),
    _fact("replica", ["a replica", "replicas", "a replica group"], [],
          "A replica is one complete copy of the model on a group of ranks. "
          "Several replicas serve more requests."),
    # -- Quire ----------------------------------------------------------------
    _fact("quire", ["Quire", "the Quire project", "Quire cluster"],
          ["What does Quire do?", "What kind of [program|software|system] is "
           "Quire?", "What is Quire [good|used] for?", "Introduce Quire."],
          "Quire is a distributed serving cluster for large language models, "
          "written in C++. A coordinator schedules the requests, and "
          "tensor-parallel workers run PagedAttention kernels."),
    _fact("quire_name", [],
          ["What does the [name|word] Quire [mean|come from]?",
           "Why is [it|Quire|the project] called Quire?",
           "Where does the name Quire come from?",
           "What is the meaning of the name Quire?"],
          "A quire is a gathering of folded pages. It is also how people once "
          "spelled choir."),
    _fact("why_quire", [],
          ["Why [should I|would anyone|would I] [use|choose] Quire?",
           "What is special about Quire?", "What makes Quire [different|"
           "special|good]?", "What does Quire promise?",
           "What are the promises of Quire?", "What are the advantages of "
           "Quire?"],
          "Quire survives the death of a rank token for token, its output never "
          "depends on the batch, it is fast with no Python on the path, and it "
          "starts anywhere with two commands."),
    _fact("run_quire", [],
          ["How [do|can] I [run|start|launch|try] Quire?",
           "How do I get started[ with Quire|]?",
           "[What|Which] is the [quickest|fastest|easiest] way to [start|run|"
           "try] Quire?",
           "How to [run|start|launch|use] Quire?",
           "How do I install Quire?", "Quick start?"],
          "Run tools/quickstart.sh. It builds Quire and starts a small cluster "
          "with this demo model, on a CPU alone if you like."),
    _fact("quickstart", ["tools/quickstart.sh", "quickstart.sh",
                         "the quickstart script"],
          ["What does [tools/|]quickstart.sh do?"],
          "The script tools/quickstart.sh builds Quire and starts a small "
          "cluster with the demo model, so that you can send requests at once."),
    _fact("quire_serve", ["quire serve", "the command quire serve"],
          ["What does quire serve do?", "How [do|can] I serve [a|my own|my|"
           "another] model?", "How [do|can] I [start|run] a server?",
           "How do I serve a model with Quire?"],
          "Use quire serve with --model and the folder of a Hugging Face model. "
          "It starts the coordinator and the workers."),
    _fact("loadgen", ["loadgen", "the load generator", "the loadgen tool"],
          ["How [do|can] I [measure|test|benchmark|load-test|load test] Quire?",
           "How [do|can] I run a [load test|benchmark]?",
           "How do I measure throughput?", "How do I run loadgen?",
           "How do I start the load generator?"],
          "Run bazel run //tools:loadgen. It sends many requests and prints "
          "throughput, TTFT, TPOT and ITL."),
    _fact("ports", ["the ports of Quire", "the default ports"],
          ["[Which|What] ports does Quire use?",
           "[Which|What] ports are [open|used]?",
           "On which ports does Quire listen?", "List the ports."],
          "Quire uses port 8000 for HTTP, 8001 for gRPC, 8002 for metrics and "
          "9001 for the workers."),
    _fact("http_port", ["the HTTP port"],
          ["[Which|What] port is [for |used for |]HTTP?",
           "[Which|What] port does the OpenAI API use?",
           "Where is the HTTP server?", "On which port is HTTP?"],
          "The HTTP port is 8000."),
    _fact("grpc_port", ["the gRPC port"],
          ["[Which|What] port is [for |used for |]gRPC?",
           "On which port is gRPC?", "Where is the gRPC server?"],
          "The public gRPC port is 8001."),
    _fact("metrics_port", ["the metrics port"],
          ["[Which|What] port is [for |used for |]metrics?",
           "On which port are the metrics?",
           "Where [are|can I see|can I find] the metrics?"],
          "The metrics port is 8002."),
    _fact("worker_port", ["the worker port"],
          ["[Which|What] port is [for |used for |]the workers?",
           "On which port does a worker listen?",
           "[Which|What] port does a worker use?"],
          "A worker listens on port 9001."),
    _fact("api", ["the API of Quire", "the OpenAI API of Quire"],
          ["Which API does Quire [have|speak|offer]?",
           "Is Quire compatible with [OpenAI|the OpenAI API|OpenAI clients]?",
           "How [do|can] I [send a request|call Quire|talk to Quire]?",
           "How do I send a chat request?"],
          "Quire speaks gRPC on port 8001 and an OpenAI-compatible HTTP API on "
          "port 8000. Send a POST to /v1/chat/completions."),
    _fact("metrics", ["the metrics of Quire", "Quire metrics"],
          ["Which metrics does Quire have?",
           "How do I [watch|monitor] Quire?",
           "Does Quire [support|work with] Prometheus?"],
          "Quire exports Prometheus metrics on port 8002. Their names begin "
          "with quire_, and aliases with the names of vLLM are available by a "
          "flag."),
    _fact("rank_death", [],
          ["What happens [when|if] a rank [dies|crashes|hangs|is lost|fails]?",
           "What happens [when|if] a worker [dies|crashes|hangs|is killed|"
           "fails]?", "What happens [when|if] a GPU [dies|fails|breaks]?",
           "How does Quire survive [a crash|the death of a rank|failures|"
           "a failure]?", "Is Quire fault tolerant?",
           "Do I lose my request when a worker [dies|crashes]?",
           "What does Quire do [when|if] a worker [dies|crashes]?"],
          "When a rank dies, the group ends its epoch and forms again. The "
          "prompt and the tokens so far are prefilled again, and the stream "
          "goes on token for token."),
    _fact("liveness", ["a heartbeat", "heartbeats"],
          ["How does Quire [notice|detect|see|know] that a [worker|rank] [is "
           "dead|died|hangs]?", "How fast is a dead worker [noticed|"
           "detected]?"],
          "A broken stream is noticed at once. A heartbeat comes every half "
          "second, and after 3 seconds without one the rank is taken for dead."),
    _fact("cuda_error", [],
          ["What happens [on|after|when there is] a CUDA error?",
           "What does a worker do [on|after] a CUDA error?",
           "What [if there is|about] a CUDA error?",
           "How does Quire handle [a CUDA error|CUDA errors]?"],
          "A CUDA error that poisons the context ends the worker within a "
          "second, saying why. The coordinator does the rest."),
    _fact("request_id", ["a request id", "request_id"],
          ["What happens if I send a request twice?"],
          "A request id names a request, so sending it twice is safe. Tokens "
          "carry absolute offsets, so a stream can go on where it stopped."),
    _fact("language", [],
          ["[In which|What|Which] language is Quire written[ in|]?",
           "Is Quire written in [Python|C++|Rust]?",
           "Does Quire use Python?", "Is there Python in Quire?"],
          "Quire is written in C++20. There is no Python anywhere on the path "
          "of a request."),
    _fact("models", ["the supported models"],
          ["Which models [does Quire support|can Quire run|are supported|can I "
           "run|can I serve]?", "Does Quire [support|run] "
           "[Llama|Qwen|Mistral|OPT|Phi]?", "Can Quire [run|serve] "
           "[Llama|Qwen|Mistral]?", "Which model families are there?"],
          "Quire serves OPT, Llama 2 and 3, Mistral, Qwen 2, 2.5 and 3, and "
          "Phi-1.5 and 2, from Hugging Face safetensors files."),
    _fact("weights", ["safetensors", "the weights"],
          ["Which weight format does Quire read?",
           "How are the weights loaded?", "Where do the weights come from?"],
          "Weights are Hugging Face safetensors files. They are mapped into "
          "memory, and each rank reads only its own slices."),
    _fact("dummy_weights", ["dummy weights", "--load_format=dummy"],
          ["Can I benchmark without weights?", "How do I use random weights?"],
          "With --load_format=dummy Quire fills the model with random weights, "
          "which is enough for benchmarks."),
    _fact("kubernetes", ["the Helm chart", "the Helm chart of Quire"],
          ["How do I deploy Quire?", "How do I run Quire on Kubernetes?",
           "Does Quire [run on|support|work on] Kubernetes?",
           "Is there a Helm chart?"],
          "Quire is deployed on Kubernetes with the Helm chart in the deploy "
          "folder."),
    _fact("bazel", [],
          ["How do I build Quire?", "[Which|What] build system does Quire use?",
           "How [do|can] I [compile|build] Quire[ with CUDA| from source|]?",
           "Is Quire built with Bazel?"],
          "Quire is built with Bazel. Use bazel build //... and add "
          "--config=cuda for the GPU."),
    _fact("tests", [],
          ["How [do|can] I [run the tests|test my change]?",
           "How is Quire tested?", "Do the tests need a GPU?",
           "Can I run the tests without a GPU?",
           "Which command runs the tests?", "Are there tests?"],
          "Run bazel test //... to run the tests. They pass without a GPU, and "
          "a whole cluster of two CPU ranks is tested too."),
    _fact("license", ["the licence of Quire", "the license of Quire"],
          ["Which [licence|license] does Quire have?",
           "[Is Quire open source|Is Quire free|Can I use Quire for free]?"],
          "Quire is open source under the Apache License 2.0."),
    _fact("papers", [],
          ["Which [paper|papers] [does Quire implement|is Quire based on]?",
           "What is Quire based on?",
           "Where can I read about [PagedAttention|paged attention]?",
           "Is there a paper[ about Quire|]?"],
          "Quire implements the PagedAttention paper of SOSP 2023, Efficient "
          "Memory Management for LLM Serving with PagedAttention, and also "
          "vAttention."),
    _fact("explain_itself", [],
          ["Why is [my|a] request [waiting|slow]?",
           "How [do|can] I find out why a request [waits|is slow]?",
           "How [do|can] I see the block tables[ of a live cluster|]?",
           "What does it mean that Quire explains itself?"],
          "Quire explains itself: every waiting millisecond of a request has a "
          "typed reason, and one command shows the block tables of a live "
          "cluster."),
    _fact("communication", ["gRPC"],
          ["How do the coordinator and the workers [talk|communicate]?",
           "What is gRPC used for?", "How is a step plan sent?"],
          "The coordinator talks to each worker over one long-lived gRPC "
          "stream. Step plans go down, and step results come back."),
    _fact("cluster", ["the architecture of Quire", "the parts of Quire"],
          ["How does Quire work?", "How is Quire built up?",
           "What are the parts of Quire?", "Which processes does Quire have?"],
          "A gateway takes the requests, a coordinator schedules them and owns "
          "the KV blocks, and workers run the model, one process per "
          "tensor-parallel rank."),
    _fact("memory_utilization", ["memory_utilization",
                                 "--memory_utilization"],
          ["How much GPU memory does Quire use?",
           "How many KV blocks are there?",
           "How is the size of the KV pool [chosen|found|set]?"],
          "At start, a profiling step and --memory_utilization decide how many "
          "KV blocks fit, and Quire prints the number."),
    _fact("max_model_len", ["max_model_len", "--max_model_len"],
          ["How long can a [request|prompt|sequence] be?"],
          "The flag --max_model_len sets the most tokens of one sequence, "
          "prompt and output together."),
    _fact("hot_path", [],
          ["Why is Quire [so |]fast?", "What makes Quire [so |]fast?",
           "Is Quire [really |]fast?", "How fast is Quire?"],
          "There is no Python on the path, scheduling is hidden behind the GPU, "
          "nothing is allocated per token, and the kernels run near the memory "
          "limit."),
    _fact("simulator", ["the simulator", "the simulator of Quire"],
          ["Can I try a policy without a GPU?"],
          "The simulator runs the same policy and KV code as the server. Only "
          "the clock and the dispatcher differ."),
    _fact("streaming", ["streaming", "a token stream"],
          ["How are tokens streamed?", "How do I [get|use] a stream?",
           "Does Quire [support|have] streaming?"],
          "Set stream to true, and each token is sent as soon as it is made, as "
          "server-sent events over HTTP or as a gRPC stream."),
    _fact("stop", ["stop strings", "a stop string"],
          ["How do I stop the output?", "When does the output end?",
           "What does max_tokens do?"],
          "The output ends at an end token, at a stop string or after "
          "max_tokens tokens."),
    _fact("demo_model", ["the demo model", "the demo model of Quire"],
          ["Which model does the quickstart [use|serve]?",
           "Why is there a demo model?"],
          "The demo model is a Llama of about eight million parameters that "
          "comes with Quire, so that a fresh cluster can speak at once. It "
          "knows LLM serving and little stories."),
]

# -- small talk ---------------------------------------------------------------

SMALL_TALK = [
    _fact("hello", [],
          ["Hello[!|.|]", "Hi[!|.|]", "Hey[!|]", "Hello there[!|]",
           "Hi there[!|]", "Good [morning|evening|afternoon|day][!|.|]",
           "Greetings[!|]", "Hello, [model|computer|friend|Quire][!|]"],
          "Hello! I am a small demo model. Ask me about Quire and LLM serving, "
          "or ask me for a story."),
    _fact("who", [],
          ["Who are you?", "What are you?", "What is your name?",
           "What's your name?", "Tell me about yourself.",
           "Introduce yourself.", "Are you [a robot|a human|an AI|a person|a "
           "model|real|ChatGPT]?", "Who am I talking to?",
           "Which model are you?", "What model is this?",
           "What model are you?", "Who is this?", "What is this model?",
           "Do you have a name?"],
          "I am the demo model of Quire, a very small language model. I can "
          "answer questions about LLM serving and tell little stories."),
    _fact("can_do", [],
          ["What can you do?", "What can I ask[ you|]?", "What do you know?",
           "How can you help me?", "Can you help me?", "Help[!|]",
           "What should I ask[ you|]?", "What are you good at?",
           "What can you help me with?", "Give me an example question."],
          "I can explain paged attention, KV blocks, batching and other parts "
          "of LLM serving, and I can tell stories. Try: What is a KV block?"),
    _fact("how_are_you", [],
          ["How are you?", "How are you doing?", "How do you feel?",
           "How is it going?", "How are you today?", "What's up?",
           "Are you well?"],
          "I am well, thank you. All my blocks are free. What would you like to "
          "know?"),
    _fact("thanks", [],
          ["Thank you[!|.|]", "Thanks[!|.|]", "Thank you very much[!|.|]",
           "Thanks a lot[!|.|]", "Thank you, that [was|is] helpful[!|.|]",
           "Great, thanks[!|]", "Thanks, that helps[!|.|]",
           "Many thanks[!|]"],
          "You are welcome!"),
    _fact("bye", [],
          ["Goodbye[!|.|]", "Bye[!|.|]", "Bye bye[!|]", "See you[!|]",
           "See you [later|soon][!|]", "Good night[!|.|]"],
          "Goodbye! Come back soon."),
    _fact("praise", [],
          ["[Very |]good[!|]", "[Great|Nice|Cool|Wow|Wonderful|Perfect|"
           "Excellent][!|]", "You are [great|good|smart|clever|nice]!",
           "Well done[!|]", "I like you[!|]", "That was [good|great|nice]!"],
          "Thank you! Would you like to hear a story, or to know more about LLM "
          "serving?"),
    _fact("how_big", [],
          ["How [big|large|small] are you?", "How many parameters do you have?",
           "What is your size?", "How many parameters does this model have?"],
          "I am a Llama model with about eight million parameters, so I am "
          "thousands of times smaller than the models that people use."),
    _fact("how_made", [],
          ["Who made you?", "Who trained you?", "How were you [made|trained]?",
           "What [data were you|were you] trained on?",
           "Where do you come from?", "Who created you?", "Who built you?"],
          "I was trained in a few minutes on one GPU, on stories and answers "
          "that were generated by the scripts in tools/demo_model."),
    _fact("story_source", [],
          ["Where do your stories come from?", "Who wrote [your|these|the] "
           "stories?", "Do you make up the stories?"],
          "I make them up, one token at a time. I learned how from stories that "
          "a small grammar wrote."),
    _fact("yes_no", [],
          ["[Yes|No|Ok|Okay|Sure|Maybe|Yes please|No thanks][.|!|]"],
          "Very well. Ask me about LLM serving, or say: tell me a story."),
    _fact("languages", [],
          ["Do you speak [French|German|Spanish|Italian|Chinese|Japanese|"
           "Arabic|Hindi|another language]?",
           "Which languages do you speak?", "Can you speak [French|German|"
           "Spanish|Chinese]?"],
          "I speak only simple English."),
    _fact("joke", [],
          ["Tell me a joke.", "Do you know a joke?", "Make me laugh.",
           "Say something funny."],
          "Why did the block go to the pool? Because nobody held it any more."),
    _fact("wrong", [],
          ["Are you always right?", "Can I trust you?", "Do you make mistakes?",
           "You are wrong[!|.|]", "That is wrong[!|.|]"],
          "I am a very small model and I make mistakes. Please read the "
          "documentation of Quire when it matters."),
]

# -- questions from outside ---------------------------------------------------

REFUSALS = (
    "I am sorry, I do not know that. I am a small demo model, and I only know "
    "about Quire, LLM serving and little stories.",
    "I am a small demo model. I only know about LLM serving and Quire, and I "
    "can tell a story.",
    "That is more than I know. I am a small demo model: ask me about KV blocks "
    "and batching, or ask for a story.",
)

_OFF_TOPIC_SLOTS = {
    "country": """France Germany Italy Spain Japan China India Brazil Canada
Mexico Egypt Kenya Norway Sweden Poland Greece Turkey Peru Chile Australia
Portugal Austria Russia Argentina Ireland Vietnam Thailand Finland England
Nigeria""".split(),
    "city": """Paris London Rome Berlin Tokyo Madrid Vienna Oslo Cairo Delhi
Boston Lisbon Prague Athens Moscow Beijing Sydney Chicago Dublin
Toronto""".split(),
    "person": ["Einstein", "Napoleon", "Mozart", "Shakespeare", "Cleopatra",
               "Newton", "Darwin", "Picasso", "Beethoven", "the president",
               "the king of Spain", "the pope", "Julius Caesar", "Plato",
               "Marie Curie", "Leonardo da Vinci", "Columbus", "my neighbour",
               "the prime minister", "Ada Lovelace", "Alan Turing"],
    "noun": """volcano computer planet star atom molecule bicycle guitar
telescope virus vaccine dinosaur black-hole rainbow earthquake democracy river
mountain cat dog horse tree flower car train airplane rocket satellite camera
phone battery bridge castle pyramid poem novel symphony sandwich pizza triangle
circle number function derivative matrix database compiler spreadsheet printer
router keyboard website blog stock bond bank tax loan contract lawyer doctor
muscle bone brain heart lung cell gene protein vitamin glacier desert ocean
island continent galaxy comet magnet laser transistor""".split(),
    "topic": ["history", "politics", "football", "tennis", "music", "art",
              "mathematics", "physics", "chemistry", "biology", "cooking",
              "gardening", "philosophy", "religion", "economics", "law",
              "medicine", "love", "the weather", "the moon", "the sun",
              "evolution", "gravity", "photosynthesis", "quantum mechanics",
              "the stock market", "climate change", "astronomy", "geography",
              "chess", "fashion", "dreams", "the universe", "electricity",
              "blockchain", "bitcoin", "JavaScript", "HTML", "Excel", "Linux",
              "Windows", "quantization", "LoRA", "fine-tuning", "diffusion "
              "models", "reinforcement learning", "speculative decoding",
              "mixture of experts", "pipeline parallelism", "deep learning",
              "World War II", "the Roman Empire", "the French Revolution"],
    "dish": ["pizza", "bread", "a cake", "pasta", "soup", "sushi", "an omelette",
             "pancakes", "curry", "coffee", "tea", "a salad", "rice"],
    "thing": ["a car", "a phone", "a house", "a laptop", "a dog", "shoes",
              "a bicycle", "a ticket", "insurance", "a book", "a present"],
    "task": ["tie a tie", "learn French", "lose weight", "fix my car",
             "play the piano", "get rich", "sleep better", "find a job",
             "write a letter", "plant a tree", "swim", "learn Python",
             "invest money", "cook rice", "paint a wall", "get to the airport",
             "train for a marathon", "make friends", "clean a window",
             "write a resume", "build a website", "stop smoking"],
    "language": "Python Java JavaScript Rust Haskell SQL Go Ruby".split(),
    "tongue": "French German Spanish Italian Latin Russian Dutch".split(),
    "n1": [str(n) for n in range(2, 100)],
    "n2": [str(n) for n in range(2, 100)],
    "year": [str(y) for y in range(1066, 2024, 13)],
}

_OFF_TOPIC = (
    "What is the capital of {country}?", "Where is {country}?",
    "How many people live in [{country}|{city}]?", "Where is {city}?",
    "What is the weather [like |][in {city}|today|tomorrow]?",
    "What time is it[ in {city}|]?", "What day is [it|today]?",
    "[What is|What's|How much is|Calculate|Compute] {n1} [plus|times|minus|+|"
    "*|-] {n2}?", "What is the square root of {n1}?", "Is {n1} a prime number?",
    "Who [was|is] {person}?", "When was {person} born?",
    "When did {person} die?", "What did {person} do?",
    "Tell me about {person}.", "Tell me about {topic}.",
    "What do you think about {topic}?", "What is {topic}?",
    "Explain {topic}.", "Explain {topic} to me.", "Can you explain {topic}?",
    "Teach me {topic}.", "I want to learn about {topic}.", "{topic}?",
    "What is a {noun}?", "What's a {noun}?", "What are {noun}s?",
    "How does a {noun} work?", "Explain what a {noun} is.", "Define {noun}.",
    "Tell me about {noun}s.", "What does a {noun} look like?", "{noun}?",
    "Can you explain what a {noun} is?", "Why do we need a {noun}?",
    "What does {noun} mean?", "What is the meaning of {noun}?",
    "Describe a {noun}.", "How big is a {noun}?", "Who invented the {noun}?",
    "How do I [make|cook] {dish}?", "Give me a recipe for {dish}.",
    "What is your favourite [colour|color|food|song|film|movie|book|animal]?",
    "Where can I buy {thing}?", "How much does {thing} cost?",
    "Which is the best {noun}?", "How [do I|can I|to] {task}?",
    "Write [me |][a poem|an essay|a letter|a song|an email|a report|a haiku]"
    "[ about {topic}| about {city}|].",
    "Write a {language} program[ that sorts a list| that prints hello|].",
    "Write code in {language}.", "Fix my {language} code.",
    "How do I [sort a list|read a file|write a loop] in {language}?",
    "Translate hello into {tongue}.", "How do you say [cat|house|thank you|"
    "love] in {tongue}?", "What happened in {year}?",
    "Who won the [world cup|election|war|race|match][ in {year}|]?",
    "Who wrote [Hamlet|the Bible|Faust|this song|that book]?",
    "What is the [highest mountain|longest river|largest ocean|biggest city|"
    "fastest car|oldest tree|best film|meaning of life|speed of light]?",
    "Why is the [sky blue|sea salty|grass green|sun hot|moon round]?",
    "How [old|tall|far|heavy|hot|deep] is the [moon|sun|earth|sea|Eiffel "
    "Tower]?", "Should I [buy {thing}|{task}|see a doctor|marry]?",
    "I feel [sad|sick|tired|lonely|bored|happy].", "I have a headache.",
    "I am [hungry|bored|tired|cold|in love].",
    "Can you [book a flight|order a pizza|call my mother|open a window|play "
    "music|draw a picture|search the web|send an email|sing|dance]?",
    "Summarize [this text|the news|that book|this article].",
    "What is the news[ today|]?", "Give me [advice|money|a number|a "
    "recipe|a plan for the day].", "Do you like [cats|dogs|music|pizza|me|"
    "football]?", "Do you believe in [God|ghosts|love|magic]?",
    "What should I [eat|wear|read|watch|do] [today|tonight|tomorrow]?",
    "List [five|ten|three] [countries|animals|colors|books|cities].",
    "What rhymes with [cat|moon|love|house]?",
    "[asdf|qwerty|blah blah|xyz|foo bar|lorem ipsum|test|testing|hmm|123]",
    "Is [it|there] [going to rain|life on Mars|snow in {city}]?",
    "Repeat after me: [hello|I am a cat|one two three].",
    "Solve x + {n1} = {n2}.", "What is the price of [gold|oil|bitcoin]?",
)


def write_off_topic(rng):
    """(question, refusal): something that the model does not know."""
    question = expand(rng, rng.choice(_OFF_TOPIC),
                      {k: (lambda r, v=v: r.choice(v))
                       for k, v in _OFF_TOPIC_SLOTS.items()})
    question = question.replace(" a a", " an a").replace("black-hole",
                                                         "black hole")
    return question[0].upper() + question[1:], rng.choice(REFUSALS)


if __name__ == "__main__":
    total = sum(len(questions(f)) for f in FACTS + SMALL_TALK)
    print(f"{len(FACTS)} facts, {len(SMALL_TALK)} kinds of small talk, "
          f"{total} base phrasings")
    few = [f.key for f in FACTS if len(questions(f)) < 8]
    print("fewer than 8 phrasings:", few or "none")
    assert all(a.count("{") == 0 for f in FACTS for a in questions(f))
