//! TLS 1.3 with raw Ed25519 public keys (RFC 7250) both ways: the device key is the identity, no certificate, no name.

use std::{fmt, io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, ConnectionCommon, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms,
        ring::{cipher_suite, default_provider, kx_group, sign::any_eddsa_type},
        verify_tls13_signature_with_raw_key,
    },
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::{
        AlwaysResolvesServerRawPublicKeys,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{Stream, link::LinkError, read_ahead::ReadAhead};
use crate::protocol::{
    device::{DeviceSecret, parse_public_key_info, public_key_info},
    ids::DeviceKey,
};

/// Bytes read from the socket at once. More would be out of the nearest caches before it is decrypted.
const READ_BUFFER: usize = 64 * 1024;
/// The same between client and tracker, where messages are small and a tracker has thousands of links that wait.
const SMALL_READ_BUFFER: usize = 16 * 1024;

/// Bytes of records that rustls holds before it writes them: several in one system call, and still in the nearest caches when
/// the system copies them. Try other sizes with `benches/link.rs`.
const WRITE_BUFFER: usize = 64 * 1024;

/// What is spoken on a link; chosen by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Client and tracker.
    Tracker,
    /// Tracker and tracker.
    Sync,
    /// Peer and peer.
    Peer,
    /// Blocks and nothing else, on a further stream of a link between peers.
    Blocks,
}

impl Protocol {
    const ALL: [Self; 4] = [Self::Tracker, Self::Sync, Self::Peer, Self::Blocks];

    /// The protocol's name in ALPN.
    pub fn alpn(self) -> &'static str {
        match self {
            Self::Tracker => "p2p-tracker/1",
            Self::Sync => "p2p-sync/1",
            Self::Peer => "p2p-peer/1",
            Self::Blocks => "p2p-blocks/1",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.alpn())
    }
}

/// This device on the network: its key, and how it dials and accepts with it. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    device: DeviceKey,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Identity {
    /// The identity that `secret` proves.
    pub fn new(secret: &DeviceSecret) -> Self {
        let provider = Arc::new(CryptoProvider {
            cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256],
            kx_groups: vec![kx_group::X25519],
            ..default_provider()
        });
        let signer = any_eddsa_type(&PrivatePkcs8KeyDer::from(secret.pkcs8())).expect("a device key is an Ed25519 key");
        let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(public_key_info(&secret.key()))], signer));
        let verifier = Arc::new(RawKeyVerifier(provider.signature_verification_algorithms));
        Self {
            device: secret.key(),
            client: Arc::new(client_config(provider.clone(), certified.clone(), verifier.clone())),
            server: Arc::new(server_config(provider, certified, verifier)),
        }
    }

    /// The public key.
    pub fn device(&self) -> DeviceKey {
        self.device
    }
}

fn client_config(
    provider: Arc<CryptoProvider>,
    certified: Arc<CertifiedKey>,
    verifier: Arc<RawKeyVerifier>,
) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider's suites are TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified)));
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    config
}

fn server_config(
    provider: Arc<CryptoProvider>,
    certified: Arc<CertifiedKey>,
    verifier: Arc<RawKeyVerifier>,
) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider's suites are TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)));
    config.alpn_protocols = Protocol::ALL.iter().map(|protocol| protocol.alpn().into()).collect();
    config.send_tls13_tickets = 0;
    config
}

/// A stream whose other end proved its key and agreed on a protocol. [`super::link`] speaks in frames on it.
pub struct Secured {
    /// The stream.
    pub stream: TlsStream<ReadAhead>,
    /// The key that the other end proved.
    pub device: DeviceKey,
    /// What is spoken.
    pub protocol: Protocol,
}

/// Speaks first on a stream that this side dialled.
pub async fn secure_dialled(
    stream: Box<dyn Stream>,
    identity: &Identity,
    protocol: Protocol,
) -> Result<Secured, LinkError> {
    let mut config = ClientConfig::clone(&identity.client);
    config.alpn_protocols = vec![protocol.alpn().into()];
    let name = ServerName::try_from("p2p.invalid").expect("a constant, valid name");
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, ReadAhead::new(stream)).await.map_err(handshake_error)?;
    let (device, agreed) = inspect(stream.get_mut().1)?;
    if agreed != protocol {
        return Err(LinkError::Protocol(format!("it speaks {agreed}, not {protocol}")));
    }
    read_ahead(stream.get_mut().0, protocol);
    Ok(Secured { stream: stream.into(), device, protocol })
}

/// Answers on a stream that the other side dialled.
pub async fn secure_accepted(stream: Box<dyn Stream>, identity: &Identity) -> Result<Secured, LinkError> {
    let acceptor = TlsAcceptor::from(identity.server.clone());
    let mut stream = acceptor.accept(ReadAhead::new(stream)).await.map_err(handshake_error)?;
    let (device, protocol) = inspect(stream.get_mut().1)?;
    read_ahead(stream.get_mut().0, protocol);
    Ok(Secured { stream: stream.into(), device, protocol })
}

/// How much is read at once, now that it is known what is spoken.
fn read_ahead(stream: &mut ReadAhead, protocol: Protocol) {
    match protocol {
        Protocol::Tracker => stream.resize(SMALL_READ_BUFFER, false),
        Protocol::Sync | Protocol::Peer | Protocol::Blocks => stream.resize(READ_BUFFER, true),
    }
}

/// Who the other end is and what it speaks, after the handshake.
fn inspect<Side>(connection: &mut ConnectionCommon<Side>) -> Result<(DeviceKey, Protocol), LinkError> {
    connection.set_buffer_limit(Some(WRITE_BUFFER));
    let key = connection.peer_certificates().and_then(|chain| parse_public_key_info(chain.first()?));
    let alpn = connection.alpn_protocol();
    let protocol = Protocol::ALL.into_iter().find(|protocol| Some(protocol.alpn().as_bytes()) == alpn);
    match (key, protocol) {
        (Some(key), Some(protocol)) => Ok((key, protocol)),
        (None, _) => Err(LinkError::Protocol("it showed no device key".into())),
        (_, None) => Err(LinkError::Protocol("it agreed on no protocol".into())),
    }
}

fn handshake_error(error: io::Error) -> LinkError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(inner) => LinkError::Protocol(inner.to_string()),
        None => LinkError::from(error),
    }
}

/// Lets every Ed25519 key in that signs the handshake. Whether it is the right one is for the caller of the link to say.
#[derive(Debug)]
struct RawKeyVerifier(WebPkiSupportedAlgorithms);

impl RawKeyVerifier {
    fn check_key(key: &CertificateDer<'_>) -> Result<(), Error> {
        parse_public_key_info(key).map(|_| ()).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
    }

    fn check_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(key.as_ref()), signed, &self.0)
    }

    fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".into()))
    }
}

impl ServerCertVerifier for RawKeyVerifier {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::check_key(key).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for RawKeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::check_key(key).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
