use bytes::{Buf, Bytes};

/// What can be saved of a message that lapin cannot read, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remains {
    /// Which part is broken, and how.
    pub(super) fault: String,
    pub(super) message_id: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) reply_to: Option<String>,
    pub(super) correlation_id: Option<String>,
}

/// The properties of a message in the order of their flags, from the highest bit.
const PROPERTIES: [(&str, Format); 14] = [
    ("content_type", Format::Text),
    ("content_encoding", Format::Text),
    ("headers", Format::Table),
    ("delivery_mode", Format::Bytes(1)),
    ("priority", Format::Bytes(1)),
    ("correlation_id", Format::Text),
    ("reply_to", Format::Text),
    ("expiration", Format::Text),
    ("message_id", Format::Text),
    ("timestamp", Format::Bytes(8)),
    ("type", Format::Text),
    ("user_id", Format::Text),
    ("app_id", Format::Text),
    ("cluster_id", Format::Text),
];

#[derive(Clone, Copy)]
enum Format {
    Text,
    Table,
    Bytes(usize),
}

impl Remains {
    /// Looks into a message's routing key and the payload of its header frame.
    pub(super) fn of(routing_key: &[u8], header: &Bytes) -> Self {
        let mut remains = Self::default();
        let mut faults = Vec::new();
        if let Err(fault) = text("routing key", routing_key) {
            faults.push(fault);
        }
        // Class, weight, size of the body.
        let mut rest = header.slice(header.len().min(12)..);
        if rest.len() >= 2 {
            let flags = rest.get_u16();
            remains.properties(flags, rest, &mut faults);
        }
        if faults.is_empty() {
            faults.push("its properties break the rules of AMQP".to_owned());
        }
        remains.fault = faults.join("; ");
        remains
    }

    fn properties(&mut self, flags: u16, mut rest: Bytes, faults: &mut Vec<String>) {
        for (number, (name, format)) in PROPERTIES.iter().enumerate() {
            if flags & (1 << (15 - number)) == 0 {
                continue;
            }
            let part = match format {
                Format::Text => short(&mut rest),
                Format::Table => long(&mut rest),
                Format::Bytes(bytes) => take(&mut rest, *bytes),
            };
            let Some(part) = part else { return faults.push(format!("its {name} is cut off")) };
            match format {
                Format::Bytes(_) => {}
                Format::Table => faults.extend(table(part)),
                Format::Text => match text(name, &part) {
                    Err(fault) => faults.push(fault),
                    Ok(value) => self.keep(name, value),
                },
            }
        }
    }

    fn keep(&mut self, name: &str, value: String) {
        match name {
            "message_id" => self.message_id = Some(value),
            "type" => self.kind = Some(value),
            "reply_to" => self.reply_to = Some(value),
            "correlation_id" => self.correlation_id = Some(value),
            _ => {}
        }
    }
}

fn text(what: &str, bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| format!("its {what} {:?} is not UTF-8", String::from_utf8_lossy(bytes)))
}

fn take(rest: &mut Bytes, bytes: usize) -> Option<Bytes> {
    (rest.len() >= bytes).then(|| rest.split_to(bytes))
}

fn short(rest: &mut Bytes) -> Option<Bytes> {
    let length = take(rest, 1)?.get_u8();
    take(rest, length.into())
}

fn long(rest: &mut Bytes) -> Option<Bytes> {
    let length = take(rest, 4)?.get_u32();
    take(rest, length as usize)
}

/// What is wrong with a table of headers, if anything.
fn table(mut rest: Bytes) -> Option<String> {
    while !rest.is_empty() {
        let Some(name) = short(&mut rest) else { return Some("its headers are cut off".into()) };
        let name = match text("header name", &name) {
            Ok(name) => name,
            Err(fault) => return Some(fault),
        };
        if let Err(fault) = value(&mut rest) {
            return Some(format!("its header {name:?} {fault}"));
        }
    }
    None
}

fn value(rest: &mut Bytes) -> Result<(), String> {
    let cut_off = || "is cut off".to_owned();
    let tag = take(rest, 1).ok_or_else(cut_off)?[0];
    let bytes = match tag {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'u' | b'U' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        b'S' | b'x' => return long(rest).map(drop).ok_or_else(cut_off),
        b'F' => {
            let inner = long(rest).ok_or_else(cut_off)?;
            return table(inner).map_or(Ok(()), |fault| Err(format!("is a table: {fault}")));
        }
        b'A' => {
            let mut inner = long(rest).ok_or_else(cut_off)?;
            while !inner.is_empty() {
                value(&mut inner)?;
            }
            return Ok(());
        }
        other => return Err(format!("has the unknown type {:?}", char::from(other))),
    };
    take(rest, bytes).map(drop).ok_or_else(cut_off)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u16, properties: &[u8]) -> Bytes {
        let mut bytes = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
        bytes.extend(flags.to_be_bytes());
        bytes.extend(properties);
        bytes.into()
    }

    #[test]
    fn what_is_readable_is_saved_and_the_rest_named() {
        let properties = b"\0\0\0\x04\x01\xfft\x01\x05reply\x02id";
        let remains = Remains::of(b"echo", &header(0x2280, properties));
        assert_eq!(remains.message_id.as_deref(), Some("id"));
        assert_eq!(remains.reply_to.as_deref(), Some("reply"));
        assert_eq!(remains.fault, "its header name \"\u{fffd}\" is not UTF-8");
    }

    #[test]
    fn each_fault_is_named() {
        let of = |key: &[u8], flags, properties: &[u8]| {
            Remains::of(key, &header(flags, properties)).fault
        };
        assert!(of(b"\xff", 0, b"").contains("routing key"));
        assert!(of(b"a", 0x0080, b"\x01\xfe").contains("message_id"));
        assert!(of(b"a", 0x0080, b"\x09ab").contains("message_id is cut off"));
        assert!(of(b"a", 0x2000, b"\0\0\0\x04\x01hZ\0").contains("unknown type 'Z'"));
        assert!(of(b"a", 0x2000, b"\0\0\0\x0a\x01hA\0\0\0\x03S\0\0").contains("cut off"));
        assert!(of(b"a", 0x2000, b"\0\0\0\x0b\x01hF\0\0\0\x04\x01\xfft\0").contains("UTF-8"));
        assert!(of(b"a", 0, b"").contains("rules of AMQP"));
        assert_eq!(Remains::of(b"a", &Bytes::new()).message_id, None);
    }
}
