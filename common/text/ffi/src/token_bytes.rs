// SPDX-License-Identifier: Apache-2.0
//
//! The bytes that each token adds to a text, as far as that is a matter of the
//! token alone.

use std::collections::HashMap;

use serde_json::Value;

/// How the file's decoder makes text of pieces.
#[derive(Clone, Debug, PartialEq)]
pub enum Spelling {
    /// Pieces are written in GPT-2's alphabet of 256 characters.
    ByteLevel,
    /// Pieces are text with a character for the space, and maybe `<0x0A>`.
    Plain { space: char, byte_tokens: bool },
    /// What a token adds depends on its neighbours: why, in words.
    Contextual(String),
}

#[derive(Default)]
struct Found {
    byte_level: bool,
    byte_tokens: bool,
    space: Option<char>,
    other: Option<String>,
}

fn look_at(decoder: &Value, found: &mut Found) {
    let one_char = |text: &Value| {
        let mut chars = text.as_str()?.chars();
        chars.next().filter(|_| chars.next().is_none())
    };
    match decoder["type"].as_str() {
        Some("Sequence") => {
            for part in decoder["decoders"].as_array().into_iter().flatten() {
                look_at(part, found);
            }
        }
        Some("ByteLevel") => found.byte_level = true,
        Some("ByteFallback") => found.byte_tokens = true,
        Some("Metaspace") => found.space = one_char(&decoder["replacement"]),
        Some("Replace") => {
            let from = one_char(&decoder["pattern"]["String"]);
            match (from, decoder["content"].as_str()) {
                (Some(from), Some(" ")) => found.space = Some(from),
                _ => found.other = Some("Replace".to_string()),
            }
        }
        // They join pieces, or take a space off the beginning of all.
        Some("Fuse") | Some("Strip") => {}
        Some(other) => found.other = Some(other.to_string()),
        None => found.other = Some("none".to_string()),
    }
}

impl Spelling {
    /// `decoder` is that of a tokenizer.json.
    pub fn of(decoder: &Value) -> Self {
        let mut found = Found::default();
        look_at(decoder, &mut found);
        match found {
            Found {
                other: Some(other), ..
            } => Spelling::Contextual(format!("its decoder is {other}")),
            Found {
                byte_level: true, ..
            } => Spelling::ByteLevel,
            Found {
                space, byte_tokens, ..
            } => Spelling::Plain {
                space: space.unwrap_or(' '),
                byte_tokens,
            },
        }
    }
}

/// GPT-2's alphabet: printable characters of Latin-1 stand for themselves, the
/// other bytes for characters from U+0100 on.
pub struct ByteAlphabet(HashMap<char, u8>);

impl ByteAlphabet {
    pub fn new() -> Self {
        let mut next = 0x100u32;
        let mut bytes = HashMap::new();
        for byte in 0..=255u8 {
            let c = char::from(byte);
            if matches!(c, '!'..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{ff}') {
                bytes.insert(c, byte);
            } else {
                bytes.extend(char::from_u32(next).map(|c| (c, byte)));
                next += 1;
            }
        }
        ByteAlphabet(bytes)
    }

    /// None if a character is not of the alphabet.
    pub fn spell(&self, piece: &str) -> Option<Vec<u8>> {
        piece.chars().map(|c| self.0.get(&c).copied()).collect()
    }
}
