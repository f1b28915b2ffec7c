// SPDX-License-Identifier: Apache-2.0
//
//! What crosses the C boundary: bytes in, memory handed over, failures and
//! panics as status codes.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

// The values of QtStatus in quire_text.h.
const OK: i32 = 0;
const INVALID_ARGUMENT: i32 = 1;
const INTERNAL: i32 = 2;

/// Why a call failed, in words that a user can act on.
#[derive(Debug)]
pub struct Failure {
    code: i32,
    message: String,
}

impl Failure {
    /// The input was at fault: a file, a text, a number.
    pub fn invalid(message: impl Into<String>) -> Self {
        Failure {
            code: INVALID_ARGUMENT,
            message: message.into(),
        }
    }
}

/// An array that the caller owns until it gives it back.
#[repr(C)]
pub struct Array<T> {
    data: *mut T,
    size: usize,
}

pub type Buffer = Array<u8>;

impl<T> Array<T> {
    pub fn new(values: Vec<T>) -> Self {
        let slice = Box::leak(values.into_boxed_slice());
        Array {
            data: slice.as_mut_ptr(),
            size: slice.len(),
        }
    }

    /// # Safety
    /// `self` was made by `new` and was not released yet, or is all zero.
    pub unsafe fn release(self) {
        if !self.data.is_null() {
            let slice = std::ptr::slice_from_raw_parts_mut(self.data, self.size);
            drop(Box::from_raw(slice));
        }
    }
}

impl From<String> for Buffer {
    fn from(text: String) -> Self {
        Buffer::new(text.into_bytes())
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Buffer::new(bytes)
    }
}

/// # Safety
/// `data` points at `size` values that outlive the result, or `size` is 0.
pub unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 {
        &[]
    } else {
        std::slice::from_raw_parts(data, size)
    }
}

/// # Safety
/// As for `slice`.
pub unsafe fn utf8<'a>(what: &str, data: *const u8, size: usize) -> Result<&'a str, Failure> {
    std::str::from_utf8(slice(data, size)).map_err(|e| {
        Failure::invalid(format!(
            "{what} is not UTF-8: bad byte at offset {} of {size}",
            e.valid_up_to()
        ))
    })
}

/// Drops what `Box::into_raw` gave out. A panicking destructor is swallowed:
/// there is no one to tell.
///
/// # Safety
/// `pointer` came from `Box::into_raw` and was not dropped yet, or is null.
pub unsafe fn drop_box<T>(pointer: *mut T) {
    if !pointer.is_null() {
        let value = Box::from_raw(pointer);
        let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(value)));
    }
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics become statuses, so they are noted instead of printed: the message
/// may quote a user's text, which must not reach a log.
fn note_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let payload = info.payload();
            let what = payload
                .downcast_ref::<&str>()
                .map(|s| s.to_string())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "panic".to_string());
            let place = info
                .location()
                .map(|l| {
                    let file = l.file().rsplit('/').next().unwrap_or("?");
                    format!(" ({file}:{})", l.line())
                })
                .unwrap_or_default();
            PANIC.with(|p| *p.borrow_mut() = Some(what + &place));
        }));
    });
}

/// Runs `body`; on failure or panic stores the message in `error`.
///
/// # Safety
/// `error` is a valid place for a buffer, or null.
pub unsafe fn guarded(error: *mut Buffer, body: impl FnOnce() -> Result<(), Failure>) -> i32 {
    note_panics();
    let failure = match panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return OK,
        Ok(Err(failure)) => failure,
        Err(payload) => {
            // A payload whose own destructor panics must not cross either.
            if let Err(another) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(another);
            }
            let message = PANIC
                .with(|p| p.borrow_mut().take())
                .unwrap_or_else(|| "panic".to_string());
            Failure {
                code: INTERNAL,
                message,
            }
        }
    };
    if !error.is_null() {
        *error = Buffer::from(failure.message);
    }
    failure.code
}
