// SPDX-License-Identifier: Apache-2.0
//! A text of a document.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    ops::Deref,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// A text that borrows from the document, unless it stands there in another form (escapes).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Reading).map(Self)
    }
}

/// serde's own reading of a `Cow` always copies.
struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Text<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_text_is_copied_only_if_it_has_escapes() {
        assert!(matches!(read(r#""plain""#), Text(Cow::Borrowed("plain"))));
        assert!(matches!(read(r#""a\"b""#), Text(Cow::Owned(text)) if text == "a\"b"));
    }
}
