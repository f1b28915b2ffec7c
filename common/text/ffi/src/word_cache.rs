// SPDX-License-Identifier: Apache-2.0
//
//! The tokens of words seen lately, for all threads that use a vocabulary.
//!
//! A table of fixed size in which a word has one place; a new word takes the
//! place of the old one, so the table follows the text, and memory is bounded.
//! A place in use by another thread is a miss: nobody waits.

use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

const NUM_PLACES: usize = 1 << 15;
/// Bytes. Longer words hardly come twice.
const MAX_WORD: usize = 64;

#[derive(Default)]
struct Place {
    word: String,
    ids: Vec<u32>,
}

pub struct WordCache {
    places: Vec<Mutex<Place>>,
    hasher: RandomState,
}

impl WordCache {
    pub fn new() -> Self {
        WordCache {
            places: (0..NUM_PLACES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    fn place(&self, word: &str) -> Option<&Mutex<Place>> {
        if word.is_empty() || word.len() > MAX_WORD {
            return None;
        }
        let hash = self.hasher.hash_one(word) as usize;
        self.places.get(hash % NUM_PLACES)
    }

    /// The tokens of `word`, each as `make` builds it.
    pub fn get<T>(&self, word: &str, make: impl Fn(u32) -> T) -> Option<Vec<T>> {
        let place = self.place(word)?.try_lock().ok()?;
        if place.word != word {
            return None;
        }
        Some(place.ids.iter().map(|&id| make(id)).collect())
    }

    pub fn put(&self, word: &str, ids: impl Iterator<Item = u32>) {
        let Some(Ok(mut place)) = self.place(word).map(Mutex::try_lock) else {
            return;
        };
        place.word.clear();
        place.ids.clear();
        place.ids.extend(ids);
        place.word.push_str(word);
    }
}
