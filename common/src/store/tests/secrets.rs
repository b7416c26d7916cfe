use std::path::Path;
use std::process::Command;

use super::*;
use crate::store::{Reader, RedisSettings, StoreError};

fn openssl(dir: &Path, args: &str) {
    let output = Command::new("openssl").args(args.split(' ')).current_dir(dir).output();
    let output = output.expect("openssl is needed (Debian: apt-get install openssl)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A CA, and a certificate that it signed for 127.0.0.1.
fn certificates(dir: &Path) {
    std::fs::write(dir.join("san"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        .unwrap();
    let curve = "ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        dir,
        &format!("req -x509 -newkey {curve} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"),
    );
    openssl(dir, &format!("req -newkey {curve} -keyout key.pem -out csr.pem -subj /CN=redis"));
    openssl(
        dir,
        "x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out cert.pem",
    );
}

#[tokio::test]
async fn tls_passwords_and_databases_come_from_the_address() {
    let mut ca = None;
    let server = Server::start_with(|dir| {
        certificates(dir);
        let path = |name: &str| dir.join(name).display().to_string();
        ca = Some(dir.join("ca.pem"));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        std::fs::write(dir.join("tls-port"), port.to_string()).unwrap();
        let args = format!(
            "--tls-port {port} --tls-auth-clients no --tls-cert-file {} --tls-key-file {} \
             --tls-ca-cert-file {} --user yard on >s3cret/@: ~* &* +@all --user default off",
            path("cert.pem"),
            path("key.pem"),
            path("ca.pem"),
        );
        args.split(' ').map(str::to_owned).collect()
    });
    let ca = ca.unwrap();
    let port = std::fs::read_to_string(ca.with_file_name("tls-port")).unwrap();
    let address = |password: &str| format!("rediss://yard:{password}@127.0.0.1:{port}/3");
    let settings = RedisSettings { url: address("s3cret%2F%40%3A"), tls_ca: Some(ca.clone()) };
    let store = Store::connect(&settings, "other").await.unwrap();
    make(&store, change("a", Transition::Accept)).await;
    let reader = Reader::new(&settings, "other").unwrap();
    assert_eq!(reader.task(&id("a")).await.unwrap().unwrap().state(), Some(State::Delayed));

    let plain = format!("redis://yard:s3cret%2F%40%3A@127.0.0.1:{}/0", server.port());
    let elsewhere = Reader::new(&RedisSettings::new(&plain), "other").unwrap();
    assert_eq!(elsewhere.task(&id("a")).await.unwrap(), None, "it is in database 3");

    let wrong = RedisSettings { url: address("wrong"), tls_ca: Some(ca) };
    let error = Store::connect(&wrong, "other").await.err().unwrap();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    let untrusted = RedisSettings { url: address("s3cret%2F%40%3A"), tls_ca: None };
    let error = Store::connect(&untrusted, "other").await.err().unwrap();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
}
