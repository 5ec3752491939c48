//! What a connection logs in with: credentials, and certificates. Files are read anew for every connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use super::encode::Login;
use crate::settings::{ClientCert, Credentials, Tls};
use rhio_core::secret::Secret;

/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Why there is nothing to log in with. Never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuthError {
    /// A file that the settings name is of no use.
    #[error("{key}: {} {reason}", .path.display())]
    File {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The nkey of the settings is none.
    #[error("nats.credentials.nkey: holds an nkey seed that is none")]
    Nkey,
    /// The system's CAs can't be had.
    #[error("the system's CAs cannot be read: {0}")]
    SystemCas(String),
    /// The TLS library takes no such settings.
    #[error("TLS is not possible with these settings: {0}")]
    Tls(String),
}

/// What to log in with at a server that gave this nonce to sign.
///
/// # Errors
/// When a file is of no use, or a key is none.
pub async fn login(credentials: Option<&Credentials>, nonce: Option<&str>) -> Result<Login, AuthError> {
    Ok(match credentials {
        None => Login::default(),
        Some(Credentials::UserPassword { username, password }) => {
            Login { user: Some(username.clone()), pass: Some(password.clone()), ..Login::default() }
        }
        Some(Credentials::Token(token)) => Login { auth_token: Some(token.clone()), ..Login::default() },
        Some(Credentials::Nkey(seed)) => {
            let key = nkeys::KeyPair::from_seed(seed.expose().trim()).map_err(|_| AuthError::Nkey)?;
            Login { nkey: Some(key.public_key()), sig: sign(&key, nonce), ..Login::default() }
        }
        Some(Credentials::CredsFile(path)) => {
            let creds = read_creds(path).await?;
            Login { jwt: Some(Secret::new(creds.jwt)), sig: sign(&creds.key, nonce), ..Login::default() }
        }
    })
}

/// A server that wants no signature gives no nonce.
fn sign(key: &nkeys::KeyPair, nonce: Option<&str>) -> Option<Secret> {
    // Both seeds of ours hold a private key, without which signing would fail.
    let signature = key.sign(nonce?.as_bytes()).ok()?;
    Some(Secret::new(BASE64URL_NOPAD.encode(&signature)))
}

/// A user's JWT and its nkey.
struct Creds {
    jwt: String,
    key: nkeys::KeyPair,
}

async fn read_creds(path: &Path) -> Result<Creds, AuthError> {
    const KEY: &str = "nats.credentials.creds_file";
    let failed = |reason: &str| AuthError::File { key: KEY, path: path.into(), reason: reason.into() };
    let bytes = read(KEY, path).await?;
    let text = std::str::from_utf8(&bytes).map_err(|_| failed("is no text"))?;
    let jwt = section(text, "NATS USER JWT").ok_or_else(|| failed("holds no user JWT"))?;
    let seed = section(text, "USER NKEY SEED").ok_or_else(|| failed("holds no user nkey seed"))?;
    let key = nkeys::KeyPair::from_seed(seed).map_err(|_| failed("holds an nkey seed that is none"))?;
    Ok(Creds { jwt: jwt.to_owned(), key })
}

/// The line between `-----BEGIN name-----` and `------END name------`.
pub(crate) fn section<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let is_fence = |line: &str, word: &str| line.trim_matches('-').strip_prefix(word).map(str::trim) == Some(name);
    let mut lines = text.lines().map(str::trim).skip_while(|line| !is_fence(line, "BEGIN")).skip(1);
    let content = lines.find(|line| !line.is_empty())?;
    (!content.starts_with('-')).then_some(content)
}

/// What TLS is made with.
///
/// # Errors
/// When a file is of no use, or the system has no CAs that could be asked.
pub async fn tls(tls: Option<&Tls>) -> Result<Arc<ClientConfig>, AuthError> {
    let failed = |error: rustls::Error| AuthError::Tls(error.to_string());
    let roots = match tls.and_then(|tls| tls.ca.as_deref()) {
        Some(path) => own_roots(path).await?,
        None => system_roots().await?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(failed)?.with_root_certificates(roots);
    Ok(Arc::new(match tls.and_then(|tls| tls.client.as_ref()) {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let (chain, key) = client_certificate(client).await?;
            builder.with_client_auth_cert(chain, key).map_err(failed)?
        }
    }))
}

async fn own_roots(path: &Path) -> Result<RootCertStore, AuthError> {
    const KEY: &str = "nats.tls.ca";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(KEY, path).await? {
        let unusable = |error| AuthError::File {
            key: KEY,
            path: path.into(),
            reason: format!("holds a certificate that can't be used: {error}"),
        };
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(roots)
}

async fn system_roots() -> Result<RootCertStore, AuthError> {
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
    let found = found.await.map_err(|error| AuthError::SystemCas(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    match found.errors.first() {
        Some(error) if roots.is_empty() => Err(AuthError::SystemCas(error.to_string())),
        _ => Ok(roots),
    }
}

async fn client_certificate(
    client: &ClientCert,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), AuthError> {
    const KEY: &str = "nats.tls.key";
    let chain = certificates("nats.tls.cert", &client.cert).await?;
    let bytes = read(KEY, &client.key).await?;
    let none =
        |_| AuthError::File { key: KEY, path: client.key.clone(), reason: "holds no private key in PEM format".into() };
    Ok((chain, PrivateKeyDer::from_pem_slice(&bytes).map_err(none)?))
}

/// All certificates of a file: at least one.
async fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthError> {
    let bytes = read(key, path).await?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let failed = |reason: String| AuthError::File { key, path: path.into(), reason };
    match found {
        Ok(found) if found.is_empty() => Err(failed("holds no certificate in PEM format".into())),
        Ok(found) => Ok(found),
        Err(error) => Err(failed(format!("holds a certificate that can't be read: {error}"))),
    }
}

async fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, AuthError> {
    let failed = |reason: String| AuthError::File { key, path: path.into(), reason };
    let unreadable = |error: std::io::Error| failed(format!("cannot be read: {error}"));
    let len = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
    if len > MAX_FILE {
        return Err(failed(format!("is of {len} bytes, which is too much")));
    }
    tokio::fs::read(path).await.map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_creds_file_gives_its_two_lines() {
        let text = "-----BEGIN NATS USER JWT-----\nabc.def\n------END NATS USER JWT------\n\n*** IMPORTANT ***\n\n\
                    -----BEGIN USER NKEY SEED-----\r\n  SUXYZ\r\n------END USER NKEY SEED------\n";
        assert_eq!(section(text, "NATS USER JWT"), Some("abc.def"));
        assert_eq!(section(text, "USER NKEY SEED"), Some("SUXYZ"));
        assert_eq!(section("-----BEGIN X-----\n------END X------\n", "X"), None);
        assert_eq!(section("", "X"), None);
    }

    #[tokio::test]
    async fn a_nonce_is_signed_when_there_is_one() {
        let key = nkeys::KeyPair::new_user();
        let credentials = Credentials::Nkey(Secret::new(key.seed().unwrap()));
        let signed = login(Some(&credentials), Some("nonce")).await.unwrap();
        let signature = BASE64URL_NOPAD.decode(signed.sig.unwrap().expose().as_bytes()).unwrap();
        key.verify(b"nonce", &signature).unwrap();
        assert_eq!(signed.nkey, Some(key.public_key()));
        assert_eq!(login(Some(&credentials), None).await.unwrap().sig, None);
        let broken = Credentials::Nkey(Secret::new("SUABC"));
        assert_eq!(login(Some(&broken), None).await, Err(AuthError::Nkey));
    }
}
