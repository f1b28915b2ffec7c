/* SPDX-License-Identifier: Apache-2.0
 *
 * The C ABI of the Rust text library: which tokens may come next, so that a
 * text follows a rule (llguidance). C++ code uses common/text/grammar.h; the
 * rules of quire_text.h hold here too.
 *
 * Threads: a vocabulary may be used by any number of threads at once, a grammar
 * by one at a time. Clones of a grammar are apart, each a thread's.
 */
#ifndef COMMON_TEXT_FFI_QUIRE_GRAMMAR_H_
#define COMMON_TEXT_FFI_QUIRE_GRAMMAR_H_

#include "common/text/ffi/quire_text.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct QtGrammarVocab QtGrammarVocab;
typedef struct QtGrammar QtGrammar;

/* Arranges the tokens of ids [0, vocab_size) for masks: half a second for
 * 128,000 tokens. A token of `eos_ids` ends a text wherever the rule lets it
 * end. Refused where a token's text depends on its neighbours (WordPiece), or
 * without an end-of-sequence token. */
int32_t qt_grammar_vocab_new(const QtTokenizer* tokenizer, size_t vocab_size,
                             const int32_t* eos_ids, size_t num_eos_ids,
                             QtGrammarVocab** out, QtBuffer* error);

/* Null is allowed. */
void qt_grammar_vocab_free(QtGrammarVocab* vocab);

typedef enum QtRule {
  QT_RULE_JSON_SCHEMA = 0,
  QT_RULE_JSON_OBJECT = 1, /* its text is not read */
  QT_RULE_REGEX = 2,
  QT_RULE_CHOICE = 3, /* a JSON array of strings */
  QT_RULE_LARK = 4,
} QtRule;

/* Refused: rules that are malformed, that no text follows, or that cost more
 * than limits on size, counts (src/rule_cost.rs), time (a second of the
 * processor's) and memory (some tens of megabytes) allow. */
int32_t qt_grammar_compile(const QtGrammarVocab* vocab, int32_t rule_kind,
                           const uint8_t* rule, size_t rule_size,
                           QtGrammar** out, QtBuffer* error);

/* With its progress. */
int32_t qt_grammar_clone(const QtGrammar* grammar, QtGrammar** out,
                         QtBuffer* error);

/* Null is allowed. */
void qt_grammar_free(QtGrammar* grammar);

/* Writes which tokens may come next, bit id % 32 of word id / 32. Fails where
 * the text has become too costly to follow (100 ms of processor time, as
 * qt_grammar_accept); then all later calls fail. */
int32_t qt_grammar_mask(QtGrammar* grammar, uint32_t* words, size_t num_words,
                        QtBuffer* error);

/* The tokens have come. Fails, for good, if one may not. */
int32_t qt_grammar_accept(QtGrammar* grammar, const int32_t* ids,
                          size_t num_ids, QtBuffer* error);

/* The last tokens have not come after all. */
int32_t qt_grammar_rollback(QtGrammar* grammar, size_t num_tokens,
                            QtBuffer* error);

/* Whether nothing but end-of-sequence can come, or something failed. */
bool qt_grammar_is_done(const QtGrammar* grammar);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* COMMON_TEXT_FFI_QUIRE_GRAMMAR_H_ */
