// SPDX-License-Identifier: Apache-2.0
//! Where documents and items are cut, and at which line they are said to be.

use super::*;

/// `line kind first-word` of each piece, or `line message`.
fn cut(text: &str, syntax: Syntax) -> Vec<String> {
    let line = |piece: Result<Piece<'_>, SplitError>| match piece {
        Ok(piece) => {
            #[derive(Deserialize)]
            struct Named {
                #[serde(default)]
                name: String,
            }
            let named: Named = match piece.syntax {
                Syntax::Json => serde_json::from_str(&piece.document()).unwrap(),
                Syntax::Yaml => serde_yaml_ng::from_str(&piece.document()).unwrap(),
            };
            format!("{} {} {} {}", piece.line, piece.head.api_version, piece.head.kind, named.name)
        }
        Err(error) => format!("{} {}", error.line, error.message),
    };
    pieces(text, syntax).into_iter().map(line).collect()
}

#[test]
fn yaml_documents_end_at_their_markers() {
    for (text, expected) in [
        ("", &[][..]),
        ("# nothing\n---\n# here\n", &[]),
        ("%YAML 1.1\n---\nkind: A\napiVersion: v1\nname: a\n", &["2 v1 A a"]),
        ("apiVersion: v1\nkind: A\nname: a", &["1 v1 A a"]),
        ("\u{feff}kind: 'A' # comment\napiVersion: \"v1\"\nname: a\n", &["1 v1 A a"]),
        (
            "---\nkind: A\napiVersion: v1\nname: a\n--- # two\nkind: B\napiVersion: v1\nname: b\n\
             ...\n---\n",
            &["1 v1 A a", "5 v1 B b"],
        ),
        (
            "kind: A\r\napiVersion: v1\r\nname: a\r\n---\r\nkind: B\r\napiVersion: v1\r\n",
            &["1 v1 A a", "4 v1 B "],
        ),
        // Not markers: not at the start of a line, or more than a marker.
        ("kind: A\napiVersion: v1\nname: a---b\n", &["1 v1 A a---b"]),
        ("kind: A\napiVersion: v1\nname: |-\n ---\n", &["1 v1 A ---"]),
        ("kind: A\napiVersion: v1\n---name: x\n", &["1 v1 A "]),
        // The kind of something inside is not the kind of the document.
        ("apiVersion: v1\nspec:\n  kind: B\nkind: A\nname: a\n", &["1 v1 A a"]),
        ("apiVersion: v1\n? kind\n: A\n", &["1 v1 A "]),
        ("--- {apiVersion: v1, kind: A, name: a}\n", &["1 v1 A a"]),
    ] {
        assert_eq!(cut(text, Syntax::Yaml), expected, "{text:?}");
    }
}

#[test]
fn lists_are_replaced_by_their_items() {
    let items = ["3 v1 A a", "7 v1 B b"];
    for text in [
        "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: A\n  name: a\n  x: [1]\n\
         - apiVersion: v1\n  kind: B\n  name: b\nkind: List\nmetadata: {}\n",
        "kind: List\n\
         items:\n  - kind: A\n    apiVersion: v1\n    name: a\n    x:\n  -\n    kind: B\n    \
         apiVersion: v1\n    name: b\napiVersion: v1\n",
        // Dashes deeper or in text are no items.
        "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: A\n  name: a\n  x: [1, 2]\n\
         - x:\n  - 1\n  - kind: C\n  y: |\n    - z\n  apiVersion: v1\n  kind: B\n  name: b\n\
         kind: List",
    ] {
        assert_eq!(cut(text, Syntax::Yaml), items, "{text}");
    }
    let empty: [&str; 0] = [];
    assert_eq!(cut("apiVersion: v1\nitems: []\nkind: List\n", Syntax::Yaml), empty);
    assert_eq!(
        cut(
            "kind: List\napiVersion: v1\nitems: [{kind: A, apiVersion: v1, name: a}]\n",
            Syntax::Yaml
        ),
        ["1 v1 A a"]
    );
    // The items of a typed list need not say what they are.
    assert_eq!(
        cut("kind: ServiceList\napiVersion: v1\nitems:\n- name: a\n", Syntax::Yaml),
        ["4 v1 Service a"]
    );
}

#[test]
fn json_documents_and_lists_are_cut_too() {
    let object = r#"{"kind":"A","apiVersion":"v1","name":"a \"[{,"}"#;
    let name = r#"v1 A a "[{,"#;
    assert_eq!(cut(object, Syntax::Json), [format!("1 {name}")]);
    assert_eq!(cut(&format!("{object}\n{object}\n"), Syntax::Json).len(), 2);
    let list = format!(
        "{{\"apiVersion\":\"v1\",\n\"x\":[\"items\",{{\"items\":[1]}}],\"items\":[\n\
         {object},\n {object} ],\n\"kind\":\"List\"}}"
    );
    let expected = [format!("3 {name}"), format!("4 {name}")];
    assert_eq!(cut(&list, Syntax::Json), expected);
    // JSON is YAML, and recognised in a file of that name.
    assert_eq!(cut(&list, Syntax::Yaml), expected);
    assert_eq!(cut("{kind: A, apiVersion: v1}", Syntax::Yaml), ["1 v1 A "]);
    let empty: [&str; 0] = [];
    assert_eq!(cut(r#"{"kind":"List","apiVersion":"v1","items":[]}"#, Syntax::Json), empty);
}

#[test]
fn errors_name_their_line() {
    for (text, syntax, line) in [
        ("{\n\"kind\":\n}", Syntax::Json, 3),
        ("{\"kind\":\"A\"", Syntax::Json, 1),
        ("[1]", Syntax::Json, 1),
        ("kind: A\napiVersion: v1\n---\nfoo: [\nbar\n", Syntax::Yaml, 6),
        ("just text\n", Syntax::Yaml, 1),
    ] {
        let found = pieces(text, syntax);
        let lines: Vec<usize> =
            found.iter().filter_map(|p| p.as_ref().err()).map(|e| e.line).collect();
        assert_eq!(lines, [line], "{text}");
    }
}
