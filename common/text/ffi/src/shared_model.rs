// SPDX-License-Identifier: Apache-2.0
//
//! One vocabulary under several tokenizers. A tokenizer that reads control
//! tokens and one that does not differ by a flag inside `TokenizerImpl`; the
//! model, which is nearly all of the memory, is the same.
//!
//! The tokens given to the library carry ids alone. Their spelling and offsets
//! would be allocated for each and are never asked for: text is encoded by
//! `encode_fast`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use tokenizers::tokenizer::{Model, ModelWrapper, Result, Token};

use crate::word_cache::WordCache;

#[derive(Clone)]
pub struct SharedModel {
    model: Arc<ModelWrapper>,
    cache: Option<Arc<WordCache>>,
    spelling: Option<Arc<[char; 256]>>,
}

impl SharedModel {
    /// The same model for words that come as bytes: it spells them as letters
    /// before it looks for tokens.
    pub fn spelling_bytes(&self) -> Self {
        SharedModel {
            spelling: Some(Arc::new(byte_letters())),
            cache: self.cache.as_ref().map(|_| Arc::new(WordCache::new())),
            ..self.clone()
        }
    }

    fn find_tokens(&self, word: &str) -> Result<Vec<Token>> {
        match &self.spelling {
            None => self.model.tokenize(word),
            Some(letters) => {
                let spelled: String = word.bytes().map(|b| letters[usize::from(b)]).collect();
                self.model.tokenize(&spelled)
            }
        }
    }
}

/// GPT-2's letters for bytes: a printable Latin-1 character stands for itself,
/// the others for U+0100 and on, in order.
fn byte_letters() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        let code = match byte {
            0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => byte as u32,
            _ => {
                next += 1;
                next - 1
            }
        };
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    })
}

fn bare_token(id: u32) -> Token {
    Token::new(id, String::new(), (0, 0))
}

impl<'de> Deserialize<'de> for SharedModel {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let model = ModelWrapper::deserialize(d)?;
        // With dropout, a word has different tokens each time.
        let varies = match &model {
            ModelWrapper::BPE(bpe) => bpe.dropout.is_some_and(|p| p > 0.0),
            _ => false,
        };
        Ok(SharedModel {
            model: Arc::new(model),
            cache: (!varies).then(|| Arc::new(WordCache::new())),
            spelling: None,
        })
    }
}

impl Model for SharedModel {
    type Trainer = <ModelWrapper as Model>::Trainer;

    fn tokenize(&self, word: &str) -> Result<Vec<Token>> {
        let Some(cache) = &self.cache else {
            return self.find_tokens(word);
        };
        if let Some(tokens) = cache.get(word, bare_token) {
            return Ok(tokens);
        }
        let tokens = self.find_tokens(word)?;
        cache.put(word, tokens.iter().map(|token| token.id));
        Ok(tokens)
    }
    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.model.token_to_id(token)
    }
    fn id_to_token(&self, id: u32) -> Option<String> {
        self.model.id_to_token(id)
    }
    fn get_vocab(&self) -> HashMap<String, u32> {
        self.model.get_vocab()
    }
    fn get_vocab_size(&self) -> usize {
        self.model.get_vocab_size()
    }
    fn save(&self, folder: &Path, prefix: Option<&str>) -> Result<Vec<PathBuf>> {
        self.model.save(folder, prefix)
    }
    fn get_trainer(&self) -> Self::Trainer {
        self.model.get_trainer()
    }
}
