// SPDX-License-Identifier: Apache-2.0
//
//! Finds the spellings of control tokens in text, and marks those that a user
//! wrote so that they are never read as control tokens.
//!
//! The mark is U+FDD0, a code point that Unicode reserves for use inside a
//! program. It sits inside the spelling, so it survives whatever a chat
//! template does with the text around it, and it is taken out again before
//! the text is encoded.

use std::ops::Range;

use aho_corasick::AhoCorasick;
use tokenizers::AddedToken;

use crate::boundary::Failure;

pub const MARK: char = '\u{FDD0}';

/// A stretch of text that is read in one way.
pub struct Stretch {
    pub range: Range<usize>,
    /// Whether a user wrote a control token's spelling in it.
    pub literal: bool,
}

pub struct SpecialText {
    tokens: Vec<AddedToken>,
    finder: AhoCorasick,
}

impl SpecialText {
    pub fn new(tokens: Vec<AddedToken>) -> Result<Self, Failure> {
        let finder = AhoCorasick::new(tokens.iter().map(|t| t.content.as_str()))
            .map_err(|e| Failure::invalid(format!("special tokens: {e}")))?;
        Ok(SpecialText { tokens, finder })
    }

    /// `text` with a mark in every spelling of a control token. Marks that the
    /// text already had are dropped: they could turn the template's own
    /// control tokens into text.
    pub fn guard(&self, text: &str) -> String {
        let clean: String = text.chars().filter(|&c| c != MARK).collect();
        let mut marks: Vec<usize> = self.breaks(&clean);
        marks.dedup();
        let mut out = String::with_capacity(clean.len() + marks.len() * MARK.len_utf8());
        let mut from = 0;
        for at in marks {
            out.push_str(&clean[from..at]);
            out.push(MARK);
            from = at;
        }
        out.push_str(&clean[from..]);
        out
    }

    /// Offsets, in order, at which to cut `text` so that no control token's
    /// spelling stays whole: after the first character of each one, or before
    /// it where it has only one.
    pub fn breaks(&self, text: &str) -> Vec<usize> {
        let mut at: Vec<usize> = self
            .finder
            .find_overlapping_iter(text)
            .map(|m| {
                let first = text[m.range()].chars().next().map_or(0, char::len_utf8);
                if first == m.len() {
                    m.start()
                } else {
                    m.start() + first
                }
            })
            .collect();
        at.sort_unstable();
        at.dedup();
        at
    }

    /// Takes the marks out of `text` and divides it where the template's own
    /// control tokens stand, into stretches with and without marked spellings.
    pub fn divide(&self, text: &str) -> (String, Vec<Stretch>) {
        let mut clean = String::with_capacity(text.len());
        let mut marks = Vec::new();
        for c in text.chars() {
            if c == MARK {
                marks.push(clean.len());
            } else {
                clean.push(c);
            }
        }
        let marked = |r: &Range<usize>| {
            let i = marks.partition_point(|&m| m < r.start);
            marks.get(i).is_some_and(|&m| m < r.end)
        };
        let mut found: Vec<(Range<usize>, usize)> = self
            .finder
            .find_overlapping_iter(&clean)
            .map(|m| (m.range(), m.pattern().as_usize()))
            .filter(|(range, _)| !marked(range))
            .collect();
        // Leftmost first, then longest: the order in which they are read.
        found.sort_by_key(|(range, _)| (range.start, usize::MAX - range.end));

        let mut stretches: Vec<Stretch> = Vec::new();
        let mut push = |range: Range<usize>, literal: bool| {
            match stretches.last_mut() {
                Some(last) if last.literal == literal => last.range.end = range.end,
                _ if range.is_empty() => {}
                _ => stretches.push(Stretch { range, literal }),
            };
        };
        let mut from = 0;
        for (range, which) in found {
            if range.start < from {
                continue; // inside a token that was read before it
            }
            let token = &self.tokens[which];
            let gap = &clean[from..range.start];
            let start = match token.lstrip {
                true => from + gap.trim_end().len(),
                false => range.start,
            };
            let rest = &clean[range.end..];
            let end = match token.rstrip {
                true => clean.len() - rest.trim_start().len(),
                false => range.end,
            };
            let gap = from..start;
            let literal = marked(&gap);
            push(gap, literal);
            push(start..end, false);
            from = end;
        }
        let rest = from..clean.len();
        // A mark may stand at the very end, where a template cut its token.
        let literal = marked(&(from..clean.len() + 1));
        push(rest, literal);
        (clean, stretches)
    }
}
