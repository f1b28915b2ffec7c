/* SPDX-License-Identifier: Apache-2.0
 *
 * The C ABI of the Rust text library: Hugging Face tokenizers and chat
 * templates. C++ code uses common/text/tokenizer.h and chat_template.h, which
 * wrap it; nothing else includes this file.
 *
 * Every call returns a QtStatus. On failure it stores a message in `error` (a
 * buffer that the caller frees) and leaves its other outputs alone. A panic in
 * the library is a failure like any other (QT_INTERNAL); it prints nothing.
 * Texts are (pointer, size in bytes), checked to be UTF-8, without a final zero;
 * the pointer may be anything when the size is 0.
 *
 * Threads: a tokenizer or a template may be used by any number of threads at
 * once; freeing it needs all of them to be done.
 */
#ifndef COMMON_TEXT_FFI_QUIRE_TEXT_H_
#define COMMON_TEXT_FFI_QUIRE_TEXT_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum QtStatus {
  QT_OK = 0,
  QT_INVALID_ARGUMENT = 1, /* the file, text or number given is at fault */
  QT_INTERNAL = 2,         /* the library is at fault: it panicked */
} QtStatus;

/* Bytes that the library allocated. All zero is an empty buffer. */
typedef struct QtBuffer {
  uint8_t* data;
  size_t size; /* bytes */
} QtBuffer;

/* Token ids that the library allocated. */
typedef struct QtIds {
  int32_t* data;
  size_t size; /* ids */
} QtIds;

void qt_buffer_free(QtBuffer buffer);
void qt_ids_free(QtIds ids);

/* ---- tokenizers -------------------------------------------------------- */

typedef struct QtTokenizer QtTokenizer;

/* Reads the text of a tokenizer.json. Padding and truncation rules in it are
 * ignored. Checked: ids below 2^24, added tokens (at most 2^16) have the ids
 * that the file says, merges and the post-processor use known tokens. */
int32_t qt_tokenizer_load(const uint8_t* json, size_t json_size,
                          QtTokenizer** out, QtBuffer* error);

/* Null is allowed. */
void qt_tokenizer_free(QtTokenizer* tokenizer);

/* What spellings of control ("special") tokens in a text mean. */
typedef enum QtSpecialTokens {
  QT_SPECIAL_AS_TEXT = 0, /* ordinary text; the result holds none of them */
  QT_SPECIAL_PARSE = 1,   /* the control tokens */
  /* As PARSE, but spellings that qt_tokenizer_guard marked are ordinary text.
   * The marks themselves are not encoded. */
  QT_SPECIAL_PARSE_UNMARKED = 2,
} QtSpecialTokens;

/* `add_special_tokens` runs the file's post-processor (BOS and the like). */
int32_t qt_tokenizer_encode(const QtTokenizer* tokenizer, const uint8_t* text,
                            size_t text_size, bool add_special_tokens,
                            int32_t special_tokens, QtIds* out,
                            QtBuffer* error);

/* Ids that no token has are skipped; a negative one is an error. */
int32_t qt_tokenizer_decode(const QtTokenizer* tokenizer, const int32_t* ids,
                            size_t num_ids, bool skip_special_tokens,
                            QtBuffer* out, QtBuffer* error);

/* The same as Hugging Face's library decodes, which turns a whole run of byte
 * tokens that is not UTF-8 into U+FFFD; elsewhere its good characters stay. */
int32_t qt_tokenizer_decode_as_library(const QtTokenizer* tokenizer,
                                       const int32_t* ids, size_t num_ids,
                                       bool skip_special_tokens, QtBuffer* out,
                                       QtBuffer* error);

/* `text` with every spelling of a control token marked (by U+FDD0 inside it);
 * marks that `text` had before are removed. */
int32_t qt_tokenizer_guard(const QtTokenizer* tokenizer, const uint8_t* text,
                           size_t text_size, QtBuffer* out, QtBuffer* error);

/* Stores -1 if the vocabulary has no such token. */
int32_t qt_tokenizer_token_to_id(const QtTokenizer* tokenizer,
                                 const uint8_t* token, size_t token_size,
                                 int32_t* out, QtBuffer* error);

/* The token as the vocabulary spells it, not as it decodes. */
int32_t qt_tokenizer_id_to_piece(const QtTokenizer* tokenizer, int32_t id,
                                 QtBuffer* out, QtBuffer* error);

typedef enum QtTokenFlag {
  QT_TOKEN_KNOWN = 1,   /* a token has this id */
  QT_TOKEN_SPECIAL = 2, /* and is left out when special tokens are skipped */
} QtTokenFlag;

/* One byte of QtTokenFlag for each id from 0 to the highest. */
int32_t qt_tokenizer_flags(const QtTokenizer* tokenizer, QtBuffer* out,
                           QtBuffer* error);

/* The bytes that each id from 0 to the highest adds to any text, one after the
 * other, and where each one's end. Both are empty if what an id adds may depend
 * on others. */
int32_t qt_tokenizer_token_bytes(const QtTokenizer* tokenizer, QtBuffer* bytes,
                                 QtIds* ends, QtBuffer* error);

/* ---- chat templates ---------------------------------------------------- */

typedef struct QtTemplate QtTemplate;

/* Compiles a Jinja chat template as transformers runs it: trim_blocks,
 * lstrip_blocks, loop controls, Python's string and dictionary methods, tojson
 * without HTML escapes, raise_exception, strftime_now. One rendering takes at
 * most `fuel` steps. */
int32_t qt_template_compile(const uint8_t* source, size_t source_size,
                            uint64_t fuel, QtTemplate** out, QtBuffer* error);

/* Null is allowed. */
void qt_template_free(QtTemplate* chat_template);

/* Renders with the variables of `context`, a JSON object. strftime_now tells
 * `now_unix_seconds` in the process's time zone. */
int32_t qt_template_render(const QtTemplate* chat_template,
                           const uint8_t* context, size_t context_size,
                           int64_t now_unix_seconds, size_t max_output_bytes,
                           QtBuffer* out, QtBuffer* error);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* COMMON_TEXT_FFI_QUIRE_TEXT_H_ */
