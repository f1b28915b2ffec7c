// SPDX-License-Identifier: Apache-2.0
//
//! Which tokens may come next, so that a text follows a rule: llguidance over
//! a loaded tokenizer's vocabulary.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{json, Value};

use crate::boundary::Failure;
use crate::budget::{with_budget, ThreadClock};
use crate::decoder::byte_of;
use crate::endless::check_ends;
use crate::rule_cost::{check_lark, check_schema, MAX_CHOICES};
use crate::token_bytes::{ByteAlphabet, Spelling};
use crate::tokenizer::TextTokenizer;

/// The trie counts a token's bytes in ten bits. Such tokens are runs of spaces
/// and dashes, whose parts are tokens too.
const MAX_TOKEN_BYTES: usize = 1000;
/// Of a rule's text.
const MAX_RULE_BYTES: usize = 256 << 10;
/// A Lark grammar's rules may nest as deep as there are rules.
const MAX_LARK_BYTES: usize = 64 << 10;
/// Of processor time for one mask, or for one token that has come. Most take 20
/// microseconds.
const STEP_BUDGET: Duration = Duration::from_millis(100);
/// Of processor time to compile a rule, beside the bounds on what it says.
const COMPILE_BUDGET: Duration = Duration::from_secs(1);
/// How often a compiling thread's time is looked at.
const COMPILE_TICK: Duration = Duration::from_millis(20);
/// Compilations that are given up go on, at the lowest priority; with so many
/// of them under way no other rule is compiled.
const MAX_GIVEN_UP: usize = 2;
/// Compiling recurses as deep as rules refer to each other. Untouched stack
/// costs nothing.
const COMPILER_STACK_BYTES: usize = 512 << 20;
/// Between two parts of a JSON text. Without a bound a model may write spaces
/// until its tokens run out.
const JSON_WHITESPACE: &str = r"[\x20\x0A\x0D\x09]{1,64}";

pub enum Rule<'a> {
    JsonSchema(&'a str),
    JsonObject,
    Regex(&'a str),
    /// A JSON array of strings.
    Choice(&'a str),
    Lark(&'a str),
}

impl<'a> Rule<'a> {
    pub fn from_code(code: i32, text: &'a str) -> Result<Self, Failure> {
        match code {
            0 => Ok(Self::JsonSchema(text)),
            1 => Ok(Self::JsonObject),
            2 => Ok(Self::Regex(text)),
            3 => Ok(Self::Choice(text)),
            4 => Ok(Self::Lark(text)),
            _ => Err(Failure::invalid(format!("rule kind {code}"))),
        }
    }

    fn grammar(&self) -> Result<TopLevelGrammar, Failure> {
        match self {
            Self::JsonSchema(text) => {
                let schema: Value = serde_json::from_str(text)
                    .map_err(|e| Failure::invalid(format!("it is not JSON: {e}")))?;
                check_schema(&schema)?;
                Ok(json_grammar(schema))
            }
            Self::JsonObject => Ok(json_grammar(json!({"type": "object"}))),
            Self::Regex(text) => Ok(TopLevelGrammar::from_regex(text)),
            Self::Choice(text) => {
                let choices: Vec<String> = serde_json::from_str(text)
                    .map_err(|e| Failure::invalid(format!("it is no list of strings: {e}")))?;
                if choices.len() > MAX_CHOICES {
                    return Err(Failure::invalid(format!(
                        "it has {} choices, at most {MAX_CHOICES} can be followed",
                        choices.len()
                    )));
                }
                if choices.is_empty() {
                    return Err(Failure::invalid("it has no choice"));
                }
                let escaped: Vec<String> = choices.iter().map(|c| escape(c)).collect();
                Ok(TopLevelGrammar::from_regex(&escaped.join("|")))
            }
            Self::Lark(text) => {
                check_lark(text)?;
                Ok(TopLevelGrammar::from_lark(text.to_string()))
            }
        }
    }

    fn check_size(&self) -> Result<(), Failure> {
        let (size, most) = match self {
            Self::JsonObject => (0, 0),
            Self::Lark(text) => (text.len(), MAX_LARK_BYTES),
            Self::JsonSchema(text) | Self::Regex(text) | Self::Choice(text) => {
                (text.len(), MAX_RULE_BYTES)
            }
        };
        if size > most {
            return Err(Failure::invalid(format!(
                "it has {size} bytes, at most {most} are allowed"
            )));
        }
        Ok(())
    }
}

fn json_grammar(mut schema: Value) -> TopLevelGrammar {
    if let Value::Object(object) = &mut schema {
        object
            .entry("x-guidance")
            .or_insert_with(|| json!({"whitespace_pattern": JSON_WHITESPACE}));
    }
    TopLevelGrammar::from_json_schema(schema)
}

/// A regular expression that matches `text` alone.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() {
            out.push(c);
        } else {
            out.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
        }
    }
    out
}

/// What one grammar may cost. The states of a lexer take one to two kilobytes
/// each; fuel and items bound the time, to about 20 ms for a step.
fn limits() -> ParserLimits {
    ParserLimits {
        max_lexer_states: 20_000,
        max_grammar_size: 200_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// A tokenizer's vocabulary, arranged for masks. Shared by all grammars.
pub struct GrammarVocab {
    /// Shared with compilations that were given up.
    factory: Arc<ParserFactory>,
}

impl GrammarVocab {
    /// Ids from `vocab_size` on may never come; the tokens of `eos_ids` end a
    /// text wherever the rule lets it end.
    pub fn new(
        tokenizer: &TextTokenizer,
        vocab_size: usize,
        eos_ids: &[i32],
    ) -> Result<Self, Failure> {
        let eos: Vec<u32> = eos_ids
            .iter()
            .filter_map(|&id| u32::try_from(id).ok())
            .filter(|&id| (id as usize) < vocab_size)
            .collect();
        let Some(&first_eos) = eos.first() else {
            return Err(Failure::invalid(
                "the model has no end-of-sequence token, by which a structured output ends",
            ));
        };
        let words = token_words(tokenizer, vocab_size)?;
        let info = TokRxInfo::new(vocab_size as u32, first_eos);
        let trie = TokTrie::from(&info, &words).with_eos_tokens(&eos);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(one_line)?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(GrammarVocab {
            factory: Arc::new(factory),
        })
    }

    pub fn compile(&self, rule: &Rule) -> Result<Grammar, Failure> {
        rule.check_size()?;
        let grammar = rule.grammar()?;
        let factory = self.factory.clone();
        compile_within_budget(move || compile_here(&factory, grammar))
    }
}

/// On a thread of its own, whose panic becomes an error, as does one of the
/// caller's. The library cannot be stopped while it compiles: a thread that
/// takes too long is given up.
fn compile_within_budget(
    compile: impl FnOnce() -> Result<Grammar, Failure> + Send + 'static,
) -> Result<Grammar, Failure> {
    static NUM_GIVEN_UP: AtomicUsize = AtomicUsize::new(0);
    if NUM_GIVEN_UP.load(Ordering::Relaxed) >= MAX_GIVEN_UP {
        return Err(Failure::invalid(
            "rules that took too long are still being compiled; try again in a minute",
        ));
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let (identity_sender, identity_receiver) = mpsc::sync_channel(1);
    let is_given_up = Arc::new(Mutex::new(false));
    let workers_share = is_given_up.clone();
    thread::Builder::new()
        .name("rule-compiler".to_string())
        .stack_size(COMPILER_STACK_BYTES)
        .spawn(move || {
            // SAFETY: it has no condition.
            let id = unsafe { libc::syscall(libc::SYS_gettid) };
            let _ = identity_sender.send((ThreadClock::of_this_thread(), id));
            let compiled = catch_unwind(AssertUnwindSafe(compile))
                .unwrap_or_else(|_| Err(Failure::invalid("it cannot be compiled")));
            let given_up = workers_share.lock().unwrap_or_else(PoisonError::into_inner);
            if *given_up {
                NUM_GIVEN_UP.fetch_sub(1, Ordering::Relaxed);
            } else {
                let _ = sender.send(compiled);
            }
        })
        .map_err(|e| Failure::invalid(format!("no thread to compile it: {e}")))?;
    let (clock, id) = identity_receiver
        .recv()
        .map_err(|_| Failure::invalid("it cannot be compiled"))?;
    loop {
        if let Ok(compiled) = receiver.recv_timeout(COMPILE_TICK) {
            return compiled;
        }
        if clock.now().is_none_or(|now| now >= COMPILE_BUDGET) {
            break;
        }
    }
    let mut given_up = is_given_up.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(compiled) = receiver.try_recv() {
        return compiled;
    }
    *given_up = true;
    NUM_GIVEN_UP.fetch_add(1, Ordering::Relaxed);
    // SAFETY: it changes the priority of a thread that waits for the lock above
    // at the latest.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, id as libc::id_t, 19) };
    Err(Failure::invalid(format!(
        "it takes more than {} ms of processor time to compile",
        COMPILE_BUDGET.as_millis()
    )))
}

fn compile_here(factory: &ParserFactory, grammar: TopLevelGrammar) -> Result<Grammar, Failure> {
    let source = GrammarInit::Serialized(grammar.clone());
    let parser = factory.create_parser_from_init_default(source);
    if let Ok(parser) = &parser {
        check_ends(factory, &grammar, parser.parser.grammar())?;
    }
    let matcher = Matcher::new(parser).into_cancellable();
    if let Some(error) = matcher.get_error() {
        return Err(Failure::invalid(first_line(&error)));
    }
    let mut grammar = Grammar {
        matcher,
        num_ends: 0,
    };
    grammar.allowed()?;
    Ok(grammar)
}

/// The text of every token below `vocab_size`; none for those that add none.
fn token_words(tokenizer: &TextTokenizer, vocab_size: usize) -> Result<Vec<Vec<u8>>, Failure> {
    let (space, byte_tokens) = match tokenizer.spelling() {
        Spelling::Contextual(why) => {
            return Err(Failure::invalid(format!(
                "this model's tokenizer cannot be constrained: {why}, by which a token's text \
                 depends on its neighbours"
            )))
        }
        Spelling::ByteLevel => (None, false),
        Spelling::Plain { space, byte_tokens } => (Some(*space), *byte_tokens),
    };
    let alphabet = ByteAlphabet::new();
    let word_of = |id: usize| -> Option<Vec<u8>> {
        let piece = tokenizer.id_to_piece(id as i32)?;
        if tokenizer.is_special(id) {
            let mut word = vec![TokTrie::SPECIAL_TOKEN_MARKER];
            word.extend_from_slice(piece.as_bytes());
            return Some(word);
        }
        if tokenizer.is_added(id) {
            return Some(piece.into_bytes());
        }
        match space {
            None => alphabet.spell(&piece),
            Some(space) => match byte_of(&piece).filter(|_| byte_tokens) {
                Some(byte) => Some(vec![byte]),
                None => Some(piece.replace(space, " ").into_bytes()),
            },
        }
    };
    Ok((0..vocab_size)
        .map(|id| word_of(id).filter(|w| w.len() <= MAX_TOKEN_BYTES))
        .map(Option::unwrap_or_default)
        .collect())
}

/// In one line: the first, but the verdict of an error in a regular expression
/// comes behind a drawing of it.
fn first_line(message: &str) -> String {
    let first = message.lines().next().unwrap_or("unknown").trim_end();
    let verdict = message
        .lines()
        .find_map(|line| line.strip_prefix("error: "));
    match verdict {
        Some(verdict) if first.ends_with(':') => format!("{first} {verdict}"),
        _ => first.to_string(),
    }
}

fn one_line(error: impl std::fmt::Display) -> Failure {
    Failure::invalid(first_line(&error.to_string()))
}

/// A rule and how much of a text has followed it.
#[derive(Clone)]
pub struct Grammar {
    matcher: Matcher,
    /// End-of-sequence tokens that came after the matcher had stopped.
    num_ends: usize,
}

impl Grammar {
    /// Writes the bits of the tokens that may come next: end-of-sequence alone
    /// once it has come. Words beyond the vocabulary become 0.
    pub fn mask(&mut self, words: &mut [u32]) -> Result<(), Failure> {
        let mask = self.allowed()?;
        let bits = mask.as_slice();
        words.fill(0);
        let shared = bits.len().min(words.len());
        words[..shared].copy_from_slice(&bits[..shared]);
        Ok(())
    }

    fn allowed(&mut self) -> Result<SimpleVob, Failure> {
        match self.within_budget(Matcher::compute_mask_or_eos)? {
            Ok(mask) if !mask.is_zero() => Ok(mask),
            // The matcher says so by this name, and is in error from then on.
            Err(error) if !error.to_string().starts_with("NoExtensionBias") => Err(one_line(error)),
            _ => Err(Failure::invalid(
                "no token of the vocabulary continues a text that does",
            )),
        }
    }

    /// A failure if the budget is spent, which is for good.
    fn within_budget<T>(&mut self, work: impl FnOnce(&mut Matcher) -> T) -> Result<T, Failure> {
        let done = match self.matcher.cancellation_handle() {
            Some(handle) => with_budget(STEP_BUDGET, handle, || work(&mut self.matcher)),
            None => work(&mut self.matcher),
        };
        if self.matcher.is_cancelled() {
            return Err(Failure::invalid(format!(
                "to know what may come next takes more than {} ms of processor time",
                STEP_BUDGET.as_millis()
            )));
        }
        Ok(done)
    }

    pub fn accept(&mut self, ids: &[i32]) -> Result<(), Failure> {
        for &id in ids {
            let id =
                u32::try_from(id).map_err(|_| Failure::invalid(format!("token id {id} < 0")))?;
            if self.has_stopped() && self.is_end(id)? {
                self.num_ends += 1;
            } else {
                self.within_budget(|matcher| matcher.consume_token(id))?
                    .map_err(one_line)?;
            }
        }
        Ok(())
    }

    pub fn rollback(&mut self, num_tokens: usize) -> Result<(), Failure> {
        let num_ends = num_tokens.min(self.num_ends);
        self.num_ends -= num_ends;
        self.matcher
            .rollback(num_tokens - num_ends)
            .map_err(one_line)
    }

    /// Where nothing more can come the matcher stops by itself.
    fn has_stopped(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }

    fn is_end(&self, id: u32) -> Result<bool, Failure> {
        let env = self.matcher.tok_env().map_err(one_line)?;
        Ok(env.tok_trie().eos_tokens().contains(&id))
    }

    pub fn is_done(&self) -> bool {
        self.matcher.is_stopped()
    }
}
