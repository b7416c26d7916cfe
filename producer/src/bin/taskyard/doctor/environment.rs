use crate::exit::Failure;
use std::io::Read;
use std::path::Path;

/// What RabbitMQ's configuration says where no API shows it: of what `rabbitmqctl environment`
/// prints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// In ms; `undefined` is no limit.
    pub(crate) consumer_timeout: Option<String>,
    pub(crate) partition_handling: Option<String>,
}

/// Reads the file; `-` is standard input.
pub(crate) fn read(file: &Path) -> Result<Environment, Failure> {
    let mut text = String::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(file).map(|read| text = read),
    };
    read.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let environment = Environment::parse(&text);
    match environment == Environment::default() {
        true => Err(Failure::usage(format!(
            "{} is not what `rabbitmqctl environment` prints",
            file.display()
        ))),
        false => Ok(environment),
    }
}

impl Environment {
    /// Erlang's terms: `{consumer_timeout,1800000},`.
    fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let (_, rest) = text.split_once(&format!("{{{name},"))?;
            // A value of several words begins with another brace; its first word is what counts.
            let rest = rest.trim_start_matches(|c: char| c == '{' || c.is_whitespace());
            let end = rest.find(['}', ',']).unwrap_or(rest.len());
            Some(rest[..end].trim().to_owned())
        };
        Self {
            consumer_timeout: value("consumer_timeout"),
            partition_handling: value("cluster_partition_handling"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_among_others() {
        let text = " [{rabbit,\n  [{channel_max,2047},\n   {cluster_partition_handling,ignore},\n   \
                    {consumer_timeout,1800000},\n   {x,1}]}]";
        let expected = Environment {
            consumer_timeout: Some("1800000".into()),
            partition_handling: Some("ignore".into()),
        };
        assert_eq!(Environment::parse(text), expected);
        let several = "{cluster_partition_handling,\n  {pause_if_all_down,[a],ignore}}";
        let read = Environment::parse(several).partition_handling;
        assert_eq!(read.as_deref(), Some("pause_if_all_down"));
        assert_eq!(Environment::parse("nothing"), Environment::default());
    }
}
