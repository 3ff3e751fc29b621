// SPDX-License-Identifier: Apache-2.0
//! Cuts the text of a file into its documents, and a List into its items, without parsing them.
//!
//! Each piece is then parsed once, by the decoder of its kind, and a mistake in one leaves the
//! others alone. A cut through the text is also what lets two threads share one large file.

mod json;
mod yaml;

use std::borrow::Cow;

use serde::Deserialize;

/// How a piece is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Json,
    Yaml,
}

/// What a document says that it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Head {
    pub api_version: String,
    pub kind: String,
}

impl Head {
    /// What the items of a list are if they do not say: `None` if this is no list.
    fn of_items(&self) -> Option<Self> {
        let kind = self.kind.strip_suffix("List")?;
        let api_version = if kind.is_empty() { String::new() } else { self.api_version.clone() };
        Some(Self { api_version, kind: kind.to_owned() })
    }

    fn is_complete(&self) -> bool {
        !self.api_version.is_empty() && !self.kind.is_empty()
    }

    fn or(mut self, default: &Self) -> Self {
        if self.api_version.is_empty() {
            self.api_version.clone_from(&default.api_version);
        }
        if self.kind.is_empty() {
            self.kind.clone_from(&default.kind);
        }
        self
    }
}

/// One document, or one item of a list.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    text: Cow<'a, str>,
    /// Line of the file at which the text starts, from 1.
    pub line: usize,
    pub syntax: Syntax,
    pub head: Head,
}

impl Piece<'_> {
    /// The text as a document by itself. An item of a YAML list gets a space in place of its dash;
    /// here and not when it was cut, so that not all items are in memory twice.
    pub fn document(&self) -> Cow<'_, str> {
        if self.syntax == Syntax::Yaml && is_dash(self.text.trim_start()) {
            without_dash(&self.text).into()
        } else {
            Cow::Borrowed(&self.text)
        }
    }
}

fn is_dash(text: &str) -> bool {
    text.strip_prefix('-')
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\n', '\r']))
}

fn without_dash(item: &str) -> String {
    item.replacen('-', " ", 1)
}

/// Text that no document could be found in.
#[derive(Debug)]
pub(super) struct SplitError {
    pub line: usize,
    pub message: String,
}

pub(super) type Pieces<'a> = Vec<Result<Piece<'a>, SplitError>>;

/// The documents of a file, lists replaced by their items.
pub(super) fn pieces(text: &str, syntax: Syntax) -> Pieces<'_> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pieces = Vec::new();
    // JSON is YAML, and much cheaper to read as what it is.
    if syntax == Syntax::Json || text.trim_start().starts_with('{') {
        json::documents(text, &mut pieces);
        if syntax == Syntax::Json || pieces.iter().all(Result::is_ok) {
            return pieces;
        }
        pieces.clear();
    }
    yaml::documents(text, &mut pieces);
    pieces
}

/// The line and message of an error of either parser, in a text that starts at `line`.
fn locate(line: usize, error_line: Option<usize>, message: &str) -> SplitError {
    // Both parsers append where they were, counted from the start of the piece.
    let message = message.split(" at line ").next().unwrap_or(message).to_owned();
    SplitError { line: line + error_line.map_or(0, |line| line.saturating_sub(1)), message }
}

pub(super) fn json_error(line: usize, error: &serde_json::Error) -> SplitError {
    locate(line, Some(error.line()), &error.to_string())
}

pub(super) fn yaml_error(line: usize, error: &serde_yaml_ng::Error) -> SplitError {
    locate(line, error.location().map(|location| location.line()), &error.to_string())
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
