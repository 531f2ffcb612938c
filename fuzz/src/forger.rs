//! Whoever speaks TLS well, and shows a key that is not theirs, or none.

use std::sync::{Arc, LazyLock};

use p2p::{
    protocol::device::{DeviceSecret, public_key_info},
    transport::tls::Protocol,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureAlgorithm, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring::{default_provider, sign::any_eddsa_type},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::{
        ClientHello, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, Signer, SigningKey},
    version::TLS13,
};
use tokio::io::{DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    handshake::{ONE, PROTOCOLS, TWO, ours},
    network::{BUFFER, ends, runtime},
};

static SECRET: LazyLock<DeviceSecret> = LazyLock::new(|| DeviceSecret::from_seed([3; 32]));

const SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::ED448,
];

/// A handshake with somebody who has a key, and does something else than show it and sign with it. The bytes: which end we are (1),
/// whether a key is kept back (2), is given as a certificate (4), is another's (8), or is the rest of the bytes (16; otherwise the rest
/// are pairs of place and change in the true one); the scheme; the protocols offered; and where the signature is changed.
pub fn handshake_key(bytes: &[u8]) {
    let Some((&[flags, scheme, names, harm], rest)) = bytes.split_first_chunk() else { return };
    let forger = Forger::new(flags, scheme, harm, rest);
    let protocol = PROTOCOLS[usize::from(flags >> 5) % PROTOCOLS.len()];
    let (dials, offered) = (flags & 1 != 0, offered(names));
    let is_honest = forger.is_honest() && offered.iter().any(|name| name == protocol.alpn().as_bytes());
    let is_spoken = !dials || offered.iter().any(|name| name == protocol.alpn().as_bytes());
    let names: Vec<_> = PROTOCOLS.iter().map(|protocol| protocol.alpn().as_bytes().to_vec()).collect();
    let is_known = offered.iter().any(|name| names.contains(name));
    runtime().block_on(async {
        let (near, far) = duplex(BUFFER);
        tokio::spawn(forge(forger, !dials, far, offered));
        match ends(ours(dials, near, protocol)).await {
            Ok(link) => {
                assert_eq!(link.device(), SECRET.key(), "a key was taken for proven that was not");
                assert!(is_known && is_spoken);
                assert!(!dials || link.protocol() == protocol);
            }
            Err(error) => assert!(!is_honest, "{error}"),
        }
    });
}

fn offered(names: u8) -> Vec<Vec<u8>> {
    let known = PROTOCOLS.iter().map(|protocol: &Protocol| protocol.alpn().as_bytes());
    let all = known.chain([b"h2".as_slice(), b"p2p-peer/2"]);
    let mut offered: Vec<_> =
        all.enumerate().filter(|(bit, _)| names >> bit & 1 != 0).map(|(_, name)| name.to_vec()).collect();
    if names & 128 != 0 {
        offered.reverse();
    }
    offered
}

/// The other side of the handshake; it goes on until our side ends it.
async fn forge(forger: Forger, dials: bool, stream: DuplexStream, offered: Vec<Vec<u8>>) {
    let provider = Arc::new(default_provider());
    let forger = Arc::new(forger);
    if dials {
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]);
        let config = config.expect("it has TLS 1.3").dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
        let mut config = config.with_client_cert_resolver(forger);
        config.alpn_protocols = offered;
        let name = ServerName::try_from("nobody.invalid").expect("a name");
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        if connected.is_ok() {
            std::future::pending::<()>().await;
        }
    } else {
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]);
        let config = config.expect("it has TLS 1.3").with_client_cert_verifier(Arc::new(Anybody));
        let mut config = config.with_cert_resolver(forger);
        config.alpn_protocols = offered;
        let accepted = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
        if accepted.is_ok() {
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Clone, Debug)]
struct Forger {
    shown: Option<Vec<u8>>,
    is_raw: bool,
    scheme: SignatureScheme,
    harm: u8,
}

impl Forger {
    fn new(flags: u8, scheme: u8, harm: u8, rest: &[u8]) -> Self {
        let mut shown = match flags & (8 | 16) {
            0 => public_key_info(&SECRET.key()),
            8 => public_key_info(&(if flags & 1 != 0 { &TWO } else { &ONE }).device()),
            _ => rest.to_vec(),
        };
        if flags & 16 == 0 {
            for place_and_change in rest.chunks_exact(2) {
                let place = usize::from(place_and_change[0]) % shown.len();
                shown[place] ^= place_and_change[1];
            }
        }
        let scheme = SCHEMES[usize::from(scheme) % SCHEMES.len()];
        Self { shown: (flags & 2 == 0).then_some(shown), is_raw: flags & 4 == 0, scheme, harm }
    }

    /// Whether it does as it should after all.
    fn is_honest(&self) -> bool {
        let is_own = self.shown.as_ref() == Some(&public_key_info(&SECRET.key()));
        is_own && self.is_raw && self.scheme == SignatureScheme::ED25519 && self.harm == 0
    }

    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        let chain = vec![CertificateDer::from(self.shown.clone()?)];
        Some(Arc::new(CertifiedKey::new(chain, Arc::new(self.clone()))))
    }
}

impl ResolvesClientCert for Forger {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn only_raw_public_keys(&self) -> bool {
        self.is_raw
    }

    fn has_certs(&self) -> bool {
        self.shown.is_some()
    }
}

impl ResolvesServerCert for Forger {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn only_raw_public_keys(&self) -> bool {
        self.is_raw
    }
}

impl SigningKey for Forger {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(self.clone()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for Forger {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(SECRET.pkcs8()))?;
        let signer = key.choose_scheme(&[SignatureScheme::ED25519]).expect("an Ed25519 key signs so");
        let mut signature = signer.sign(message)?;
        match usize::from(self.harm) {
            0 => {}
            harm @ 1..=64 => signature[harm - 1] ^= 1,
            harm => signature.resize(harm - 65, 0),
        }
        Ok(signature)
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// Trusts everybody.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
