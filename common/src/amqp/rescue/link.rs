use super::super::AmqpSettings;
use super::RescueError;
use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, ProtocolVersion, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, connection};
use amq_protocol::types::FieldTable;
use amq_protocol::types::parsing::parse_field_table;
use amq_protocol::uri::{AMQPScheme, AMQPUri};
use bytes::{Buf, Bytes, BytesMut};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The one channel.
const CHANNEL: u16 = 1;
/// Frame type, channel and length; and the octet behind the payload.
const FRAME_HEAD: usize = 7;
const FRAME_END: usize = 1;
/// Larger frames than the broker's default of 128 KiB are not asked for.
const FRAME_MAX: u32 = 131_072;
/// Longest wait for one frame, as for any answer of the broker.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A frame of our channel, as bytes; whether lapin could read it is known before anybody tries.
pub(super) enum Frame {
    /// A method: its class, its number, and the bytes behind them.
    Method { class: u16, method: u16, arguments: Bytes, is_readable: bool },
    /// The properties of a message.
    Header { payload: Bytes, is_readable: bool },
    /// A part of a message's body.
    Body(Bytes),
}

/// A connection with one channel that takes every frame for bytes first.
pub(in super::super) struct Link {
    stream: Box<dyn Stream>,
    received: BytesMut,
    to_send: Vec<u8>,
    frame_max: usize,
    server: FieldTable,
}

impl Link {
    /// Connects and says hello; no heartbeats: every wait has a limit here.
    pub(super) async fn open(uri: &AMQPUri, settings: &AmqpSettings) -> Result<Self, RescueError> {
        let (host, port) = (uri.authority.host.as_str(), uri.authority.port);
        let tcp = within(TcpStream::connect((host, port))).await?;
        let stream: Box<dyn Stream> = match uri.scheme {
            AMQPScheme::AMQP => Box::new(tcp),
            AMQPScheme::AMQPS => {
                let name = ServerName::try_from(host.to_owned())
                    .map_err(|error| RescueError::Refused(error.to_string()))?;
                Box::new(within(tls(settings)?.connect(name, tcp)).await?)
            }
        };
        let (received, to_send) = (BytesMut::new(), Vec::new());
        let server = FieldTable::default();
        let mut link = Self { stream, received, to_send, frame_max: 4096, server };
        link.hello(uri).await?;
        Ok(link)
    }

    async fn hello(&mut self, uri: &AMQPUri) -> Result<(), RescueError> {
        use connection::AMQPMethod as Method;
        let user = &uri.authority.userinfo;
        let mut client_properties = FieldTable::default();
        let name = amq_protocol::types::AMQPValue::LongString("taskyard-dispatcher rescue".into());
        client_properties.insert("connection_name".into(), name);
        self.put(&AMQPFrame::ProtocolHeader(ProtocolVersion::amqp_0_9_1()))?;
        let start = self.expect("connection.start", 0, (10, 10)).await?;
        // Behind the protocol's version.
        let table = start.get(2..).unwrap_or_default();
        (_, self.server) = parse_field_table(table).map_err(|_| RescueError::Broken)?;
        let start_ok = connection::StartOk {
            client_properties,
            mechanism: "PLAIN".into(),
            response: format!("\0{}\0{}", user.username, user.password).as_str().into(),
            locale: "en_US".into(),
        };
        self.put_method(0, AMQPClass::Connection(Method::StartOk(start_ok)))?;
        let mut tune = self.expect("connection.tune", 0, (10, 30)).await?;
        if tune.len() < 6 {
            return Err(RescueError::Broken);
        }
        tune.advance(2);
        let frame_max = match tune.get_u32() {
            0 => FRAME_MAX,
            offered => offered.min(FRAME_MAX),
        };
        self.frame_max = frame_max as usize;
        let tune_ok = connection::TuneOk { channel_max: 1, frame_max, heartbeat: 0 };
        self.put_method(0, AMQPClass::Connection(Method::TuneOk(tune_ok)))?;
        let virtual_host = uri.vhost.as_str().into();
        self.put_method(0, AMQPClass::Connection(Method::Open(connection::Open { virtual_host })))?;
        self.expect("connection.open-ok", 0, (10, 41)).await.map(drop)
    }

    /// What the broker said of itself.
    pub(in super::super) fn server(&self) -> &FieldTable {
        &self.server
    }

    /// Says goodbye.
    pub(in super::super) async fn close(mut self) -> Result<(), RescueError> {
        let reply_text = "done".into();
        let close = connection::Close { reply_code: 200, reply_text, class_id: 0, method_id: 0 };
        self.put_method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))?;
        self.expect("connection.close-ok", 0, (10, 51)).await.map(drop)
    }

    /// Opens the channel, with confirms.
    pub(super) async fn open_channel(&mut self) -> Result<(), RescueError> {
        use amq_protocol::protocol::confirm;
        let open = channel::AMQPMethod::Open(channel::Open {});
        self.put_method(CHANNEL, AMQPClass::Channel(open))?;
        self.expect("channel.open-ok", CHANNEL, (20, 11)).await?;
        let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
        self.put_method(CHANNEL, AMQPClass::Confirm(select))?;
        self.expect("confirm.select-ok", CHANNEL, (85, 11)).await.map(drop)
    }

    /// Closes the channel: what is not acked goes back to its place.
    pub(super) async fn close_channel(&mut self) -> Result<(), RescueError> {
        let reply_text = "done".into();
        let close = channel::Close { reply_code: 200, reply_text, class_id: 0, method_id: 0 };
        self.put_method(CHANNEL, AMQPClass::Channel(channel::AMQPMethod::Close(close)))?;
        self.expect("channel.close-ok", CHANNEL, (20, 41)).await.map(drop)
    }

    /// Queues a method of the channel; it leaves before the next wait.
    pub(super) fn ask(&mut self, method: basic::AMQPMethod) -> Result<(), RescueError> {
        self.put_method(CHANNEL, AMQPClass::Basic(method))
    }

    /// Queues a message for a queue.
    pub(super) fn publish(
        &mut self,
        queue: &str,
        properties: basic::AMQPProperties,
        body: &[u8],
    ) -> Result<(), RescueError> {
        let publish = basic::Publish {
            exchange: "".into(),
            routing_key: queue.into(),
            mandatory: true,
            immediate: false,
        };
        self.ask(basic::AMQPMethod::Publish(publish))?;
        let body_size = body.len() as u64;
        let header = AMQPContentHeader { class_id: 60, body_size, properties };
        self.put(&AMQPFrame::Header(CHANNEL, header))?;
        for part in body.chunks(self.frame_max - FRAME_HEAD - FRAME_END) {
            self.put(&AMQPFrame::Body(CHANNEL, part.to_vec()))?;
        }
        Ok(())
    }

    /// The next frame of the channel; an error is what ends the connection or the channel.
    pub(super) async fn receive(&mut self) -> Result<Frame, RescueError> {
        self.receive_on(CHANNEL).await
    }

    async fn receive_on(&mut self, wanted: u16) -> Result<Frame, RescueError> {
        self.flush().await?;
        loop {
            let whole = self.frame().await?;
            let is_readable = || parse_frame(&whole[..]).is_ok();
            let mut payload = whole.slice(FRAME_HEAD..whole.len() - FRAME_END);
            let channel = u16::from_be_bytes([whole[1], whole[2]]);
            let frame = match whole[0] {
                1 if payload.len() >= 4 => {
                    let (class, method) = (payload.get_u16(), payload.get_u16());
                    let is_readable = is_readable();
                    Frame::Method { class, method, arguments: payload, is_readable }
                }
                2 => Frame::Header { is_readable: is_readable(), payload },
                3 => Frame::Body(payload),
                8 => continue,
                _ => return Err(RescueError::Broken),
            };
            if let Frame::Method { class: 10, method: 50, arguments, .. }
            | Frame::Method { class: 20, method: 40, arguments, .. } = &frame
            {
                let text = arguments.get(3..).unwrap_or_default();
                return Err(RescueError::Refused(String::from_utf8_lossy(text).into_owned()));
            }
            if channel == wanted {
                return Ok(frame);
            }
        }
    }

    async fn expect(
        &mut self,
        what: &'static str,
        on: u16,
        (class, method): (u16, u16),
    ) -> Result<Bytes, RescueError> {
        loop {
            match self.receive_on(on).await? {
                Frame::Method { class: c, method: m, arguments, .. }
                    if (c, m) == (class, method) =>
                {
                    return Ok(arguments);
                }
                // What is still on its way when the channel closes.
                _ if (class, method) == (20, 41) => {}
                _ => return Err(RescueError::Unexpected(what)),
            }
        }
    }

    /// One whole frame.
    async fn frame(&mut self) -> Result<Bytes, RescueError> {
        loop {
            let length = self.received.get(3..FRAME_HEAD).and_then(|bytes| bytes.try_into().ok());
            if let Some(length) = length.map(u32::from_be_bytes) {
                let whole = FRAME_HEAD + length as usize + FRAME_END;
                if length > FRAME_MAX {
                    return Err(RescueError::Broken);
                }
                if self.received.len() >= whole {
                    return Ok(self.received.split_to(whole).freeze());
                }
            }
            if within(self.stream.read_buf(&mut self.received)).await? == 0 {
                return Err(RescueError::Closed);
            }
        }
    }

    fn put_method(&mut self, on: u16, method: AMQPClass) -> Result<(), RescueError> {
        self.put(&AMQPFrame::Method(on, method))
    }

    fn put(&mut self, frame: &AMQPFrame) -> Result<(), RescueError> {
        let written = gen_frame(frame)(Vec::new().into()).map_err(|_| RescueError::Broken)?;
        self.to_send.extend(written.into_inner().0);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), RescueError> {
        if !self.to_send.is_empty() {
            within(self.stream.write_all(&self.to_send)).await?;
            self.to_send.clear();
            within(self.stream.flush()).await?;
        }
        Ok(())
    }
}

async fn within<T>(io: impl Future<Output = std::io::Result<T>>) -> Result<T, RescueError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, io).await {
        Ok(result) => result.map_err(RescueError::Io),
        Err(_) => Err(RescueError::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

fn tls(settings: &AmqpSettings) -> Result<TlsConnector, RescueError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &settings.tls_ca {
        let refused = |error: &dyn std::fmt::Display| RescueError::Refused(error.to_string());
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| refused(&e))? {
            let certificate = certificate.map_err(|e| refused(&e))?;
            roots.add(certificate).map_err(|e| refused(&e))?;
        }
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
