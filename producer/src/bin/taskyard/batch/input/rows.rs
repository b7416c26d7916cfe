use super::{BUFFER_BYTES, LINE_BYTES_MAX, Line};
use crate::options::{self, Cell};
use csv::ByteRecord;
use serde::Serializer;
use serde::ser::SerializeMap;
use serde_json::value::RawValue;
use std::io::{self, Read};

/// The rows of a CSV file (RFC 4180), each as the line of JSON that says the same. After an error there
/// are no more.
///
/// A row is its task's payload, an object with a text for each column. Or, with options, it is what a
/// line of tasks may be: columns with the names of a task's options say those where they are not
/// empty, the others make up the payload.
pub(super) struct Rows<R> {
    reader: csv::Reader<Budget<R>>,
    has_options: bool,
    columns: Option<Columns>,
    record: ByteRecord,
    is_over: bool,
}

/// What stands in which column.
struct Columns {
    names: Vec<String>,
    roles: Vec<Role>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Part of the payload.
    Field,
    /// Says something of the task.
    Option(Cell),
}

impl<R: Read> Rows<R> {
    pub(super) fn new(input: R, delimiter: u8, has_options: bool) -> Self {
        let reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            // A row of another length is that row's mistake alone.
            .flexible(true)
            .buffer_capacity(BUFFER_BYTES)
            .from_reader(Budget { input, left: LINE_BYTES_MAX });
        Self { reader, has_options, columns: None, record: ByteRecord::new(), is_over: false }
    }

    /// The next row, or `None` after the last.
    fn read(&mut self) -> Result<Option<Line>, String> {
        if self.columns.is_none() {
            let header = self.reader.byte_headers().map_err(|error| said(1, &error))?;
            self.columns = Some(Columns::new(header, self.has_options)?);
        }
        let columns = self.columns.as_ref().expect("it was just read");
        let begin = self.reader.position().clone();
        self.reader.get_mut().left = LINE_BYTES_MAX;
        let is_there = self.reader.read_byte_record(&mut self.record);
        if !is_there.map_err(|error| said(begin.line(), &error))? {
            return Ok(None);
        }
        Ok(Some(Line {
            number: begin.line(),
            text: columns.json(&self.record),
            read_bytes: self.reader.position().byte() - begin.byte(),
        }))
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = Result<Line, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let read = self.read();
        self.is_over = read.is_err();
        read.transpose()
    }
}

impl Columns {
    fn new(header: &ByteRecord, has_options: bool) -> Result<Self, String> {
        let mut names: Vec<String> = Vec::new();
        for (at, name) in header.iter().enumerate() {
            let name =
                std::str::from_utf8(name).map_err(|_| "the header is no UTF-8".to_owned())?;
            let name = name.trim();
            if name.is_empty() {
                return Err(format!("column {} has no name in the header", at + 1));
            }
            if names.iter().any(|other| other == name) {
                return Err(format!("two columns are named {name:?}"));
            }
            names.push(name.to_owned());
        }
        let role = |name: &String| match has_options.then(|| options::cell(name)).flatten() {
            Some(cell) => Role::Option(cell),
            None => Role::Field,
        };
        let roles: Vec<Role> = names.iter().map(role).collect();
        if has_options && !names.iter().any(|name| name == "kind") {
            return Err(
                "no column is named \"kind\": add one, or name the kind on the command line"
                    .to_owned(),
            );
        }
        let payload = names.iter().find(|name| name.starts_with("data"));
        let payload = payload.filter(|name| options::cell(name).is_some());
        let field = names.iter().zip(&roles).find(|(_, role)| **role == Role::Field);
        match (has_options, payload, field) {
            (true, Some(payload), Some((field, _))) => Err(format!(
                "the payload is in column {payload:?}, and {field:?} is no option: take one away"
            )),
            _ => Ok(Self { names, roles }),
        }
    }

    /// A row as a line of JSON.
    fn json(&self, record: &ByteRecord) -> Result<Vec<u8>, String> {
        if record.len() != self.names.len() {
            let (fields, columns) = (record.len(), self.names.len());
            return Err(format!("it has {fields} fields, and the header has {columns}"));
        }
        let mut cells = Vec::with_capacity(self.names.len());
        for (name, cell) in self.names.iter().zip(record) {
            let text = std::str::from_utf8(cell);
            cells.push(text.map_err(|_| format!("column {name:?} is no UTF-8"))?);
        }
        let mut line = Vec::new();
        self.write(&cells, &mut line).map_err(|error| error.to_string())?;
        Ok(line)
    }

    fn write(&self, cells: &[&str], line: &mut Vec<u8>) -> serde_json::Result<()> {
        let named = || self.names.iter().zip(&self.roles).zip(cells.iter().copied());
        let fields = named().filter(|((_, role), _)| **role == Role::Field);
        let fields = fields.map(|((name, _), cell)| (name, cell));
        let mut writer = serde_json::Serializer::new(line);
        let options = named().filter_map(|((name, role), cell)| match role {
            Role::Option(kind) if !cell.is_empty() => Some((name, *kind, cell)),
            _ => None,
        });
        let has_fields = self.roles.contains(&Role::Field);
        if !self.roles.iter().any(|role| matches!(role, Role::Option(_))) {
            return writer.collect_map(fields);
        }
        let mut object = writer.serialize_map(None)?;
        for (name, kind, cell) in options {
            match cell.trim().parse::<u64>() {
                Ok(number) if kind == Cell::Number => object.serialize_entry(name, &number)?,
                _ => object.serialize_entry(name, cell)?,
            }
        }
        if has_fields {
            let mut payload = Vec::new();
            serde_json::Serializer::new(&mut payload).collect_map(fields)?;
            let payload: &RawValue = serde_json::from_slice(&payload)?;
            object.serialize_entry("data", payload)?;
        }
        object.end()
    }
}

/// What went wrong with the file as a whole.
fn said(line: u64, error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Io(error) => format!("line {line} cannot be read: {error}"),
        _ => format!("line {line}: {error}"),
    }
}

/// Ends a row that does not end: a quote too many would make one of all the rest of the file, in
/// memory.
struct Budget<R> {
    input: R,
    left: usize,
}

impl<R: Read> Read for Budget<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other(
                "the row is longer than any task may be; is there a quote (\") too many?",
            ));
        }
        let most = buffer.len().min(self.left);
        let read = self.input.read(&mut buffer[..most])?;
        self.left -= read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, has_options: bool) -> Vec<Result<Line, String>> {
        Rows::new(text.as_bytes(), b',', has_options).collect()
    }

    fn texts(text: &str, has_options: bool) -> Vec<Result<String, String>> {
        let text_of = |line: Line| line.text.map(|text| String::from_utf8(text).unwrap());
        rows(text, has_options).into_iter().map(|row| row.and_then(text_of)).collect()
    }

    fn line(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    #[test]
    fn a_row_becomes_an_object_in_the_order_of_its_columns() {
        let table = "name,id,a\n\"Müller, \"\"Jo\"\"\",7,\n\"two\nlines\",8,x\n";
        assert_eq!(
            texts(table, false),
            [
                line(r#"{"name":"Müller, \"Jo\"","id":"7","a":""}"#),
                line(r#"{"name":"two\nlines","id":"8","a":"x"}"#),
            ]
        );
        let numbers = |line: &Line| (line.number, line.read_bytes);
        let lines: Vec<_> = rows(table, false).iter().flatten().map(numbers).collect();
        assert_eq!(lines, [(2, 21), (3, 16)]);
    }

    #[test]
    fn with_options_columns_of_their_names_say_them() {
        let table = "kind,id,priority,tenant,delay,file,width\n\
                     image.resize,a-1,7,9,5s,a.png,320\n\
                     image.resize,,,,,b.png,\n";
        assert_eq!(
            texts(table, true),
            [
                line(
                    r#"{"kind":"image.resize","id":"a-1","priority":7,"tenant":"9","delay":"5s","data":{"file":"a.png","width":"320"}}"#
                ),
                line(r#"{"kind":"image.resize","data":{"file":"b.png","width":""}}"#),
            ]
        );
        assert_eq!(texts("kind,data\na,x\n", true), [line(r#"{"kind":"a","data":"x"}"#)]);
        assert_eq!(texts("kind\na\n", true), [line(r#"{"kind":"a"}"#)]);
    }

    #[test]
    fn what_excel_writes_is_read() {
        let table = "\u{feff}file;width\r\na.png;1\r\n";
        let row = Rows::new(table.as_bytes(), b';', false).next().unwrap().unwrap();
        assert_eq!(row.text.unwrap(), br#"{"file":"a.png","width":"1"}"#);
    }

    #[test]
    fn a_wrong_row_harms_no_other() {
        let mut table = b"a,b\n1,2,3\n\xff,1\n1,2\n".to_vec();
        let rows: Vec<_> = Rows::new(&table[..], b',', false).map(Result::unwrap).collect();
        assert_eq!(rows[0].text, Err("it has 3 fields, and the header has 2".to_owned()));
        assert_eq!(rows[1].text, Err("column \"a\" is no UTF-8".to_owned()));
        assert_eq!((rows[2].number, rows[2].text.is_ok()), (4, true));
        table.clear();
        assert_eq!(Rows::new(&table[..], b',', false).count(), 0, "an empty file has no rows");
    }

    #[test]
    fn a_wrong_header_is_said_before_any_row() {
        let cases = [
            ("a,,b\n1,2,3\n", "column 2"),
            ("kind,a, a\nx,1,2\n", "two columns"),
            ("id,a\n1,2\n", "\"kind\""),
            ("kind,data,a\nx,1,2\n", "take one away"),
        ];
        for (table, word) in cases {
            let rows = texts(table, true);
            assert_eq!(rows.len(), 1, "{table:?}");
            let error = rows[0].as_ref().unwrap_err();
            assert!(error.contains(word), "{table:?}: {error}");
        }
    }

    #[test]
    fn a_row_without_end_is_an_error() {
        let input = io::Cursor::new(b"a\n\"").chain(io::repeat(b'x'));
        let mut rows = Rows::new(input, b',', false);
        let error = rows.next().unwrap().unwrap_err();
        assert!(error.contains("line 2") && error.contains("quote"), "{error}");
        assert!(rows.next().is_none());
    }
}
