// SPDX-License-Identifier: Apache-2.0
//! From the text of a file to converted objects and named mistakes.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    convert::{Converted, Converter, DocumentKind, NameError},
    split::{self, Head, Piece, SplitError, Syntax},
};
use crate::model::{
    name::{Kind, ObjectName, ObjectRef},
    rejection::RejectReason,
};

/// What one document of a file was.
#[derive(Debug)]
pub(super) enum Parsed {
    /// An object.
    Object(Converted),
    /// A mistake in a known object, whose last good version stays in force.
    Mistake(ObjectRef, RejectReason),
    /// A mistake in we do not know which object, so nothing of the file may be taken as deleted.
    Nameless(RejectReason),
}

/// A file name and how its content is written; `None` if the name is not one that is read.
pub(super) fn syntax_of(file: &str) -> Option<Syntax> {
    if file.starts_with('.') {
        return None;
    }
    match file.rsplit_once('.')?.1 {
        "yaml" | "yml" => Some(Syntax::Yaml),
        "json" => Some(Syntax::Json),
        _ => None,
    }
}

/// Text as UTF-8, or the mistake of not being that.
pub(super) fn utf8<'a>(file: &Arc<str>, bytes: &'a [u8]) -> Result<&'a str, Parsed> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        let message = "the text is not UTF-8".to_owned();
        Parsed::Nameless(RejectReason::Malformed { file: file.clone(), line, message })
    })
}

/// Parses one piece of a file.
pub(super) fn piece(
    file: &Arc<str>,
    piece: &Result<Piece<'_>, SplitError>,
    converter: &Converter,
) -> Parsed {
    match piece {
        Ok(piece) => document(file, piece, converter),
        Err(error) => Parsed::Nameless(malformed(file, error.line, error.message.clone())),
    }
}

fn document(file: &Arc<str>, piece: &Piece<'_>, converter: &Converter) -> Parsed {
    let Head { api_version, kind } = &piece.head;
    if kind.is_empty() || api_version.is_empty() {
        let message = "the document has no apiVersion or no kind".to_owned();
        return Parsed::Nameless(malformed(file, piece.line, message));
    }
    let Some(document_kind) = DocumentKind::of(api_version, kind) else {
        return unknown_kind(file, piece);
    };
    match decode(piece, document_kind, converter) {
        Ok(Ok(converted)) => Parsed::Object(converted),
        Ok(Err(bad)) => Parsed::Nameless(RejectReason::BadName {
            file: file.clone(),
            line: piece.line,
            kind: kind.clone(),
            name: bad.0,
        }),
        Err(error) => {
            let reason = malformed(file, error.line, error.message);
            match name_of(piece, document_kind.kind()) {
                Some(object) => Parsed::Mistake(object, reason),
                None => Parsed::Nameless(reason),
            }
        }
    }
}

type Decoded = Result<Converted, NameError>;

fn decode(
    piece: &Piece<'_>,
    kind: DocumentKind,
    converter: &Converter,
) -> Result<Decoded, SplitError> {
    let text = piece.document();
    match piece.syntax {
        Syntax::Json => {
            let mut document = serde_json::Deserializer::from_str(&text);
            converter
                .decode(kind, &mut document)
                .map_err(|error| split::json_error(piece.line, &error))
        }
        Syntax::Yaml => converter
            .decode(kind, serde_yaml_ng::Deserializer::from_str(&text))
            .map_err(|error| split::yaml_error(piece.line, &error)),
    }
}

fn unknown_kind(file: &Arc<str>, piece: &Piece<'_>) -> Parsed {
    let Head { api_version, kind } = piece.head.clone();
    let object = name_of(piece, Kind::Other(kind.as_str().into()));
    let reason =
        RejectReason::UnknownKind { file: file.clone(), line: piece.line, api_version, kind };
    match object {
        Some(object) => Parsed::Mistake(object, reason),
        None => Parsed::Nameless(reason),
    }
}

#[derive(Deserialize)]
struct Named {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: Option<String>,
}

/// Names a document that its own decoder refused, if at least its metadata can be read.
fn name_of(piece: &Piece<'_>, kind: Kind) -> Option<ObjectRef> {
    let named: Named = match piece.syntax {
        Syntax::Json => serde_json::from_str(&piece.document()).ok()?,
        Syntax::Yaml => serde_yaml_ng::from_str(&piece.document()).ok()?,
    };
    let name = named.metadata.name;
    let name = if kind.is_cluster_scoped() {
        ObjectName::cluster(&name)
    } else {
        ObjectName::namespaced(named.metadata.namespace.as_deref().unwrap_or("default"), &name)
    };
    Some(ObjectRef::new(kind, name))
}

fn malformed(file: &Arc<str>, line: usize, message: String) -> RejectReason {
    RejectReason::Malformed { file: file.clone(), line, message }
}
