//! Asking a program of ours whether it is of use, as health checks of containers do: the images have
//! no HTTP client.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// For each of connecting, asking and answering.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than any answer has.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Asks `/readyz` of the program that serves at `address`, prints its answer, and makes an exit code
/// of it: 0 if it is ready, 1 if not or if nobody answers.
#[must_use]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what was asked for")]
pub fn probe(address: SocketAddr) -> ExitCode {
    match ask(reachable(address)) {
        Ok((true, answer)) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Ok((false, answer)) => {
            eprintln!("{answer}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("nobody answers at {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether it is ready, and what it says.
fn ask(address: SocketAddr) -> std::io::Result<(bool, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // 1.0: the end of the connection is the end of the answer. In one write: `write!` makes several,
    // and who answers on the first and closes breaks the second.
    let request = format!("GET /readyz HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let is_ready = head.split(' ').nth(1) == Some("200");
    Ok((is_ready, body.trim().to_owned()))
}

/// Who listens on all addresses is asked on the loopback one.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /readyz "));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn only_200_is_ready() {
        let ready = answering("HTTP/1.0 200 OK\r\n\r\nleading\n");
        assert_eq!(ask(ready).unwrap(), (true, "leading".to_owned()));
        let unready = answering("HTTP/1.0 503 Service Unavailable\r\n\r\nno session\n");
        assert_eq!(ask(unready).unwrap(), (false, "no session".to_owned()));
    }

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        let asked = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:9477"), "127.0.0.1:9477");
        assert_eq!(asked("[::]:9477"), "[::1]:9477");
        assert_eq!(asked("10.1.2.3:9477"), "10.1.2.3:9477");
    }
}
