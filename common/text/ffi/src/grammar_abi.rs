// SPDX-License-Identifier: Apache-2.0
//
//! The functions of `quire_grammar.h`, which documents them.

use crate::boundary::{self, guarded, Buffer, Failure};
use crate::grammar::{Grammar, GrammarVocab, Rule};
use crate::tokenizer::TextTokenizer;

/// # Safety
/// See `quire_grammar.h`, as for every function below.
#[no_mangle]
pub unsafe extern "C" fn qt_grammar_vocab_new(
    tokenizer: *const TextTokenizer,
    vocab_size: usize,
    eos_ids: *const i32,
    num_eos_ids: usize,
    out: *mut *mut GrammarVocab,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || {
        let eos_ids = boundary::slice(eos_ids, num_eos_ids);
        let vocab = GrammarVocab::new(&*tokenizer, vocab_size, eos_ids)?;
        *out = Box::into_raw(Box::new(vocab));
        Ok(())
    })
}

/// # Safety
/// `vocab` came from `qt_grammar_vocab_new` and is released once.
#[no_mangle]
pub unsafe extern "C" fn qt_grammar_vocab_free(vocab: *mut GrammarVocab) {
    boundary::drop_box(vocab);
}

/// # Safety
/// See `quire_grammar.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_grammar_compile(
    vocab: *const GrammarVocab,
    kind: i32,
    rule: *const u8,
    rule_size: usize,
    out: *mut *mut Grammar,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || {
        let rule = boundary::utf8("it", rule, rule_size)?;
        let grammar = (*vocab).compile(&Rule::from_code(kind, rule)?)?;
        *out = Box::into_raw(Box::new(grammar));
        Ok(())
    })
}

/// # Safety
/// See `quire_grammar.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_grammar_clone(
    grammar: *const Grammar,
    out: *mut *mut Grammar,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || {
        *out = Box::into_raw(Box::new((*grammar).clone()));
        Ok(())
    })
}

/// # Safety
/// `grammar` came from this library and is released once.
#[no_mangle]
pub unsafe extern "C" fn qt_grammar_free(grammar: *mut Grammar) {
    boundary::drop_box(grammar);
}

/// # Safety
/// See `quire_grammar.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_grammar_mask(
    grammar: *mut Grammar,
    words: *mut u32,
    num_words: usize,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || {
        if num_words == 0 {
            return Err(Failure::invalid("a mask of no words"));
        }
        (*grammar).mask(std::slice::from_raw_parts_mut(words, num_words))
    })
}

/// # Safety
/// See `quire_grammar.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_grammar_accept(
    grammar: *mut Grammar,
    ids: *const i32,
    num_ids: usize,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || (*grammar).accept(boundary::slice(ids, num_ids)))
}

/// # Safety
/// See `quire_grammar.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_grammar_rollback(
    grammar: *mut Grammar,
    num_tokens: usize,
    error: *mut Buffer,
) -> i32 {
    guarded(error, || (*grammar).rollback(num_tokens))
}

/// # Safety
/// See `quire_grammar.h`.
#[no_mangle]
pub unsafe extern "C" fn qt_grammar_is_done(grammar: *const Grammar) -> bool {
    (*grammar).is_done()
}
