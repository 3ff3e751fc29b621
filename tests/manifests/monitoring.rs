// SPDX-License-Identifier: Apache-2.0
//! Rules and dashboard: the two forms of the rules agree, and reasons and maps that they name exist.
//! Whether the agent exports each metric is asked of a running one (`netns`).

use std::collections::BTreeSet;
use std::fs;

use pintle_abi::drop_reason::DropReason;
use pintle_abi::map;
use pintle_tests::kustomize::{documents, manifests};
use pintle_tests::monitoring::{expressions, metrics};
use serde_json::Value;

fn read(name: &str) -> Value {
    let text = fs::read_to_string(manifests().join("monitoring").join(name)).expect("a file");
    documents(&text).expect("YAML").remove(0)
}

#[test]
fn the_operator_s_object_has_the_rules_of_the_file() {
    assert_eq!(read("prometheus-rule.yaml")["spec"], read("rules.yaml"));
}

#[test]
fn every_alert_says_what_it_is_about() {
    let rules = read("rules.yaml");
    let rules = rules["groups"][0]["rules"].as_array().expect("rules").clone();
    let mut names = BTreeSet::new();
    for rule in &rules {
        assert!(names.insert(rule["alert"].to_string()), "{} is there twice", rule["alert"]);
        assert!(
            rule["annotations"]["summary"].is_string() && rule["labels"]["severity"].is_string()
        );
    }
}

#[test]
fn reasons_and_maps_that_are_named_exist() {
    let expressions = expressions().expect("expressions");
    let named = |label: &str| -> BTreeSet<String> {
        let values = expressions.iter().flat_map(|text| values_of(text, label));
        values.flat_map(|value| value.split('|').map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let reasons = named("reason");
    assert!(reasons.contains("flow table full"), "{reasons:?}");
    for reason in reasons {
        assert!(DropReason::ALL.iter().any(|known| known.as_str() == reason), "{reason}");
    }
    for pattern in named("map") {
        // Patterns of ours have a wildcard at one end, or one choice in brackets.
        let word = pattern.trim_start_matches(".*").trim_end_matches(".*");
        let word = word.trim_start_matches('(').rsplit(')').next().unwrap_or_default();
        assert!(map::ALL.iter().any(|map| map.name.contains(word)), "{pattern}");
    }
}

/// What a label is compared with.
fn values_of<'a>(expression: &'a str, label: &str) -> Vec<&'a str> {
    let value = |rest: &'a str| {
        let rest = rest.trim_start_matches(['!', '=', '~']);
        rest.strip_prefix('"').and_then(|rest| rest.split('"').next())
    };
    let places = expression.match_indices(label);
    places.filter_map(|(at, _)| value(&expression[at + label.len()..])).collect()
}

#[test]
fn metrics_are_found_in_expressions() {
    let names = metrics().expect("metrics");
    for name in ["pintle_drops_total", "kubeproxy_network_programming_duration_seconds_bucket"] {
        assert!(names.contains(name), "{names:?}");
    }
}
