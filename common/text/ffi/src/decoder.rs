// SPDX-License-Identifier: Apache-2.0
//
//! Tokens to text. Every step is Hugging Face's own but one: a run of byte
//! tokens that is not UTF-8.
//!
//! Hugging Face turns the *whole* run into U+FFFD as soon as one of its bytes
//! is bad, characters that were complete before it included. A stream has sent
//! those to its client already. So here SentencePiece's rule holds, which made
//! these vocabularies: a complete character stays, each stray byte becomes one
//! U+FFFD. Runs that are valid UTF-8 decode the same under both rules.

use serde::{Deserialize, Deserializer};
use tokenizers::tokenizer::{Decoder, DecoderWrapper, Result};

#[derive(Clone)]
pub struct TextDecoder {
    steps: Vec<Step>,
}

#[derive(Clone)]
enum Step {
    ByteRuns,
    HuggingFace(DecoderWrapper),
}

fn flatten(decoder: DecoderWrapper, steps: &mut Vec<Step>) {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            for part in sequence.get_decoders() {
                flatten(part.clone(), steps);
            }
        }
        DecoderWrapper::ByteFallback(_) => steps.push(Step::ByteRuns),
        other => steps.push(Step::HuggingFace(other)),
    }
}

impl<'de> Deserialize<'de> for TextDecoder {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let mut steps = Vec::new();
        flatten(DecoderWrapper::deserialize(d)?, &mut steps);
        Ok(TextDecoder { steps })
    }
}

/// The byte of a token such as `<0x0A>`: exactly two hexadecimal digits.
pub fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

fn flush_run(run: &mut Vec<u8>, out: &mut Vec<String>) {
    if run.is_empty() {
        return;
    }
    let mut text = String::with_capacity(run.len());
    for chunk in run.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    out.push(text);
    run.clear();
}

fn decode_byte_runs(tokens: Vec<String>) -> Vec<String> {
    let mut out = Vec::with_capacity(tokens.len());
    let mut run = Vec::new();
    for token in tokens {
        match byte_of(&token) {
            Some(byte) => run.push(byte),
            None => {
                flush_run(&mut run, &mut out);
                out.push(token);
            }
        }
    }
    flush_run(&mut run, &mut out);
    out
}

impl Decoder for TextDecoder {
    fn decode_chain(&self, mut tokens: Vec<String>) -> Result<Vec<String>> {
        for step in &self.steps {
            tokens = match step {
                Step::ByteRuns => decode_byte_runs(tokens),
                Step::HuggingFace(decoder) => decoder.decode_chain(tokens)?,
            };
        }
        Ok(tokens)
    }
}
