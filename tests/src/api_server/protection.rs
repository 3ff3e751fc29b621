// SPDX-License-Identifier: Apache-2.0
//! TLS: which certificate the server shows, and whose clients it believes. Who shows a certificate of
//! another authority is refused in the handshake, where kube-apiserver would answer 401.

use std::io;
use std::sync::Arc;

use anyhow::Result;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, crypto::ring};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::ApiServer;
use crate::certificate::{Authority, Identity};

/// A certificate that a client has shown, and that is good.
pub(super) type Certificate = Option<Arc<[u8]>>;

/// A connection, protected or not.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// How connections are protected.
#[derive(Clone)]
pub(super) struct Protection(Arc<ServerConfig>);

impl Protection {
    fn new(identity: &Identity, clients: &Authority) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(clients.der().clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(identity.chain(), identity.private_key()?)?;
        Ok(Self(Arc::new(config)))
    }

    /// Does the handshake.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(Box<dyn Connection>, Certificate)> {
        let stream = TlsAcceptor::from(self.0.clone()).accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.map(|certificate| Arc::from(&**certificate));
        Ok((Box::new(stream), certificate))
    }
}

/// TLS.
impl ApiServer {
    /// From the next connection on it speaks TLS with this certificate. A client's certificate by the
    /// authority is as good as the right token.
    pub fn present(&self, identity: &Identity, clients: &Authority) -> Result<()> {
        let protection = Protection::new(identity, clients)?;
        *self.shared.protection() = Some(protection);
        Ok(())
    }
}
