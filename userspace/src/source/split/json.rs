// SPDX-License-Identifier: Apache-2.0
//! Cuts JSON: documents that follow each other, and the items of a List.

use std::ops::Range;

use super::{Head, Piece, Pieces, Syntax, json_error, newlines};

/// Cuts a text into documents; several may follow each other.
pub(super) fn documents<'a>(text: &'a str, pieces: &mut Pieces<'a>) {
    let mut heads = serde_json::Deserializer::from_str(text).into_iter::<Head>();
    let (mut start, mut line) = (0, 1);
    while let Some(head) = heads.next() {
        // On an error the stream cannot tell where the next document starts; this is the last.
        let end = if head.is_ok() { heads.byte_offset() } else { text.len() };
        match head {
            Ok(head) => document(&text[start..end], line, head, pieces),
            Err(error) => {
                pieces.push(Err(json_error(1, &error)));
                return;
            }
        }
        line += newlines(&text[start..end]);
        start = end;
    }
}

fn document<'a>(text: &'a str, line: usize, head: Head, pieces: &mut Pieces<'a>) {
    let (Some(default), Some(items)) = (head.of_items(), items(text)) else {
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
fn items(text: &str) -> Option<Vec<Range<usize>>> {
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

fn elements(bytes: &[u8], from: usize) -> Vec<Range<usize>> {
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
