//! The one TLS provider for AMQP and Redis.

/// Makes ring the process's TLS provider, for `amqps://` and `rediss://` alike.
///
/// Both clients take rustls' default provider, and rustls refuses to choose where two are compiled
/// in. May be called any number of times; a provider that somebody installed before stays.
pub fn install_crypto_provider() {
    // An error only says that there is a provider already, which is all that we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
