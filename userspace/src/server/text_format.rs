// SPDX-License-Identifier: Apache-2.0
//! OpenMetrics text → Prometheus' own text format 0.0.4, for scrapers that do not ask for the first.
//!
//! They differ in little: 0.0.4 describes a counter under its whole name, `_total` included, and
//! knows neither units nor an end mark.

use std::borrow::Cow;

/// Translates a whole exposition.
pub fn prometheus(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help: Option<(&str, &str)> = None;
    for line in openmetrics.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            text.extend([line, "\n"]);
            continue;
        };
        if let Some(words) = comment.strip_prefix("HELP ") {
            // Its name depends on the type, which comes next.
            help = words.split_once(' ');
        } else if let Some((name, kind)) = comment.strip_prefix("TYPE ").and_then(split) {
            let whole: Cow<'_, str> = match kind {
                "counter" => format!("{name}_total").into(),
                _ => name.into(),
            };
            if let Some((_, words)) = help.take().filter(|(of, _)| *of == name) {
                text.extend(["# HELP ", &whole, " ", words, "\n"]);
            }
            // 0.0.4 has no such type.
            let kind = if kind == "unknown" { "untyped" } else { kind };
            text.extend(["# TYPE ", &whole, " ", kind, "\n"]);
        }
    }
    text
}

fn split(words: &str) -> Option<(&str, &str)> {
    words.split_once(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_described_under_its_whole_name() {
        let openmetrics = "# HELP a_things Things counted.\n# TYPE a_things counter\n\
                           a_things_total{x=\"1\"} 1\n\
                           # HELP b Now.\n# TYPE b gauge\n# UNIT b seconds\nb 2\n# EOF\n";
        let expected = "# HELP a_things_total Things counted.\n# TYPE a_things_total counter\n\
                        a_things_total{x=\"1\"} 1\n\
                        # HELP b Now.\n# TYPE b gauge\nb 2\n";
        assert_eq!(prometheus(openmetrics), expected);
    }
}
