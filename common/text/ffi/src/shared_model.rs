// SPDX-License-Identifier: Apache-2.0
//
//! One vocabulary under several tokenizers. A tokenizer that reads control
//! tokens and one that does not differ by a flag inside `TokenizerImpl`; the
//! model, which is nearly all of the memory, is the same.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use tokenizers::tokenizer::{
    Model, ModelWrapper, PreTokenizedString, Result, Token, TruncationDirection,
};

#[derive(Clone)]
pub struct SharedModel(Arc<ModelWrapper>);

impl<'de> Deserialize<'de> for SharedModel {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        ModelWrapper::deserialize(d).map(|model| SharedModel(Arc::new(model)))
    }
}

impl Model for SharedModel {
    type Trainer = <ModelWrapper as Model>::Trainer;

    fn tokenize(&self, sequence: &str) -> Result<Vec<Token>> {
        self.0.tokenize(sequence)
    }
    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }
    fn id_to_token(&self, id: u32) -> Option<String> {
        self.0.id_to_token(id)
    }
    fn get_vocab(&self) -> HashMap<String, u32> {
        self.0.get_vocab()
    }
    fn get_vocab_size(&self) -> usize {
        self.0.get_vocab_size()
    }
    fn save(&self, folder: &Path, prefix: Option<&str>) -> Result<Vec<PathBuf>> {
        self.0.save(folder, prefix)
    }
    fn get_trainer(&self) -> Self::Trainer {
        self.0.get_trainer()
    }
    fn tokenize_in_pretokenized(
        &self,
        text: &mut PreTokenizedString,
        truncation: Option<(usize, TruncationDirection)>,
    ) -> Result<()> {
        self.0.tokenize_in_pretokenized(text, truncation)
    }
}
