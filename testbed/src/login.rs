//! What it takes to log in at a NATS server: JWTs and certificates, and the settings that name them.

use rhio::config::{self, Tls};

pub use testkit::login::{Certificates, creds, operator_mode};

/// The settings of a client that trusts the CA, with its own certificate or without.
pub fn client_tls(certificates: &Certificates, with_certificate: bool) -> Tls {
    let (cert, key) = (certificates.file("client.pem"), certificates.file("client-key.pem"));
    let client = with_certificate.then_some(config::ClientCert { cert, key });
    Tls { ca: Some(certificates.file("ca.pem")), client }
}
