// SPDX-License-Identifier: Apache-2.0
//
//! Refuses rules with a recursion without a way out, even if another branch
//! ends: once a text is in there the parser follows it until the tokens run out.
//!
//! What is looked at is the compiled grammar, into which JSON schemas and Lark
//! alike have become symbols and their alternatives. A symbol ends if all parts
//! of one of its alternatives do; what is not known to go on forever is taken
//! to end.

use llguidance::api::{GrammarInit, TopLevelGrammar};
use llguidance::earley::{CGrammar, CSymIdx};
use llguidance::{HashMap, HashSet, ParserFactory};

use crate::boundary::Failure;

/// Compiled symbols have numbers of 16 bits, some of which are taken.
const MAX_SYMBOLS: usize = 65_000;

/// A failure if `compiled`, whose source is `grammar`, can lead to where no text
/// ends.
pub fn check_ends(
    factory: &ParserFactory,
    grammar: &TopLevelGrammar,
    compiled: &CGrammar,
) -> Result<(), Failure> {
    if endless(compiled).is_empty() {
        return Ok(());
    }
    let lark = grammar
        .grammars
        .first()
        .and_then(|g| g.lark_grammar.as_deref());
    let message = match name(factory, grammar, lark) {
        Some(name) if name.starts_with('#') => format!(
            "schema {name:?} can never be satisfied: each value of it needs another one inside; \
             leave the property that refers back out of required, take a minItems of 0, or add a \
             branch without it to anyOf"
        ),
        Some(name) => format!(
            "rule {name:?} can never end: each of its alternatives leads back to it; add one that \
             does not"
        ),
        None => "a part of it can never end: each alternative leads back to itself; add one that \
                 does not"
            .to_string(),
    };
    Err(Failure::invalid(message))
}

/// What the user calls a symbol that cannot end, by the grammar before its
/// optimisation, which drops names.
fn name(factory: &ParserFactory, grammar: &TopLevelGrammar, lark: Option<&str>) -> Option<String> {
    let limits = factory.limits();
    let (symbols, lexer) = GrammarInit::Serialized(grammar.clone())
        .to_internal(Some(factory.tok_env().clone()), limits.clone())
        .ok()?;
    if symbols.num_symbols() > MAX_SYMBOLS {
        return None;
    }
    let compiled = symbols.compile(lexer, limits).ok()?;
    let circle = circle(&compiled, &endless(&compiled));
    let names = || circle.iter().map(|&s| compiled.sym_name(s));
    // A schema is called by the reference to it.
    if let Some(reference) = names().find(|n| *n == "#" || n.starts_with("#/")) {
        return Some(reference.to_string());
    }
    // A rule that is referred to before its end stands there as `name_`; a name
    // that is taken gets a number behind it.
    let bare = || names().map(|n| n.split('#').next().unwrap_or(n));
    bare()
        .filter_map(|n| n.strip_suffix('_'))
        .chain(bare())
        .find(|n| lark.is_some_and(|text| defines(text, n)))
        .map(str::to_string)
}

/// Whether a line of the Lark grammar begins the rule of this name.
fn defines(lark: &str, name: &str) -> bool {
    lark.lines().any(|line| {
        let line = line.trim_start().trim_start_matches(['?', '!']);
        !name.is_empty()
            && line
                .strip_prefix(name)
                .and_then(|rest| rest.trim_start().chars().next())
                .is_some_and(|c| matches!(c, ':' | '[' | '{' | '.'))
    })
}

/// All parts of all alternatives.
fn parts(grammar: &CGrammar, symbol: CSymIdx) -> impl Iterator<Item = CSymIdx> + '_ {
    grammar
        .rules_of(symbol)
        .iter()
        .flat_map(|&rule| grammar.rule_rhs(rule).0.iter().copied())
}

/// Those among `allowed` that are reached from `first`, which comes first.
fn reached(grammar: &CGrammar, first: CSymIdx, allowed: impl Fn(CSymIdx) -> bool) -> Vec<CSymIdx> {
    let mut seen = HashSet::from_iter([first]);
    let mut order = vec![first];
    let mut at = 0;
    while at < order.len() {
        for part in parts(grammar, order[at]) {
            if allowed(part) && seen.insert(part) {
                order.push(part);
            }
        }
        at += 1;
    }
    order
}

fn ends_by_itself(grammar: &CGrammar, symbol: CSymIdx) -> bool {
    let symbol = grammar.sym_data(symbol);
    symbol.is_terminal
        || symbol.is_nullable
        || !symbol.cond_nullable.is_empty()
        || symbol.rules.is_empty()
        || symbol.props.max_tokens < usize::MAX
}

/// The symbols reached from the start that cannot end: the complement of a
/// least fixed point. Conditions of alternatives are taken to hold.
fn endless(grammar: &CGrammar) -> HashSet<CSymIdx> {
    let symbols = reached(grammar, grammar.start(), |_| true);
    // Of each alternative its symbol, and how many parts are not known to end.
    let mut alternatives: Vec<(CSymIdx, usize)> = vec![];
    let mut uses: HashMap<CSymIdx, Vec<usize>> = HashMap::default();
    let mut ending = vec![];
    for &symbol in &symbols {
        if ends_by_itself(grammar, symbol) {
            ending.push(symbol);
        }
        for &rule in grammar.rules_of(symbol) {
            let parts = grammar.rule_rhs(rule).0;
            for &part in parts {
                uses.entry(part).or_default().push(alternatives.len());
            }
            alternatives.push((symbol, parts.len()));
        }
    }
    let mut endless = HashSet::from_iter(symbols);
    while let Some(symbol) = ending.pop() {
        if !endless.remove(&symbol) {
            continue;
        }
        for &index in uses.get(&symbol).into_iter().flatten() {
            let (user, num_open) = &mut alternatives[index];
            *num_open -= 1;
            if *num_open == 0 {
                ending.push(*user);
            }
        }
    }
    endless
}

/// Symbols of which each leads to each other and to nothing else that is
/// endless: why the first one is that the start leads to. Empty if none is.
fn circle(grammar: &CGrammar, endless: &HashSet<CSymIdx>) -> Vec<CSymIdx> {
    let mut symbols = reached(grammar, grammar.start(), |_| true).into_iter();
    let Some(mut first) = symbols.find(|s| endless.contains(s)) else {
        return vec![];
    };
    loop {
        let inside = reached(grammar, first, |s| endless.contains(&s));
        let mut users: HashMap<CSymIdx, Vec<CSymIdx>> = HashMap::default();
        for &symbol in &inside {
            for part in parts(grammar, symbol) {
                users.entry(part).or_default().push(symbol);
            }
        }
        let mut leads_back = HashSet::from_iter([first]);
        let mut open = vec![first];
        while let Some(symbol) = open.pop() {
            for &user in users.get(&symbol).into_iter().flatten() {
                if leads_back.insert(user) {
                    open.push(user);
                }
            }
        }
        // Mostly the last is the deepest.
        match inside.iter().rev().find(|s| !leads_back.contains(*s)) {
            Some(&deeper) => first = deeper,
            None => return inside,
        }
    }
}
