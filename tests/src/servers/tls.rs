//! A certificate authority for one run, and a certificate for the loopback interface.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

/// Extensions without which strict clients (rustls) refuse a certificate.
const SERVER_EXTENSIONS: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1\n\
    basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n";

/// Files in PEM.
#[derive(Debug)]
pub(super) struct Certificates {
    pub(super) ca: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Certificates {
    /// Makes them with the `openssl` program.
    pub(super) fn make(folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join("tls");
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("server.ext"), SERVER_EXTENSIONS)?;
        let steps = [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
             -subj /CN=taskyard-test-authority -keyout ca.key -out ca.pem",
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
             -subj /CN=localhost -keyout server.key -out server.csr",
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -extfile server.ext -out server.pem",
        ];
        for step in steps {
            let output = Command::new("openssl")
                .args(step.split_whitespace())
                .current_dir(&folder)
                .stdin(Stdio::null())
                .output()
                .context("the program openssl is missing")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "openssl {step}: {said}");
        }
        Ok(Self {
            ca: folder.join("ca.pem"),
            certificate: folder.join("server.pem"),
            key: folder.join("server.key"),
        })
    }
}
