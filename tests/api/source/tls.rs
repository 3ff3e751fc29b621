// SPDX-License-Identifier: Apache-2.0
//! Over TLS: whom the source believes, and how it shows who it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pintle::model::name::Kind as ModelKind;
use pintle_tests::api_server::{ApiServer, Credentials, Embedding, Kind};
use pintle_tests::certificate::{Authority, Identity};

use super::{Listener, Scene, service};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// A token that no kubeconfig here has.
const NOBODY: &str = "nobody-has-this-token";

fn authority() -> Authority {
    Authority::new().expect("an authority")
}

/// A server at an address that shows this, and the kubeconfig with these credentials.
fn scene(address: IpAddr, shown: &Identity, credentials: &Credentials<'_>) -> Scene {
    let server = ApiServer::start_at(address).expect("an API server");
    server.present(shown, credentials.authority).expect("a certificate");
    let scene = Scene::of(server, |server, directory| {
        server.write_protected_kubeconfig(directory, credentials)
    });
    scene.put(&service("a", "10.96.0.1"));
    scene
}

fn with_token(authority: &Authority, embedding: Embedding) -> Credentials<'_> {
    Credentials { authority, client: None, embedding }
}

/// The state comes, and changes do.
fn is_followed(scene: &Scene, listener: &mut Listener) {
    listener.until(|known| known.is_synced && known.failing_watches().is_empty());
    assert_eq!(listener.known.names(&ModelKind::Service), ["shop/a"]);
    scene.put(&service("b", "10.96.0.2"));
    listener.until(|known| known.cluster_ip("shop/b") == "10.96.0.2");
}

/// Waits until all watches fail, and each says this.
#[track_caller]
fn all_fail(listener: &mut Listener, words: &str) {
    listener.until(|known| known.failing_watches().len() == Kind::ALL.len());
    assert!(!listener.known.is_synced);
    for reason in listener.known.rejected.values().flatten() {
        assert!(reason.contains(words), "{reason}");
    }
}

#[test]
fn a_server_is_believed_whose_certificate_the_authority_of_the_kubeconfig_has_signed() {
    for embedding in [Embedding::Files, Embedding::Data] {
        for address in [V4, V6] {
            let authority = authority();
            let shown = authority.server(address).expect("a certificate");
            let scene = scene(address, &shown, &with_token(&authority, embedding));
            is_followed(&scene, &mut scene.listen());
            assert!(scene.server.url().starts_with("https://"));
        }
    }
}

#[test]
fn a_server_with_a_certificate_by_another_authority_is_refused_until_it_shows_the_right_one() {
    let (right, wrong) = (authority(), authority());
    let shown = wrong.server(V4).expect("a certificate");
    let scene = scene(V4, &shown, &with_token(&right, Embedding::Data));
    let mut listener = scene.listen();
    all_fail(&mut listener, "invalid peer certificate: ");
    assert!(scene.server.requests().is_empty(), "nobody is asked, and no token is told");

    let shown = right.server(V4).expect("a certificate");
    scene.server.present(&shown, &right).expect("another certificate");
    is_followed(&scene, &mut listener);
}

#[test]
fn a_certificate_for_another_address_is_refused() {
    for (address, other) in [(V4, V6), (V6, V4)] {
        let authority = authority();
        let shown = authority.server(other).expect("a certificate");
        let scene = scene(address, &shown, &with_token(&authority, Embedding::Files));
        all_fail(&mut scene.listen(), "certificate not valid for name");
        assert!(scene.server.requests().is_empty());
    }
}

#[test]
fn a_certificate_of_ours_is_who_we_are() {
    for embedding in [Embedding::Files, Embedding::Data] {
        let authority = authority();
        let shown = authority.server(V4).expect("a certificate");
        let client = authority.client("system:kube-proxy").expect("a certificate");
        let credentials =
            Credentials { client: Some(&client), ..with_token(&authority, embedding) };
        let scene = scene(V4, &shown, &credentials);
        scene.server.accept_only(NOBODY);
        is_followed(&scene, &mut scene.listen());
        for request in scene.server.requests() {
            assert_eq!(request.certificate.as_deref(), Some(client.certificate_der()));
            assert_eq!(request.token, None);
        }
    }
}

#[test]
fn a_certificate_of_ours_that_the_server_does_not_know_is_refused_and_told() {
    let (known, unknown) = (authority(), authority());
    let shown = known.server(V4).expect("a certificate");
    let client = unknown.client("system:kube-proxy").expect("a certificate");
    let credentials = Credentials { client: Some(&client), ..with_token(&known, Embedding::Files) };
    let scene = scene(V4, &shown, &credentials);
    let mut listener = scene.listen();
    listener.until(|known| known.failing_watches().len() == Kind::ALL.len());
    assert!(!listener.known.is_synced && scene.server.requests().is_empty());
    for reason in listener.known.rejected.values().flatten() {
        assert!(reason.contains("received fatal alert"), "{reason}");
    }
}

#[test]
fn a_token_goes_over_tls_and_is_read_again_when_it_is_replaced() {
    let authority = authority();
    let shown = authority.server(V4).expect("a certificate");
    let scene = scene(V4, &shown, &with_token(&authority, Embedding::Files));
    scene.server.accept_only(NOBODY);
    let mut listener = scene.listen();
    all_fail(&mut listener, "the API server answers 401 Unauthorized");
    scene.server.write_token(scene.directory.path(), NOBODY).expect("a new token");
    is_followed(&scene, &mut listener);
    let requests = scene.server.requests();
    assert!(
        requests.iter().all(|request| request.token.is_some() && request.certificate.is_none())
    );
}

#[test]
fn a_watch_that_is_cut_goes_on_over_tls() {
    let authority = authority();
    let shown = authority.server(V4).expect("a certificate");
    let scene = scene(V4, &shown, &with_token(&authority, Embedding::Data));
    let mut listener = scene.synced();
    scene.server.go_away().expect("it goes away");
    scene.put(&service("b", "10.96.0.2"));
    listener.until(|known| known.failing_watches().len() == Kind::ALL.len());
    scene.server.come_back().expect("it comes back");
    listener.until(|known| {
        known.cluster_ip("shop/b") == "10.96.0.2" && known.failing_watches().is_empty()
    });
}
