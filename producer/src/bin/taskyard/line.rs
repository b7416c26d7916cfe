use crate::options::TaskOptions;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use taskyard_producer::Submission;

/// What the command line says of every line.
pub(crate) struct Given {
    /// The kind; then the line is the payload.
    pub(crate) kind: Option<String>,
    /// The ids are this and the number of the line.
    pub(crate) id_prefix: Option<String>,
    /// What is to be said of every task.
    pub(crate) options: TaskOptions,
}

impl Given {
    /// What holds for all lines, to be checked before the first.
    pub(crate) fn template(&self) -> Submission {
        self.options.apply(Submission::new(self.kind.as_deref().unwrap_or("any")))
    }

    /// Whether lines may share messages: they differ in nothing but payload and id.
    pub(crate) fn fits_bulk(&self) -> bool {
        self.kind.is_some() && self.options.content_type.is_none()
    }

    /// The id that a line gets if it has none of its own.
    fn id(&self, number: u64) -> Option<String> {
        self.id_prefix.as_ref().map(|prefix| format!("{prefix}{number}"))
    }

    /// The task that a line describes: an object, or the payload if the kind is given.
    pub(crate) fn task(&self, number: u64, line: Vec<u8>) -> Result<Submission, String> {
        let task = match &self.kind {
            Some(kind) => self.options.apply(Submission::new(kind)).payload(line),
            None => self.object(&line)?,
        };
        let task = match self.id(number) {
            Some(id) if task.given_id().is_none() => task.id(id),
            _ => task,
        };
        task.check().map(|()| task).map_err(|error| crate::exit::chain(&error))
    }

    fn object(&self, line: &[u8]) -> Result<Submission, String> {
        let wrong = |error: serde_json::Error| plain(&error);
        let mut fields: BTreeMap<String, &RawValue> =
            serde_json::from_slice(line).map_err(wrong)?;
        let kind: Option<String> = take(&mut fields, "kind")?;
        let kind =
            kind.ok_or("\"kind\" is missing: name it in the line, or on the command line")?;
        let id: Option<String> = take(&mut fields, "id")?;
        let data = fields.remove("data");
        let base64: Option<String> = take(&mut fields, "data_base64")?;
        let rest = serde_json::to_string(&fields).map_err(wrong)?;
        let own: TaskOptions =
            serde_json::from_str(&rest).map_err(|error| wrong_option(&fields, &error))?;
        let mut task = Submission::new(kind);
        if let Some(id) = id {
            task = task.id(id);
        }
        let payload = payload(data, base64)?;
        if payload.is_json {
            task = task.content_type("application/json");
        }
        Ok(own.apply(self.options.apply(task)).payload(payload.bytes))
    }
}

/// A field, taken out; nothing if it is missing or null.
fn take<'a, T: Deserialize<'a>>(
    fields: &mut BTreeMap<String, &'a RawValue>,
    name: &str,
) -> Result<Option<T>, String> {
    let Some(raw) = fields.remove(name) else { return Ok(None) };
    serde_json::from_str(raw.get()).map_err(|error| format!("{name:?}: {}", plain(&error)))
}

/// What is wrong with the options of a line, with the name of the one.
fn wrong_option(fields: &BTreeMap<String, &RawValue>, error: &serde_json::Error) -> String {
    for (name, value) in fields {
        let alone = serde_json::to_string(&BTreeMap::from([(name, value)])).unwrap_or_default();
        let Err(error) = serde_json::from_str::<TaskOptions>(&alone) else { continue };
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or_default();
        return match what.contains(name.as_str()) {
            true => what.to_owned(),
            false => format!("{name:?}: {what}"),
        };
    }
    plain(error)
}

struct Payload {
    bytes: Bytes,
    is_json: bool,
}

/// A text is the payload itself, anything else its JSON as it was written.
fn payload(data: Option<&RawValue>, base64: Option<String>) -> Result<Payload, String> {
    let bytes = match (data, base64) {
        (Some(_), Some(_)) => {
            return Err("\"data\" and \"data_base64\" are both given: keep one".to_owned());
        }
        (None, None) => Bytes::new(),
        (None, Some(text)) => {
            let bytes = STANDARD.decode(text.as_bytes());
            bytes.map_err(|error| format!("\"data_base64\": {error}"))?.into()
        }
        (Some(raw), None) if raw.get().starts_with('"') => {
            let text: String = serde_json::from_str(raw.get()).map_err(|error| plain(&error))?;
            text.into()
        }
        (Some(raw), None) => {
            let bytes = Bytes::copy_from_slice(raw.get().as_bytes());
            return Ok(Payload { bytes, is_json: true });
        }
    };
    Ok(Payload { bytes, is_json: false })
}

/// What serde says, with the column alone: the line is always the first.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((what, _)) => format!("{what} (column {})", error.column()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Given {
        Given { kind: None, id_prefix: None, options: TaskOptions::default() }
    }

    fn error(line: &str) -> String {
        given().task(1, line.as_bytes().to_vec()).unwrap_err()
    }

    fn task(line: &str) -> Submission {
        given().task(1, line.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn data_is_a_text_or_json_as_written() {
        assert_eq!(task(r#"{"kind":"a","data":"tä\n\u0041xt"}"#).payload_bytes(), "tä\nAxt");
        assert_eq!(
            task(r#"{"kind":"a","data":{"b":1.10,"a": 2}}"#).payload_bytes(),
            r#"{"b":1.10,"a": 2}"#
        );
        assert_eq!(
            task(r#"{"kind":"a","data":12345678901234567890123}"#).payload_bytes(),
            "12345678901234567890123"
        );
        assert_eq!(task(r#"{"kind":"a","data":null}"#).payload_bytes(), "null");
        assert_eq!(task(r#"{"kind":"a","data_base64":"AP8="}"#).payload_bytes(), &[0u8, 255][..]);
        assert_eq!(task(r#"{"kind":"a"}"#).payload_bytes(), "");
    }

    #[test]
    fn a_line_may_say_all_that_the_command_line_may() {
        task(
            r#"{"kind":"a","id":"x","priority":3,"delay":"5s","expires":1000,"timeout":"1m",
            "max_attempts":2,"backoff":"fixed:10","max-losses":1,"tenant":"t","requires":"gpu",
            "slots":2,"deadline":"2100-01-01T00:00:00Z","estimate":5,"keep":"1d",
            "content_type":"text/plain","headers":{"a":1,"b":"two","c":true},
            "traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#,
        );
        task(r#"{"kind":"a","eta":"+5m"}"#);
    }

    #[test]
    fn a_wrong_line_says_what_is_wrong() {
        let cases = [
            ("", "EOF"),
            ("[]", "map"),
            ("{", "column"),
            (r#"{"data":1}"#, "kind"),
            (r#"{"kind":"a b"}"#, "kind"),
            (r#"{"kind":7}"#, "kind"),
            (r#"{"kind":"a","id":"a b"}"#, "id"),
            (r#"{"kind":"a","priority":10}"#, "priority"),
            (r#"{"kind":"a","dealy":1}"#, "dealy"),
            (r#"{"kind":"a","delay":"soon"}"#, "soon"),
            (r#"{"kind":"a","delay":-1}"#, "\"delay\""),
            (r#"{"kind":"a","slots":1,"priority":"high"}"#, "\"priority\": invalid type"),
            (r#"{"kind":"a","backoff":"often"}"#, "backoff"),
            (r#"{"kind":"a","data":1,"data_base64":""}"#, "both"),
            (r#"{"kind":"a","data_base64":"?"}"#, "data_base64"),
            (r#"{"kind":"a","headers":{"x-task-delay":1}}"#, "x-task-delay"),
        ];
        for (line, word) in cases {
            let error = error(line);
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn with_a_kind_a_line_is_the_payload_and_ids_count_lines() {
        let given = Given {
            kind: Some("echo".to_owned()),
            id_prefix: Some("load-".to_owned()),
            options: TaskOptions::default(),
        };
        let task = given.task(7, b"not {json".to_vec()).unwrap();
        assert_eq!(task.payload_bytes(), "not {json");
        assert_eq!(task.given_id().unwrap().as_str(), "load-7");
    }
}
