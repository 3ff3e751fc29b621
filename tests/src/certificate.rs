// SPDX-License-Identifier: Apache-2.0
//! Certificates of a test: an authority that is made on the spot, and what it signs. All of them are
//! valid at any time that a clock may show.

use std::net::IpAddr;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An authority. Two of the same name sign with keys of their own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    /// Makes an authority.
    pub fn new() -> Result<Self> {
        let mut params = named("kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its certificate, as files hold it.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        self.0.der()
    }

    /// An identity for a server at one address, and at no other.
    pub fn server(&self, address: IpAddr) -> Result<Identity> {
        let mut params = named("kube-apiserver");
        params.subject_alt_names = vec![SanType::IpAddress(address)];
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// An identity for a client.
    pub fn client(&self, name: &str) -> Result<Identity> {
        self.sign(named(name), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity> {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        Ok(Identity { certificate: params.signed_by(&key, &self.0)?, key })
    }
}

impl Identity {
    /// The certificate, as files hold it.
    pub fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    /// The key, as files hold it.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The certificate, as it is shown to the other side.
    pub fn certificate_der(&self) -> &[u8] {
        self.certificate.der()
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::try_from(self.key.serialize_der()).map_err(anyhow::Error::msg)
    }
}

/// Valid from 1975 to 4096, which the library takes unless it is told otherwise.
fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
