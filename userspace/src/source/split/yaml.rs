// SPDX-License-Identifier: Apache-2.0
//! Cuts YAML by its lines: documents at their markers, a List in block style at its dashes.

use std::borrow::Cow;

use super::{Head, Piece, Pieces, Syntax, is_dash, json, newlines, without_dash, yaml_error};

/// Cuts a text into documents.
pub(super) fn documents<'a>(text: &'a str, pieces: &mut Pieces<'a>) {
    for (text, line) in cut(text) {
        document(text, line, pieces);
    }
}

/// Documents and the lines at which they start. `---` at the start of a line ends a document
/// wherever it stands, even inside a block scalar (YAML 1.2, production 206).
fn cut(text: &str) -> Vec<(&str, usize)> {
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

fn document<'a>(text: &'a str, line: usize, pieces: &mut Pieces<'a>) {
    let head = match read_head(text) {
        Ok(head) => head,
        Err(error) => return pieces.push(Err(yaml_error(line, &error))),
    };
    let Some(default) = head.of_items() else {
        return pieces.push(Ok(Piece { text: text.into(), line, syntax: Syntax::Yaml, head }));
    };
    match list_items(text) {
        Some(items) => {
            for (item, offset) in items {
                let line = line + offset;
                pieces.push(match read_head(&without_dash(item)) {
                    Ok(head) => {
                        let head = head.or(&default);
                        Ok(Piece { text: item.into(), line, syntax: Syntax::Yaml, head })
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
fn read_head(text: &str) -> Result<Head, serde_yaml_ng::Error> {
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
fn list_items(text: &str) -> Option<Vec<(&str, usize)>> {
    let base = indent_of(text.lines().find(|line| has_content(line))?);
    let (mut items, mut offset, mut is_inside, mut dash) = (Vec::new(), 0, false, None);
    let mut item: Option<(usize, usize)> = None;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let start = offset;
        offset += line.len();
        if !has_content(line) {
            continue;
        }
        let (indent, content) = (indent_of(line), line.trim());
        if !is_inside {
            let value = content.strip_prefix("items:").filter(|_| indent == base);
            if value.is_some_and(has_content) {
                return None;
            }
            is_inside = value.is_some();
            continue;
        }
        let is_dash = is_dash(content);
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
    items.extend(item.map(|(from, number)| (&text[from..], number)));
    is_inside.then_some(items)
}

/// A list in flow style: parsed once as a whole, and its items once more. Rare, so slow will do.
fn unusual_list(text: &str, line: usize, pieces: &mut Pieces<'_>) {
    let list: serde_json::Value = match serde_yaml_ng::from_str(text) {
        Ok(list) => list,
        Err(error) => return pieces.push(Err(yaml_error(line, &error))),
    };
    let mut found = Vec::new();
    let list = list.to_string();
    json::documents(&list, &mut found);
    pieces.extend(found.into_iter().map(|piece| {
        let Piece { text, syntax, head, .. } = piece?;
        Ok(Piece { text: Cow::Owned(text.into_owned()), line, syntax, head })
    }));
}
