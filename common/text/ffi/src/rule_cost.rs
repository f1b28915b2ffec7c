// SPDX-License-Identifier: Apache-2.0
//
//! Refuses rules that would take seconds to compile or to follow, by what they
//! say. The bounds leave some tens of milliseconds of one core; what they miss
//! ends by the budgets of processor time (budget.rs).

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::boundary::Failure;

/// Of the units that a number has to be a multiple of. The automaton has a
/// state for every remainder: 50 ms and 20,000 states for this many, seconds
/// for ten times as many.
const MAX_MULTIPLE: u64 = 10_000;
/// Decimals of a multiple: powers of ten are kept in 32 bits.
const MAX_DECIMALS: u32 = 9;
/// The regular expression library's counts have 32 bits.
const MAX_COUNT: f64 = u32::MAX as f64;
/// A row of the parser has four items for each property that may come next, of
/// at most 2,000.
const MAX_OPTIONAL: usize = 400;
/// Compiling an object takes time by the square of its properties: 37 ms for
/// this many that are required.
const MAX_PROPERTIES: usize = 1_000;
/// Each pattern is compared with each other.
const MAX_PATTERNS: usize = 64;
/// Members of an enum, choices: 25 ms for this many.
pub const MAX_CHOICES: usize = 10_000;
/// Each a rule of its own: 60 ms for so many small objects.
const MAX_BRANCHES: usize = 1_000;
const MAX_PREFIX_ITEMS: usize = 1_000;
/// Steps of looking through merged schemas.
const MAX_VISITS: usize = 200_000;
/// Of the product of counts in a Lark grammar that intersects or negates
/// terminals, whose automaton may have as many states.
const MAX_COUNT_PRODUCT: u64 = 10_000;
const MAX_INTERSECTIONS: usize = 4;
/// The Lark parser recurses into brackets.
const MAX_NESTING: usize = 100;

fn too_many(what: &str, name: &str, count: usize, most: usize) -> Failure {
    Failure::invalid(format!(
        "{name} has {count} {what}, at most {most} can be followed"
    ))
}

/// coefficient * 10^-decimals
#[derive(Clone, Copy)]
struct Multiple {
    coefficient: u64,
    decimals: u32,
}

impl Multiple {
    /// As llguidance reads it, from the double.
    fn read(value: &Value) -> Result<Option<Self>, Failure> {
        let Some(number) = value.as_f64() else {
            return Ok(None); // refused as no number elsewhere
        };
        let refuse = |why: &str| Err(Failure::invalid(format!("multipleOf is {value}, {why}")));
        if number <= 0.0 {
            return refuse("it has to be more than 0");
        }
        let (mut scaled, mut decimals) = (number, 0);
        while scaled.fract() != 0.0 && decimals <= MAX_DECIMALS {
            scaled *= 10.0;
            decimals += 1;
        }
        if decimals > MAX_DECIMALS || scaled > f64::from(u32::MAX) {
            return refuse(&format!(
                "as a binary number it has more than {MAX_DECIMALS} decimals or more than 32 \
                 bits; take one with fewer digits"
            ));
        }
        let mut coefficient = scaled as u64;
        while decimals > 0 && coefficient % 10 == 0 {
            coefficient /= 10;
            decimals -= 1;
        }
        if coefficient > MAX_MULTIPLE {
            return refuse(&format!(
                "at most {MAX_MULTIPLE} units of its last decimal can be followed"
            ));
        }
        Ok(Some(Multiple {
            coefficient,
            decimals,
        }))
    }

    fn in_units(self, decimals: u32) -> u64 {
        self.coefficient * 10u64.pow(decimals - self.decimals)
    }
}

/// None if it is more than can be followed.
fn common_multiple(multiples: &[Multiple]) -> Option<u64> {
    let decimals = multiples.iter().map(|m| m.decimals).max()?;
    let mut all = 1u64;
    for multiple in multiples {
        let next = multiple.in_units(decimals);
        let (mut a, mut b) = (all, next);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        all = all.checked_mul(next / a)?;
        if all > MAX_MULTIPLE {
            return None;
        }
    }
    Some(all)
}

/// What applies to the value that the schema is of, or says something of it.
const PARTS: [&str; 5] = ["allOf", "anyOf", "oneOf", "$ref", "multipleOf"];
const CONTENTS: [&str; 5] = [
    "properties",
    "patternProperties",
    "additionalProperties",
    "items",
    "prefixItems",
];
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];
/// Those whose values are names to schemas.
const MAPS: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Those whose values are no schemas.
const VALUES: [&str; 4] = ["enum", "const", "default", "examples"];

/// The schemas directly inside of one: its definitions, or all others.
fn children(object: &Map<String, Value>, definitions: bool) -> Vec<&Value> {
    let mut inside = vec![];
    for (key, value) in object {
        let key = key.as_str();
        if VALUES.contains(&key) || DEFINITIONS.contains(&key) != definitions {
            continue;
        }
        match value {
            Value::Object(map) if MAPS.contains(&key) => inside.extend(map.values()),
            Value::Object(_) => inside.push(value),
            Value::Array(list) => inside.extend(list),
            _ => {}
        }
    }
    inside
}

/// Whether several schemas become one that all of them apply to.
fn merges(object: &Map<String, Value>) -> bool {
    let has_several = object
        .get("allOf")
        .and_then(Value::as_array)
        .is_some_and(|list| list.len() > 1);
    let num_parts = PARTS
        .iter()
        .filter(|key| object.contains_key(**key))
        .count();
    let has_contents = CONTENTS.iter().any(|key| object.contains_key(*key));
    has_several || num_parts + usize::from(has_contents) > 1
}

struct SchemaCost<'a> {
    root: &'a Value,
    num_visits: usize,
}

pub fn check_schema(root: &Value) -> Result<(), Failure> {
    let mut cost = SchemaCost {
        root,
        num_visits: 0,
    };
    let mut multiples = vec![];
    cost.check_each(root, &mut multiples)?;
    // Mostly all of them together are few.
    if multiples.is_empty() || common_multiple(&multiples).is_some() {
        return Ok(());
    }
    cost.check_merged(root)
}

impl<'a> SchemaCost<'a> {
    /// Every schema by itself, and what it has of multiples.
    fn check_each(&self, schema: &'a Value, multiples: &mut Vec<Multiple>) -> Result<(), Failure> {
        let Value::Object(object) = schema else {
            return Ok(());
        };
        if let Some(multiple) = object.get("multipleOf") {
            multiples.extend(Multiple::read(multiple)?);
        }
        check_counts(object)?;
        for definitions in [false, true] {
            for inside in children(object, definitions) {
                self.check_each(inside, multiples)?;
            }
        }
        Ok(())
    }

    /// Where schemas are merged, all multiples below may meet in one number.
    fn check_merged(&mut self, schema: &'a Value) -> Result<(), Failure> {
        let Value::Object(object) = schema else {
            return Ok(());
        };
        if merges(object) {
            let mut multiples = vec![];
            self.gather(schema, &mut HashSet::new(), &mut multiples)?;
            if !multiples.is_empty() && common_multiple(&multiples).is_none() {
                return Err(Failure::invalid(format!(
                    "the multipleOf of schemas that are merged (allOf, anyOf, $ref) have a least \
                     common multiple of more than {MAX_MULTIPLE} units of their last decimal"
                )));
            }
        } else {
            for inside in children(object, /*definitions=*/ false) {
                self.check_merged(inside)?;
            }
        }
        for inside in children(object, /*definitions=*/ true) {
            self.check_merged(inside)?;
        }
        Ok(())
    }

    fn target(&self, object: &'a Map<String, Value>) -> Option<&'a Value> {
        let path = object.get("$ref")?.as_str()?;
        self.root.pointer(path.strip_prefix('#')?)
    }

    fn gather(
        &mut self,
        schema: &'a Value,
        seen: &mut HashSet<*const Value>,
        multiples: &mut Vec<Multiple>,
    ) -> Result<(), Failure> {
        let Value::Object(object) = schema else {
            return Ok(());
        };
        if !seen.insert(schema) {
            return Ok(());
        }
        self.num_visits += 1;
        if self.num_visits > MAX_VISITS {
            return Err(Failure::invalid(format!(
                "its merged schemas (allOf, anyOf, $ref) with multipleOf have more than \
                 {MAX_VISITS} parts"
            )));
        }
        if let Some(multiple) = object.get("multipleOf") {
            multiples.extend(Multiple::read(multiple)?);
        }
        if let Some(target) = self.target(object) {
            self.gather(target, seen, multiples)?;
        }
        for inside in children(object, /*definitions=*/ false) {
            self.gather(inside, seen, multiples)?;
        }
        Ok(())
    }
}

/// What one schema says of numbers of things.
fn check_counts(object: &Map<String, Value>) -> Result<(), Failure> {
    for key in [
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
    ] {
        let Some(count) = object.get(key).and_then(Value::as_f64) else {
            continue;
        };
        if count > MAX_COUNT {
            return Err(Failure::invalid(format!(
                "{key} is {}, at most {MAX_COUNT} can be followed",
                object[key]
            )));
        }
    }
    let len = |key: &str| match object.get(key) {
        Some(Value::Array(list)) => list.len(),
        Some(Value::Object(map)) => map.len(),
        _ => 0,
    };
    let required: HashSet<&str> = object
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let properties = object.get("properties").and_then(Value::as_object);
    let num_optional = properties.map_or(0, |map| {
        map.keys()
            .filter(|key| !required.contains(key.as_str()))
            .count()
    });
    let num_properties = num_optional + required.len();
    let checks = [
        (
            "properties",
            "properties that are not required",
            num_optional,
            MAX_OPTIONAL,
        ),
        ("properties", "properties", num_properties, MAX_PROPERTIES),
        (
            "patternProperties",
            "patterns",
            len("patternProperties"),
            MAX_PATTERNS,
        ),
        ("enum", "members", len("enum"), MAX_CHOICES),
        (
            "prefixItems",
            "schemas",
            len("prefixItems"),
            MAX_PREFIX_ITEMS,
        ),
        ("allOf", "schemas", len("allOf"), MAX_BRANCHES),
        ("anyOf", "schemas", len("anyOf"), MAX_BRANCHES),
        ("oneOf", "schemas", len("oneOf"), MAX_BRANCHES),
    ];
    for (name, what, count, most) in checks {
        if count > most {
            return Err(too_many(what, name, count, most));
        }
    }
    Ok(())
}

/// The largest of the numbers in `{m,n}` that begins behind the brace.
fn count_behind(text: &[u8]) -> Option<u64> {
    let end = text.iter().position(|&b| b == b'}')?;
    let numbers = std::str::from_utf8(&text[..end]).ok()?;
    numbers
        .split(',')
        .filter_map(|number| number.trim().parse().ok())
        .max()
}

/// Behind the string or regular expression that begins at `begin`.
fn end_of_literal(text: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while at < text.len() && text[at] != text[begin] {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// Beside brackets this looks at the counts of a grammar that intersects or
/// negates: the automaton of (.{7})* & (.{11})* has 77 states.
pub fn check_lark(grammar: &str) -> Result<(), Failure> {
    let text = grammar.as_bytes();
    let (mut depth, mut num_intersections, mut product) = (0usize, 0usize, 1u64);
    let mut negates = false;
    let mut at = 0;
    while at < text.len() {
        let mut end = at + 1;
        match text[at] {
            b'/' if text.get(at + 1) == Some(&b'/') => {
                end += text[at..].iter().take_while(|&&b| b != b'\n').count();
            }
            b'"' | b'/' => end = end_of_literal(text, at),
            b'(' | b'[' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'{' => depth += 1,
            b'&' => num_intersections += 1,
            b'~' => negates = true,
            _ => {}
        }
        let end = end.min(text.len());
        for brace in (at..end).filter(|&i| text[i] == b'{' && text[at] != b'"') {
            let count = count_behind(&text[brace + 1..]).unwrap_or(1);
            product = product.saturating_mul(count.max(1));
        }
        if depth > MAX_NESTING {
            return Err(Failure::invalid(format!(
                "its brackets nest deeper than {MAX_NESTING}"
            )));
        }
        at = end;
    }
    if num_intersections > MAX_INTERSECTIONS {
        return Err(too_many(
            "intersections (&)",
            "it",
            num_intersections,
            MAX_INTERSECTIONS,
        ));
    }
    if (negates || num_intersections > 0) && product > MAX_COUNT_PRODUCT {
        return Err(Failure::invalid(format!(
            "it intersects or negates terminals (&, ~), and the product of its counts {{m,n}} is \
             more than {MAX_COUNT_PRODUCT}"
        )));
    }
    Ok(())
}
