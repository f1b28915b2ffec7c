// SPDX-License-Identifier: Apache-2.0
//
//! A `tokenizer.json`, checked when it is loaded, and ready for many threads.

use std::str::FromStr;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::tokenizer::{
    AddedToken, Decoder, DecoderWrapper, Encoding, NormalizerWrapper, PostProcessorWrapper,
    TokenizerImpl,
};

use crate::boundary::Failure;
use crate::decoder::TextDecoder;
use crate::pre_tokenizer::WordSplitter;
use crate::shared_model::SharedModel;
use crate::special_text::{SpecialText, MARK};
use crate::token_bytes::{ByteAlphabet, Spelling};

/// One past the highest id that a file may use. The largest vocabularies in
/// use have 2^18 tokens; tables of this many bytes are still harmless.
const MAX_VOCAB: u32 = 1 << 24;
const MAX_ADDED_TOKENS: usize = 1 << 16;

// The values of QtTokenFlag in quire_text.h.
const FLAG_KNOWN: u8 = 1;
const FLAG_SPECIAL: u8 = 2;

type Impl =
    TokenizerImpl<SharedModel, NormalizerWrapper, WordSplitter, PostProcessorWrapper, TextDecoder>;

/// What spellings of control tokens in a text mean.
#[derive(Clone, Copy)]
pub enum SpecialTokens {
    AsText,
    Parse,
    ParseUnmarked,
}

impl SpecialTokens {
    pub fn from_code(code: i32) -> Result<Self, Failure> {
        match code {
            0 => Ok(Self::AsText),
            1 => Ok(Self::Parse),
            2 => Ok(Self::ParseUnmarked),
            _ => Err(Failure::invalid(format!("special token mode {code}"))),
        }
    }
}

/// The parts of the file that the library reads but does not keep.
#[derive(Deserialize)]
struct Declared {
    #[serde(default)]
    added_tokens: Vec<DeclaredToken>,
    model: Option<DeclaredModel>,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    post_processor: Value,
}

#[derive(Deserialize)]
struct DeclaredToken {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct DeclaredModel {
    unk_token: Option<String>,
    unk_id: Option<u32>,
}

/// The file's decoder as Hugging Face has it, where `TextDecoder` differs.
#[derive(Deserialize)]
struct DeclaredDecoder {
    decoder: Option<DecoderWrapper>,
}

/// The library looks for a template's control tokens when it encodes, and
/// panics if one is not there.
fn check_template(processor: &Value) -> Result<(), Failure> {
    for part in processor["processors"].as_array().into_iter().flatten() {
        check_template(part)?;
    }
    let pieces = ["single", "pair"]
        .iter()
        .flat_map(|key| processor[key].as_array());
    for piece in pieces.flatten() {
        let Some(id) = piece["SpecialToken"]["id"].as_str() else {
            continue;
        };
        if processor["special_tokens"].get(id).is_none() {
            return Err(Failure::invalid(format!(
                "not a usable tokenizer.json: its post-processor has {id:?} in a template, which \
                 is none of its special_tokens"
            )));
        }
    }
    Ok(())
}

pub struct TextTokenizer {
    parsing: Impl,
    literal: Impl,
    special: SpecialText,
    flags: Vec<u8>, // [vocab_size]
    added: std::collections::HashSet<u32>,
    spelling: Spelling,
    adds_bytes: bool, // the decoder joins bytes and does nothing else
    unknown_id: Option<u32>,
    library_decoder: Option<DecoderWrapper>,
}

impl TextTokenizer {
    pub fn from_json(json: &str) -> Result<Self, Failure> {
        let declared: Declared = serde_json::from_str(json)
            .map_err(|e| Failure::invalid(format!("not a tokenizer.json: {e}")))?;
        if declared.model.is_none() {
            return Err(Failure::invalid(
                "not a tokenizer.json: it has no \"model\"",
            ));
        }
        if declared.added_tokens.len() > MAX_ADDED_TOKENS {
            return Err(Failure::invalid(format!(
                "{} added tokens, at most {MAX_ADDED_TOKENS} are allowed",
                declared.added_tokens.len()
            )));
        }
        check_template(&declared.post_processor)?;
        let mut parsing = Impl::from_str(json)
            .map_err(|e| Failure::invalid(format!("not a usable tokenizer.json: {e}")))?;
        // Padding and truncation belong to training. A padding length in a
        // hostile file would be allocated on the first request.
        parsing.with_padding(None);
        parsing
            .with_truncation(None)
            .map_err(|e| Failure::invalid(e.to_string()))?;

        let splitter = parsing.get_pre_tokenizer();
        if splitter.is_some_and(WordSplitter::leaves_bytes) {
            let model = parsing.get_model().spelling_bytes();
            parsing.with_model(model);
        }

        let flags = make_flags(&parsing)?;
        check_added_tokens(&parsing, &declared.added_tokens)?;
        let mut special: Vec<AddedToken> = parsing
            .get_added_tokens_decoder()
            .into_values()
            .filter(|t| t.special && !t.content.is_empty())
            .collect();
        special.sort_by(|a, b| a.content.cmp(&b.content));
        let unknown_id = declared.model.and_then(|m| {
            let named = m.unk_token.and_then(|t| parsing.token_to_id(&t));
            m.unk_id.or(named)
        });
        let decoder: DeclaredDecoder = serde_json::from_str(json)
            .map_err(|e| Failure::invalid(format!("not a usable decoder: {e}")))?;
        let mut literal = parsing.clone();
        literal.set_encode_special_tokens(true);
        let tokenizer = TextTokenizer {
            parsing,
            literal,
            special: SpecialText::new(special)?,
            flags,
            added: declared.added_tokens.iter().map(|t| t.id).collect(),
            spelling: Spelling::of(&declared.decoder),
            adds_bytes: declared.decoder["type"] == "ByteLevel",
            unknown_id,
            library_decoder: decoder.decoder,
        };
        tokenizer.check_post_processor()?;
        Ok(tokenizer)
    }

    /// One byte for each id in [0, vocab_size).
    pub fn flags(&self) -> &[u8] {
        &self.flags
    }

    pub fn spelling(&self) -> &Spelling {
        &self.spelling
    }

    /// Whether the token is a control token.
    pub fn is_special(&self, id: usize) -> bool {
        self.flags.get(id).is_some_and(|f| f & FLAG_SPECIAL != 0)
    }

    /// Whether the file adds it to the model's vocabulary: its piece is its text.
    pub fn is_added(&self, id: usize) -> bool {
        u32::try_from(id).is_ok_and(|id| self.added.contains(&id))
    }

    pub fn special_text(&self) -> &SpecialText {
        &self.special
    }

    pub fn token_to_id(&self, token: &str) -> Option<i32> {
        let id = self.parsing.token_to_id(token)?;
        i32::try_from(id).ok()
    }

    pub fn id_to_piece(&self, id: i32) -> Option<String> {
        self.parsing.id_to_token(u32::try_from(id).ok()?)
    }

    pub fn encode(
        &self,
        text: &str,
        add_special_tokens: bool,
        mode: SpecialTokens,
    ) -> Result<Vec<i32>, Failure> {
        let mut encoding = match mode {
            SpecialTokens::AsText => self.encode_literal(text)?,
            SpecialTokens::ParseUnmarked if text.contains(MARK) => self.encode_marked(text)?,
            _ => encode_plain(&self.parsing, text)?,
        };
        if add_special_tokens {
            encoding = self
                .parsing
                .post_process(encoding, None, true)
                .map_err(|e| Failure::invalid(format!("cannot add special tokens: {e}")))?;
        }
        encoding.get_ids().iter().map(|&id| to_i32(id)).collect()
    }

    /// The bytes that each id adds to any text, one after the other, and where
    /// each one's end. None if what an id adds may depend on others.
    pub fn token_bytes(&self) -> Option<(Vec<u8>, Vec<i32>)> {
        if !self.adds_bytes {
            return None;
        }
        // Decoding knows control tokens by their text, which others may share.
        let added = self.parsing.get_added_tokens_decoder();
        let controls: std::collections::HashSet<&str> = added
            .values()
            .filter(|token| token.special)
            .map(|token| token.content.as_str())
            .collect();
        let alphabet = ByteAlphabet::new();
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(self.flags.len());
        for id in 0..self.flags.len() {
            if let Some(piece) = self.parsing.id_to_token(u32::try_from(id).ok()?) {
                if !self.is_special(id) && controls.contains(piece.as_str()) {
                    return None;
                }
                bytes.extend(alphabet.spell(&piece).unwrap_or(piece.into_bytes()));
            }
            ends.push(i32::try_from(bytes.len()).ok()?);
        }
        Some((bytes, ends))
    }

    /// As the library decodes, broken runs of byte tokens too.
    pub fn decode_as_library(
        &self,
        ids: &[i32],
        skip_special_tokens: bool,
    ) -> Result<String, Failure> {
        let skipped = |id: u32| {
            let flags = self.flags.get(id as usize).copied().unwrap_or(0);
            skip_special_tokens && flags & FLAG_SPECIAL != 0
        };
        let tokens: Vec<String> = to_u32s(ids)?
            .into_iter()
            .filter(|&id| !skipped(id))
            .filter_map(|id| self.parsing.id_to_token(id))
            .collect();
        match &self.library_decoder {
            Some(decoder) => decoder
                .decode(tokens)
                .map_err(|e| Failure::invalid(format!("cannot decode: {e}"))),
            None => Ok(tokens.join(" ")),
        }
    }

    pub fn decode(&self, ids: &[i32], skip_special_tokens: bool) -> Result<String, Failure> {
        let ids = to_u32s(ids)?;
        self.parsing
            .decode(&ids, skip_special_tokens)
            .map_err(|e| Failure::invalid(format!("cannot decode: {e}")))
    }

    /// Encodes `text` so that nothing in it becomes a control token.
    fn encode_literal(&self, text: &str) -> Result<Encoding, Failure> {
        let encoding = encode_plain(&self.literal, text)?;
        if self.control_token(&encoding).is_none() {
            return Ok(encoding);
        }
        // Unigram and word models hold control tokens as ordinary vocabulary
        // and find them in text. Cut inside the spelling they cannot.
        let mut pieces = Vec::new();
        let mut from = 0;
        for at in self.special.breaks(text) {
            pieces.push(encode_plain(&self.literal, &text[from..at])?);
            from = at;
        }
        pieces.push(encode_plain(&self.literal, &text[from..])?);
        let encoding = Encoding::merge(pieces, false);
        match self.control_token(&encoding) {
            None => Ok(encoding),
            Some(token) => Err(Failure::invalid(format!(
                "the text spells the control token {token:?}, which this \
                 tokenizer cannot read as ordinary text: remove it"
            ))),
        }
    }

    /// The first control token in `encoding`. The unknown token is none, nor
    /// is a single character that a file declares special.
    fn control_token(&self, encoding: &Encoding) -> Option<String> {
        encoding
            .get_ids()
            .iter()
            .filter(|&&id| Some(id) != self.unknown_id)
            .filter(|&&id| {
                let flags = self.flags.get(id as usize).copied().unwrap_or(0);
                flags & FLAG_SPECIAL != 0
            })
            .filter_map(|&id| self.parsing.id_to_token(id))
            .find(|token| token.chars().count() > 1)
    }

    fn encode_marked(&self, text: &str) -> Result<Encoding, Failure> {
        let (text, stretches) = self.special.divide(text);
        let mut pieces = Vec::with_capacity(stretches.len());
        for stretch in stretches {
            let part = &text[stretch.range];
            pieces.push(match stretch.literal {
                true => self.encode_literal(part)?,
                false => encode_plain(&self.parsing, part)?,
            });
        }
        Ok(Encoding::merge(pieces, false))
    }

    /// A post-processor inserts ids that the file gives as plain numbers.
    fn check_post_processor(&self) -> Result<(), Failure> {
        for id in self.encode("", true, SpecialTokens::Parse)? {
            let known = usize::try_from(id)
                .ok()
                .and_then(|i| self.flags.get(i))
                .is_some_and(|f| f & FLAG_KNOWN != 0);
            if !known {
                return Err(Failure::invalid(format!(
                    "the post-processor inserts id {id}, which no token has"
                )));
            }
        }
        Ok(())
    }
}

fn to_u32s(ids: &[i32]) -> Result<Vec<u32>, Failure> {
    ids.iter()
        .map(|&id| u32::try_from(id).map_err(|_| Failure::invalid(format!("token id {id} < 0"))))
        .collect()
}

fn to_i32(id: u32) -> Result<i32, Failure> {
    i32::try_from(id).map_err(|_| Failure::invalid(format!("token id {id} is too large")))
}

fn encode_plain(tokenizer: &Impl, text: &str) -> Result<Encoding, Failure> {
    tokenizer
        .encode_fast(text, false)
        .map_err(|e| Failure::invalid(format!("cannot encode: {e}")))
}

fn make_flags(tokenizer: &Impl) -> Result<Vec<u8>, Failure> {
    let vocab = tokenizer.get_vocab(true);
    let Some((token, &highest)) = vocab.iter().max_by_key(|(_, &id)| id) else {
        return Err(Failure::invalid("the vocabulary is empty"));
    };
    if highest >= MAX_VOCAB {
        return Err(Failure::invalid(format!(
            "token {token:?} has id {highest}, the highest allowed is {}",
            MAX_VOCAB - 1
        )));
    }
    let mut flags = vec![0; highest as usize + 1];
    // Not by spelling: a file may spell two tokens alike.
    for (id, flag) in flags.iter_mut().enumerate() {
        if tokenizer.id_to_token(id as u32).is_some() {
            *flag |= FLAG_KNOWN;
        }
    }
    for (id, token) in tokenizer.get_added_tokens_decoder() {
        if token.special {
            flags[id as usize] |= FLAG_SPECIAL;
        }
    }
    Ok(flags)
}

/// The library numbers added tokens itself and only warns where the file says
/// otherwise; the model was trained with the file's numbers.
fn check_added_tokens(tokenizer: &Impl, declared: &[DeclaredToken]) -> Result<(), Failure> {
    for token in declared {
        let got = tokenizer.token_to_id(&token.content);
        if got != Some(token.id) && !token.content.is_empty() {
            return Err(Failure::invalid(format!(
                "added token {:?} has id {} in the file, but the vocabulary leads to {}",
                token.content,
                token.id,
                got.map_or("no id".to_string(), |id| format!("id {id}"))
            )));
        }
    }
    Ok(())
}
