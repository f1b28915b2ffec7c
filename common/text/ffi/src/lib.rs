// SPDX-License-Identifier: Apache-2.0
//
//! Tokenizers and chat templates for Quire, behind the C ABI of
//! `quire_text.h`, which is the documentation of every function here.
//!
//! This file is the boundary: it checks what comes in, calls one module, and
//! turns what comes out (a value, a failure, a panic) into a status code.

mod boundary;
mod budget;
mod chat_template;
mod decoder;
mod endless;
mod grammar;
mod grammar_abi;
mod pre_tokenizer;
mod python_format;
mod rule_cost;
mod shared_model;
mod special_text;
mod token_bytes;
mod tokenizer;
mod word_cache;

use boundary::{guarded, Array, Buffer, Failure};
use chat_template::ChatTemplate;
use tokenizer::{SpecialTokens, TextTokenizer};

/// Encoding makes several small objects for each word and frees them together,
/// which glibc's allocator answers by merging and splitting chunks. A fuzzer
/// needs the one that its sanitizers watch.
#[cfg(not(quire_fuzz))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// # Safety
/// `buffer` came from this library and is released once.
#[no_mangle]
pub unsafe extern "C" fn qt_buffer_free(buffer: Buffer) {
    buffer.release();
}

/// # Safety
/// `ids` came from `qt_tokenizer_encode` and is released once.
#[no_mangle]
pub unsafe extern "C" fn qt_ids_free(ids: Array<i32>) {
    ids.release();
}

/// # Safety
/// See `quire_text.h`, as for every function below.
#[no_mangle]
pub unsafe extern "C" fn qt_tokenizer_load(
    json: *const u8,
    json_size: usize,
    out: *mut *mut TextTokenizer,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || {
        let json = boundary::utf8("tokenizer.json", json, json_size)?;
        let tokenizer = TextTokenizer::from_json(json)?;
        *out = Box::into_raw(Box::new(tokenizer));
        Ok(())
    })
}

/// # Safety
/// `tokenizer` came from `qt_tokenizer_load` and is released once.
#[no_mangle]
pub unsafe extern "C" fn qt_tokenizer_free(tokenizer: *mut TextTokenizer) {
    boundary::drop_box(tokenizer);
}

/// # Safety
/// See `quire_text.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_tokenizer_encode(
    tokenizer: *const TextTokenizer,
    text: *const u8,
    text_size: usize,
    add_special_tokens: bool,
    special_tokens: i32,
    out: *mut Array<i32>,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || {
        let text = boundary::utf8("text", text, text_size)?;
        let mode = SpecialTokens::from_code(special_tokens)?;
        let ids = (*tokenizer).encode(text, add_special_tokens, mode)?;
        *out = Array::new(ids);
        Ok(())
    })
}

/// # Safety
/// See `quire_text.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_tokenizer_decode(
    tokenizer: *const TextTokenizer,
    ids: *const i32,
    num_ids: usize,
    skip_special_tokens: bool,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || {
        let ids = boundary::slice(ids, num_ids);
        let text = (*tokenizer).decode(ids, skip_special_tokens)?;
        *out = Buffer::from(text);
        Ok(())
    })
}

/// # Safety
/// See `quire_text.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_tokenizer_decode_as_library(
    tokenizer: *const TextTokenizer,
    ids: *const i32,
    num_ids: usize,
    skip_special_tokens: bool,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || {
        let ids = boundary::slice(ids, num_ids);
        let text = (*tokenizer).decode_as_library(ids, skip_special_tokens)?;
        *out = Buffer::from(text);
        Ok(())
    })
}

/// # Safety
/// See `quire_text.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_tokenizer_guard(
    tokenizer: *const TextTokenizer,
    text: *const u8,
    text_size: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || {
        let text = boundary::utf8("text", text, text_size)?;
        *out = Buffer::from((*tokenizer).special_text().guard(text));
        Ok(())
    })
}

/// # Safety
/// See `quire_text.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_tokenizer_token_to_id(
    tokenizer: *const TextTokenizer,
    token: *const u8,
    token_size: usize,
    out: *mut i32,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || {
        let token = boundary::utf8("token", token, token_size)?;
        *out = (*tokenizer).token_to_id(token).unwrap_or(-1);
        Ok(())
    })
}

/// # Safety
/// See `quire_text.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_tokenizer_id_to_piece(
    tokenizer: *const TextTokenizer,
    id: i32,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || {
        let piece = (*tokenizer)
            .id_to_piece(id)
            .ok_or_else(|| Failure::invalid(format!("no token has id {id}")))?;
        *out = Buffer::from(piece);
        Ok(())
    })
}

/// # Safety
/// See `quire_text.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_tokenizer_flags(
    tokenizer: *const TextTokenizer,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || {
        *out = Buffer::from((*tokenizer).flags().to_vec());
        Ok(())
    })
}

/// # Safety
/// See `quire_text.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_tokenizer_token_bytes(
    tokenizer: *const TextTokenizer,
    bytes: *mut Buffer,
    ends: *mut Array<i32>,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || {
        let (all, each) = (*tokenizer).token_bytes().unwrap_or_default();
        *bytes = Buffer::new(all);
        *ends = Array::new(each);
        Ok(())
    })
}

/// # Safety
/// See `quire_text.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_template_compile(
    source: *const u8,
    source_size: usize,
    fuel: u64,
    out: *mut *mut ChatTemplate,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || {
        let source = boundary::utf8("chat template", source, source_size)?;
        let template = ChatTemplate::compile(source, fuel)?;
        *out = Box::into_raw(Box::new(template));
        Ok(())
    })
}

/// # Safety
/// `template` came from `qt_template_compile` and is released once.
#[no_mangle]
pub unsafe extern "C" fn qt_template_free(template: *mut ChatTemplate) {
    boundary::drop_box(template);
}

/// # Safety
/// See `quire_text.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_template_render(
    template: *const ChatTemplate,
    context: *const u8,
    context_size: usize,
    now_unix_seconds: i64,
    max_output_bytes: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || {
        let context = boundary::utf8("template context", context, context_size)?;
        let text = (*template).render(context, now_unix_seconds, max_output_bytes)?;
        *out = Buffer::from(text);
        Ok(())
    })
}
