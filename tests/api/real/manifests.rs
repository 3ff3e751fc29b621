// SPDX-License-Identifier: Apache-2.0
//! A real server takes every object of the manifests, and knows each of their fields.

use pintle_tests::kustomize::{FOLDERS, build, manifests};
use pintle_tests::real_api_server::WatchCache;
use serde_json::json;

use super::real;

/// A kind of the Prometheus operator, which a cluster without it does not know.
const PROMETHEUS_RULE: &str = "PrometheusRule";

#[test]
fn every_object_of_the_manifests_is_accepted() {
    let Some(real) = real(WatchCache::On) else { return };
    for folder in FOLDERS {
        for object in build(&manifests().join(folder)).expect("it builds") {
            if object["kind"] == PROMETHEUS_RULE {
                continue;
            }
            let answer = real.server.try_out(&object).expect("an answer");
            let made = answer.granted().unwrap_or_else(|error| panic!("{folder}: {error:#}"));
            assert_eq!(made["metadata"]["name"], object["metadata"]["name"], "{folder}");
        }
    }
}

#[test]
fn an_object_with_a_field_that_nobody_knows_is_not() {
    let Some(real) = real(WatchCache::On) else { return };
    let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "dta": {},
        "metadata": { "name": "a", "namespace": "kube-system" } });
    assert_eq!(real.server.try_out(&object).expect("an answer").code, 400);
}
