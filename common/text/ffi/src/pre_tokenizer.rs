// SPDX-License-Identifier: Apache-2.0
//
//! Text to words. Every step is Hugging Face's own. But where the last one
//! only spells a word's bytes as letters (`ByteLevel`), the model does that
//! (`SharedModel`): there it happens once for each word that is new, and
//! without the bookkeeping of offsets, which nothing here asks for.

use serde::{Deserialize, Deserializer};
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::{
    PreTokenizedString, PreTokenizer, PreTokenizerWrapper, Result, SplitDelimiterBehavior,
};

/// `ByteLevel`'s own pattern (GPT-2).
const GPT2_PATTERN: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

#[derive(Clone)]
pub struct WordSplitter {
    steps: Vec<PreTokenizerWrapper>,
    spells_bytes: bool,
}

impl WordSplitter {
    /// Whether the model must still spell the bytes of a word as letters.
    pub fn leaves_bytes(&self) -> bool {
        !self.spells_bytes
    }

    fn new(pre_tokenizer: PreTokenizerWrapper) -> Result<Self> {
        let mut steps = Vec::new();
        flatten(pre_tokenizer, &mut steps);
        let last = match steps.last() {
            Some(PreTokenizerWrapper::ByteLevel(last)) if !last.add_prefix_space => Some(*last),
            _ => None,
        };
        if let Some(last) = last {
            steps.pop();
            if last.use_regex {
                let pattern = SplitPattern::Regex(GPT2_PATTERN.into());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
                steps.push(PreTokenizerWrapper::Split(split));
            }
        }
        Ok(WordSplitter {
            steps,
            spells_bytes: last.is_none(),
        })
    }
}

fn flatten(pre_tokenizer: PreTokenizerWrapper, steps: &mut Vec<PreTokenizerWrapper>) {
    match pre_tokenizer {
        PreTokenizerWrapper::Sequence(sequence) => {
            for part in sequence {
                flatten(part, steps);
            }
        }
        other => steps.push(other),
    }
}

impl<'de> Deserialize<'de> for WordSplitter {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let pre_tokenizer = PreTokenizerWrapper::deserialize(d)?;
        WordSplitter::new(pre_tokenizer).map_err(serde::de::Error::custom)
    }
}

impl PreTokenizer for WordSplitter {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> Result<()> {
        for step in &self.steps {
            step.pre_tokenize(text)?;
        }
        Ok(())
    }
}
