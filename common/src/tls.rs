//! The one TLS provider for AMQP and Redis.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write;

/// Makes ring the process's TLS provider, for `amqps://` and `rediss://` alike.
///
/// Both clients take rustls' default provider, and rustls refuses to choose where two are compiled
/// in. May be called any number of times; a provider that somebody installed before stays.
pub fn install_crypto_provider() {
    // An error only says that there is a provider already, which is all that we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The certificates that the system trusts, as PEM: for a client that takes those of a file instead
/// of them. What rustls cannot use is left out, as it leaves it out itself.
#[must_use]
pub fn system_certificates() -> String {
    let mut text = String::from("\n");
    for certificate in rustls_native_certs::load_native_certs().certs {
        let body = STANDARD.encode(&certificate);
        if rustls::RootCertStore::empty().add(certificate).is_ok() {
            let _ =
                writeln!(text, "-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn what_the_system_trusts_can_be_read_back() {
        let known = rustls_native_certs::load_native_certs().certs.len();
        let text = system_certificates();
        let read: Vec<CertificateDer<'_>> =
            CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().unwrap();
        assert_eq!(read.len(), text.matches("BEGIN").count());
        assert!(
            read.len() <= known && (known == 0 || !read.is_empty()),
            "{} of {known}",
            read.len()
        );
    }
}
