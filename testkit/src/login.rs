//! What it takes to log in at a NATS server: JWTs and certificates.

use std::path::PathBuf;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose};

/// A JWT as NATS wants it: claims about `subject`, signed by `issuer`.
fn jwt(issuer: &KeyPair, subject: &str, name: &str, nats: &str) -> String {
    let header = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;
    let id = BASE32_NOPAD.encode(&[7; 32]);
    let issuer_key = issuer.public_key();
    let claims = format!(
        r#"{{"jti":"{id}","iat":1700000000,"iss":"{issuer_key}","name":"{name}","sub":"{subject}","nats":{nats}}}"#
    );
    let signed = format!("{}.{}", BASE64URL_NOPAD.encode(header.as_bytes()), BASE64URL_NOPAD.encode(claims.as_bytes()));
    let signature = issuer.sign(signed.as_bytes()).expect("it can be made");
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// A creds file for a user of an account.
pub fn creds(account: &KeyPair, user: &KeyPair) -> String {
    let limits = r#"{"pub":{},"sub":{},"subs":-1,"data":-1,"payload":-1,"type":"user","version":2}"#;
    let token = jwt(account, &user.public_key(), "me", limits);
    let seed = user.seed().expect("it can be made");
    format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

/// The server's side: an operator, and the accounts that it vouches for.
pub fn operator_mode(operator: &KeyPair, system: &KeyPair, account: &KeyPair) -> String {
    let limits = r#""subs":-1,"data":-1,"payload":-1,"imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1"#;
    let jetstream = r#","mem_storage":-1,"disk_storage":-1,"streams":-1,"consumer":-1"#;
    let entry = |key: &KeyPair, more: &str| {
        let claims = format!(r#"{{"limits":{{{limits}{more}}},"type":"account","version":2}}"#);
        format!("{}: \"{}\"", key.public_key(), jwt(operator, &key.public_key(), "a", &claims))
    };
    format!(
        "operator: \"{}\"\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n{}\n{}\n}}\n",
        jwt(operator, &operator.public_key(), "op", r#"{"type":"operator","version":2}"#),
        system.public_key(),
        entry(system, ""),
        entry(account, jetstream)
    )
}

/// A CA, and certificates that it signed, as files.
#[derive(Debug)]
pub struct Certificates {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

impl Certificates {
    /// New ones, which nothing else trusts: `ca`, `server` and `client`, for `localhost` and 127.0.0.1.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("it can be made");
        let path = folder.path().to_path_buf();
        let ca_key = rcgen::KeyPair::generate().expect("it can be made");
        let mut ca = CertificateParams::new(Vec::new()).expect("it can be made");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        std::fs::write(path.join("ca.pem"), ca.self_signed(&ca_key).expect("it can be made").pem())
            .expect("it can be made");
        let issuer = Issuer::new(ca, ca_key);
        for (name, usage) in
            [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
        {
            let key = rcgen::KeyPair::generate().expect("it can be made");
            let mut params =
                CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).expect("it can be made");
            params.extended_key_usages = vec![usage];
            let certificate = params.signed_by(&key, &issuer).expect("it can be made");
            std::fs::write(path.join(format!("{name}.pem")), certificate.pem()).expect("it can be made");
            std::fs::write(path.join(format!("{name}-key.pem")), key.serialize_pem()).expect("it can be made");
        }
        Self { _folder: folder, path }
    }

    /// One of `ca.pem`, `server.pem`, `server-key.pem`, `client.pem` and `client-key.pem`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The server's side, in its own configuration language.
    pub fn server_config(&self, verify: bool) -> String {
        let file = |name: &str| self.file(name).display().to_string();
        format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: {verify} }}\n",
            file("server.pem"),
            file("server-key.pem"),
            file("ca.pem")
        )
    }
}
