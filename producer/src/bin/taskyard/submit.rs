use crate::batch::{self, Flow, Format, Source};
use crate::connect::Reach;
use crate::exit::{Exit, Failure};
use crate::line::Given;
use crate::options::TaskOptions;
use crate::output::Output;
use crate::{json, result, when};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use taskyard_model::PAYLOAD_BYTES_MAX;
use taskyard_producer::Submission;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  taskyard submit image.resize --data '{\"file\":\"a.png\"}'
  taskyard submit video.cut --file clip.mp4 --priority 9 --timeout 10m --requires gpu
  taskyard submit report --id report-2024-02 --eta 2024-03-01T06:00:00Z --max-attempts 3
  taskyard submit echo --data hello --wait --wait-timeout 30s
  find . -name '*.png' | taskyard submit image.resize --ndjson -
  taskyard submit --ndjson tasks.ndjson --id-prefix import-7-
  taskyard submit image.resize --csv images.csv --id-prefix images-

It prints the task's id once RabbitMQ has confirmed it. From then on the task ends in exactly
one final state. If the connection breaks before the confirm, it is sent again with the same id.

--wait waits for the end instead, prints the result to stdout as it is (an error goes to
stderr), and exits with 0 if the task succeeded, 1 if it did not, 2 if it is not final yet.

--ndjson submits a task for each line of a file. With KIND the line is the payload. Without, it
is a JSON object: \"kind\", and if wanted \"id\", \"data\" (a text is the payload itself,
anything else its JSON) or \"data_base64\", \"headers\" (an object), and all options above by
their names:
  {\"kind\":\"image.resize\",\"id\":\"a-1\",\"data\":{\"file\":\"a.png\"},\"priority\":7,\"delay\":\"5s\"}
--csv submits a task for each row of a table with a header. With KIND the row is the payload, as a
JSON object with a text for each column: {\"file\":\"a.png\",\"width\":\"320\"}. Without, there is a
column \"kind\", columns named like what a line of --ndjson may have (\"id\", \"priority\",
\"delay\", …; not \"headers\") say just that where they are not empty, and the other columns are the
payload, unless that is a column \"data\" or \"data_base64\". A row is named by its line in the file.

Options of the command line hold for lines that say nothing else. A line that cannot be
submitted is reported with its number and harms no other. Ctrl-C stops reading, waits for what is
under way, and says how many are confirmed and which --skip goes on after them. With --id-prefix
(or an id in each line) a file may also be submitted again from its beginning: what was accepted
before changes nothing, as long as it is remembered.

--json prints {\"id\":…}; with --wait what `result --json` prints; with --ndjson and --csv an
object for each line and a summary in the end (docs/json.md).";

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("input").args(["data", "file", "ndjson", "csv"]))]
#[command(group = clap::ArgGroup::new("many").args(["ndjson", "csv"]))]
pub(crate) struct SubmitArgs {
    /// What sort of task: image.resize
    #[arg(value_name = "KIND", required_unless_present = "many")]
    kind: Option<String>,
    /// The payload
    #[arg(short, long, value_name = "TEXT")]
    data: Option<String>,
    /// File with the payload; - is stdin
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// File with a task in each line; - is stdin
    #[arg(long, value_name = "FILE")]
    ndjson: Option<PathBuf>,
    /// File with a header and a task in each row; - is stdin
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// With --csv, what stands between the fields: a character, or \t
    #[arg(long, value_name = "CHAR", default_value = ",", value_parser = delimiter)]
    #[arg(requires = "csv", conflicts_with = "ndjson")]
    delimiter: u8,
    /// The task's id; submitting it again changes nothing [default: a new UUIDv7]
    #[arg(long, value_name = "ID", conflicts_with = "many")]
    id: Option<String>,
    /// With --ndjson or --csv, ids are this and the number of the line
    #[arg(long, value_name = "PREFIX", requires = "many")]
    id_prefix: Option<String>,
    /// With --ndjson or --csv, pass over this many lines, to go on where it ended
    #[arg(long, value_name = "LINES", default_value = "0", requires = "many")]
    skip: u64,
    /// With --ndjson or --csv, tasks that may be unconfirmed at once
    #[arg(long, value_name = "N", default_value = "500", requires = "many")]
    window: usize,
    /// How long to try to get a confirm, reconnecting where needed
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = when::duration)]
    patience: Duration,
    /// Wait for the task's end and print its result
    #[arg(long, conflicts_with = "many")]
    wait: bool,
    /// How long to wait at most
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = when::duration)]
    wait_timeout: Duration,
    #[command(flatten, next_help_heading = "Task options")]
    options: TaskOptions,
}

pub(crate) async fn run(
    mut args: SubmitArgs,
    reach: &Reach,
    output: &Output,
) -> Result<Exit, Failure> {
    if let Some((file, format)) = many(&mut args) {
        let source = Source { file, format, skip: args.skip };
        let given = Given { kind: args.kind, id_prefix: args.id_prefix, options: args.options };
        let flow = Flow { window: args.window, patience: args.patience };
        return batch::run(source, given, flow, reach, output).await;
    }
    let task = task(&args)?;
    let producer = reach.producer(args.patience).await?;
    if args.wait {
        let mut ticket = producer.submit_awaited(task).await?;
        let outcome = tokio::select! {
            outcome = ticket.outcome(args.wait_timeout) => outcome?,
            _ = tokio::signal::ctrl_c() => {
                let id = ticket.id();
                return Err(Failure::new(Exit::NotFinal, format!("no longer waiting for {id}"))
                    .hint(format!("it goes on; ask with `taskyard result {id} --wait`")));
            }
        };
        let exit = result::print(ticket.id(), &outcome.into(), output);
        producer.close().await;
        return Ok(exit);
    }
    let id = producer.submit(task).await?;
    match output.is_json() {
        true => output.json(&json::Submitted { id: id.as_str() }),
        false => output.line(id.as_str()),
    }
    producer.close().await;
    Ok(Exit::Done)
}

/// The file of many tasks, if there is one.
fn many(args: &mut SubmitArgs) -> Option<(PathBuf, Format)> {
    let table = Format::Csv { delimiter: args.delimiter, has_options: args.kind.is_none() };
    let csv = args.csv.take().map(|file| (file, table));
    csv.or(args.ndjson.take().map(|file| (file, Format::Lines)))
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        &[byte] if byte.is_ascii() && !b"\"\r\n".contains(&byte) => Ok(byte),
        _ => Err("write one ASCII character, or \\t".to_owned()),
    }
}

/// The task that the command line describes, all rules checked.
fn task(args: &SubmitArgs) -> Result<Submission, Failure> {
    let kind = args.kind.as_deref().expect("clap demands a kind unless there is a file of lines");
    let payload = match (&args.data, &args.file) {
        (Some(data), _) => data.clone().into_bytes(),
        (None, Some(file)) => read(file)?,
        (None, None) => Vec::new(),
    };
    let mut task = args.options.apply(Submission::new(kind)).payload(payload);
    if let Some(id) = &args.id {
        task = task.id(id);
    }
    task.check()?;
    Ok(task)
}

/// The payload from a file; no more than can be submitted, whatever the file.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |error| Failure::usage(format!("{} cannot be read: {error}", file.display()));
    let mut payload = Vec::new();
    let limit = PAYLOAD_BYTES_MAX as u64 + 1;
    if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut payload).map_err(wrong)?;
    } else {
        let file = std::fs::File::open(file).map_err(wrong)?;
        file.take(limit).read_to_end(&mut payload).map_err(wrong)?;
    }
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Failure::usage("the payload has more than 16 MiB")
            .hint("store it elsewhere and submit its address"));
    }
    Ok(payload)
}
