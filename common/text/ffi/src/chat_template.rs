// SPDX-License-Identifier: Apache-2.0
//
//! Chat templates: Jinja as transformers runs it, bounded in steps, depth and
//! output.

use std::error::Error as _;
use std::io;

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat;

use crate::boundary::Failure;
use crate::python_format;

const NAME: &str = "chat_template";
const NOW: &str = "quire_now_unix_seconds";
const MAX_DEPTH: usize = 64;
const REFUSED: &str = "the template refuses these messages: ";

pub struct ChatTemplate {
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// `fuel` bounds the steps of one rendering.
    pub fn compile(source: &str, fuel: u64) -> Result<Self, Failure> {
        let mut env = Environment::new();
        env.set_trim_blocks(true);
        env.set_lstrip_blocks(true);
        env.set_fuel(Some(fuel));
        env.set_recursion_limit(MAX_DEPTH);
        env.set_unknown_method_callback(call_method);
        env.set_formatter(|out, _, value| {
            if value.is_undefined() {
                return Ok(());
            }
            match value.as_str() {
                Some(s) => out.write_str(s)?,
                None => out.write_str(&python_format::display(value)?)?,
            }
            Ok(())
        });
        env.add_filter("tojson", python_format::tojson);
        env.add_filter("string", |value: &Value| python_format::display(value));
        env.add_test("iterable", is_iterable);
        env.add_function("raise_exception", raise_exception);
        env.add_function("strftime_now", strftime_now);
        env.add_template_owned(NAME, without_training_marks(source))
            .map_err(|e| Failure::invalid(describe(&e)))?;
        Ok(ChatTemplate { environment: env })
    }

    /// `context` is a JSON object: the template's variables.
    pub fn render(
        &self,
        context: &str,
        now_unix_seconds: i64,
        max_output_bytes: usize,
    ) -> Result<String, Failure> {
        let mut context: serde_json::Map<String, serde_json::Value> = serde_json::from_str(context)
            .map_err(|e| Failure::invalid(format!("template variables: {e}")))?;
        context.insert(NOW.into(), now_unix_seconds.into());
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|e| Failure::invalid(describe(&e)))?;
        let mut out = Bounded {
            bytes: Vec::new(),
            limit: max_output_bytes,
            overflowed: false,
        };
        let rendered = template
            .render_captured_to(Value::from_serialize(&context), &mut out)
            .map(|_| ());
        if out.overflowed {
            return Err(Failure::invalid(format!(
                "the chat template wrote more than {max_output_bytes} bytes"
            )));
        }
        rendered.map_err(|e| Failure::invalid(describe(&e)))?;
        String::from_utf8(out.bytes)
            .map_err(|_| Failure::invalid("the chat template wrote text that is not UTF-8"))
    }
}

/// Output that stops growing at a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    overflowed: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if part.len() > self.limit - self.bytes.len() {
            self.overflowed = true;
            return Err(io::Error::other("output limit"));
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The template's line and what is wrong there, causes included.
fn describe(error: &Error) -> String {
    if let Some(reason) = error.detail().and_then(|d| d.strip_prefix(REFUSED)) {
        return format!("{REFUSED}{reason}{}", place(error));
    }
    let mut text = match error.kind() {
        ErrorKind::OutOfFuel => "the chat template takes too many steps".to_string(),
        kind => match error.detail() {
            Some(detail) => format!("chat template: {kind}: {detail}"),
            None => format!("chat template: {kind}"),
        },
    };
    text += &place(error);
    let mut cause = error.source();
    while let Some(e) = cause {
        if let Some(inner) = e.downcast_ref::<Error>() {
            text = format!("{text}; {}", describe(inner));
            break;
        }
        text = format!("{text}; {e}");
        cause = e.source();
    }
    text
}

fn place(error: &Error) -> String {
    error
        .line()
        .map_or(String::new(), |n| format!(" (line {n})"))
}

/// Python's methods. Its `str.is...` are false of the empty string.
fn call_method(
    state: &State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let asks = matches!(
        method,
        "isalnum" | "isalpha" | "isdecimal" | "isdigit" | "isnumeric" | "isspace"
    );
    if asks && args.is_empty() && value.as_str() == Some("") {
        return Ok(Value::from(false));
    }
    pycompat::unknown_method_callback(state, value, method, args)
}

/// As in Jinja2, where None is not and what is undefined is.
fn is_iterable(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Undefined
            | ValueKind::String
            | ValueKind::Bytes
            | ValueKind::Seq
            | ValueKind::Map
            | ValueKind::Iterable
    )
}

fn raise_exception(message: String) -> Result<Value, Error> {
    let detail = format!("{REFUSED}{message}");
    Err(Error::new(ErrorKind::InvalidOperation, detail))
}

/// `datetime.now().strftime(format)` at the time that the caller gave.
fn strftime_now(state: &State, format: String) -> Result<Value, Error> {
    let invalid = |what: &str| Error::new(ErrorKind::InvalidOperation, what.to_string());
    let now = state
        .lookup(NOW)
        .and_then(|v| i64::try_from(v).ok())
        .ok_or_else(|| invalid("strftime_now: no time given"))?;
    if format.is_empty() {
        return Ok(Value::from(""));
    }
    let format = std::ffi::CString::new(format)
        .map_err(|_| invalid("strftime_now: the format has a zero byte"))?;
    let mut buffer = [0u8; 512];
    // SAFETY: `parts` is filled by localtime_r before strftime reads it, and
    // strftime writes at most buffer.len() bytes.
    let size = unsafe {
        let mut parts: libc::tm = std::mem::zeroed();
        let now = now as libc::time_t;
        if libc::localtime_r(&now, &mut parts).is_null() {
            return Err(invalid("strftime_now: the time is out of range"));
        }
        libc::strftime(
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            format.as_ptr(),
            &parts,
        )
    };
    if size == 0 {
        return Err(invalid("strftime_now: the format gives too long a text"));
    }
    Ok(Value::from(
        String::from_utf8_lossy(&buffer[..size]).as_ref(),
    ))
}

/// `{% generation %}` … `{% endgeneration %}` mark what to train on and write
/// nothing themselves, so they become a block that is always taken. Trim
/// signs and line numbers stay as they were.
fn without_training_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let after = &rest[open + 2..];
        let Some(close) = after.find("%}") else { break };
        let inner = &after[..close];
        let word = inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let replacement = match word {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        out.push_str(&rest[..open + 2]);
        match replacement {
            Some(new) => out.push_str(&inner.replacen(word, new, 1)),
            None => out.push_str(inner),
        }
        out.push_str("%}");
        rest = &after[close + 2..];
    }
    out.push_str(rest);
    out
}
