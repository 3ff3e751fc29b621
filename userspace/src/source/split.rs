// SPDX-License-Identifier: Apache-2.0
//! Cuts the text of a file into its documents, and a List into its items, without parsing them.
//!
//! Each piece is then parsed once, by the decoder of its kind, and a mistake in one leaves the
//! others alone. A cut through the text is also what lets two threads share one large file.

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
    pub text: Cow<'a, str>,
    /// Line of the file at which the text starts, from 1.
    pub line: usize,
    pub syntax: Syntax,
    pub head: Head,
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
        json_documents(text, &mut pieces);
        if syntax == Syntax::Json || pieces.iter().all(Result::is_ok) {
            return pieces;
        }
        pieces.clear();
    }
    for (document, line) in yaml_documents(text) {
        yaml_document(document, line, &mut pieces);
    }
    pieces
}

/// The line and message of an error of either parser, in a text that starts at `line`.
pub(super) fn locate(line: usize, error_line: Option<usize>, message: &str) -> SplitError {
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

fn json_documents<'a>(text: &'a str, pieces: &mut Pieces<'a>) {
    let mut heads = serde_json::Deserializer::from_str(text).into_iter::<Head>();
    let (mut start, mut line) = (0, 1);
    while let Some(head) = heads.next() {
        // On an error the stream cannot tell where the next document starts; this is the last.
        let end = if head.is_ok() { heads.byte_offset() } else { text.len() };
        match head {
            Ok(head) => json_document(&text[start..end], line, head, pieces),
            Err(error) => {
                pieces.push(Err(json_error(1, &error)));
                return;
            }
        }
        line += newlines(&text[start..end]);
        start = end;
    }
}

fn json_document<'a>(text: &'a str, line: usize, head: Head, pieces: &mut Pieces<'a>) {
    let (Some(default), Some(items)) = (head.of_items(), json_items(text)) else {
        pieces.push(Ok(Piece { text: text.into(), line, syntax: Syntax::Json, head }));
        return;
    };
    let (mut line, mut counted) = (line, 0);
    for item in items {
        line += newlines(&text[counted..item.start]);
        counted = item.start;
        let text = &text[item];
        pieces.push(match serde_json::from_str::<Head>(text) {
            Ok(head) => {
                let head = head.or(&default);
                Ok(Piece { text: text.into(), line, syntax: Syntax::Json, head })
            }
            Err(error) => Err(json_error(line, &error)),
        });
    }
}

/// Where the elements of the array `items` of a JSON object stand. The text is known to be JSON.
fn json_items(text: &str) -> Option<Vec<std::ops::Range<usize>>> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut last_string) = (0, 0_usize, 0..0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = string_end(bytes, at);
                last_string = at..end;
                at = end;
                continue;
            }
            b'[' if depth == 1 && &text[last_string.clone()] == "\"items\"" => {
                return Some(elements(bytes, at + 1));
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => last_string = 0..0,
            _ => {}
        }
        at += 1;
    }
    None
}

fn elements(bytes: &[u8], from: usize) -> Vec<std::ops::Range<usize>> {
    let (mut found, mut start, mut depth, mut at) = (Vec::new(), None, 0_usize, from);
    while at < bytes.len() {
        match bytes[at] {
            b',' | b']' if depth == 0 => {
                found.extend(start.take().map(|start| start..at));
                if bytes[at] == b']' {
                    break;
                }
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            byte => {
                start.get_or_insert(at);
                match byte {
                    b'"' => {
                        at = string_end(bytes, at);
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
        }
        at += 1;
    }
    found
}

/// Where the string that starts at a quote ends, past the closing quote.
fn string_end(bytes: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Documents and the lines at which they start. `---` at the start of a line ends a document
/// wherever it stands, even inside a block scalar (YAML 1.2, production 206).
fn yaml_documents(text: &str) -> Vec<(&str, usize)> {
    let mut documents = Vec::new();
    let (mut start, mut line) = (0, 1);
    let markers = text.match_indices("---").map(|(at, _)| at).filter(|at| is_marker(text, *at));
    for marker in markers.chain([text.len()]) {
        let document = &text[start..marker];
        if has_content(document) {
            documents.push((document, line));
        }
        line += newlines(document);
        start = (marker + 3).min(text.len());
    }
    documents
}

fn is_marker(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    let starts_line = at == 0 || bytes[at - 1] == b'\n';
    starts_line && bytes.get(at + 3).is_none_or(u8::is_ascii_whitespace)
}

fn has_content(document: &str) -> bool {
    let is_content =
        |line: &str| !line.is_empty() && !line.starts_with(['#', '%']) && line != "...";
    document.lines().any(|line| is_content(line.trim()))
}

fn yaml_document<'a>(text: &'a str, line: usize, pieces: &mut Pieces<'a>) {
    let head = match yaml_head(text) {
        Ok(head) => head,
        Err(error) => return pieces.push(Err(yaml_error(line, &error))),
    };
    let Some(default) = head.of_items() else {
        return pieces.push(Ok(Piece { text: text.into(), line, syntax: Syntax::Yaml, head }));
    };
    match yaml_items(text) {
        Some(items) => {
            for (item, offset) in items {
                // In place of its dash, a space: the item is a document by itself.
                let item: Cow<str> = item.replacen('-', " ", 1).into();
                let line = line + offset;
                pieces.push(match yaml_head(&item) {
                    Ok(head) => {
                        let head = head.or(&default);
                        Ok(Piece { text: item, line, syntax: Syntax::Yaml, head })
                    }
                    Err(error) => Err(yaml_error(line, &error)),
                });
            }
        }
        None => unusual_list(text, line, pieces),
    }
}

/// `apiVersion` and `kind` of a document in block style, read off its lines; of any other by
/// parsing it.
fn yaml_head(text: &str) -> Result<Head, serde_yaml_ng::Error> {
    let mut head = Head::default();
    let mut lines = text.lines().filter(|line| has_content(line));
    let Some(first) = lines.next() else { return Ok(head) };
    let indent = indent_of(first);
    for line in std::iter::once(first).chain(lines) {
        if indent_of(line) != indent {
            continue;
        }
        let key = &line[indent..];
        if let Some(value) = key.strip_prefix("kind:") {
            head.kind = plain_scalar(value).to_owned();
        } else if let Some(value) = key.strip_prefix("apiVersion:") {
            head.api_version = plain_scalar(value).to_owned();
        }
        if head.is_complete() {
            return Ok(head);
        }
    }
    serde_yaml_ng::from_str(text)
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn plain_scalar(text: &str) -> &str {
    let text = text.split(" #").next().unwrap_or_default().trim();
    text.trim_matches(['"', '\''])
}

/// The items of a list in block style, as kubectl prints it, each with its distance in lines from
/// the start of the text; `None` if the list is written in another way.
fn yaml_items(text: &str) -> Option<Vec<(&str, usize)>> {
    let mut items = Vec::new();
    let (mut offset, mut base, mut dash) = (0, None, None);
    let mut item: Option<(usize, usize)> = None;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let start = offset;
        offset += line.len();
        if !has_content(line) {
            continue;
        }
        let (indent, content) = (indent_of(line), line.trim());
        let Some(base) = base else {
            if let Some(value) = content.strip_prefix("items:") {
                if has_content(value) {
                    return None;
                }
                base = Some(indent);
            }
            continue;
        };
        let is_dash = content == "-" || content.starts_with("- ");
        let starts_item = is_dash && indent == *dash.get_or_insert(indent);
        let ends_list = indent <= base && !is_dash;
        if starts_item || ends_list {
            items.extend(item.take().map(|(from, number)| (&text[from..start], number)));
        }
        if ends_list {
            return Some(items);
        }
        if starts_item {
            item = Some((start, number));
        }
    }
    base?;
    items.extend(item.map(|(from, number)| (&text[from..], number)));
    Some(items)
}

/// A list in flow style: parsed once as a whole, and its items once more. Rare, so slow will do.
fn unusual_list(text: &str, line: usize, pieces: &mut Pieces<'_>) {
    let list: serde_json::Value = match serde_yaml_ng::from_str(text) {
        Ok(list) => list,
        Err(error) => return pieces.push(Err(yaml_error(line, &error))),
    };
    let mut found = Vec::new();
    let list = list.to_string();
    json_documents(&list, &mut found);
    pieces.extend(found.into_iter().map(|piece| {
        let Piece { text, syntax, head, .. } = piece?;
        Ok(Piece { text: Cow::Owned(text.into_owned()), line, syntax, head })
    }));
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
