use super::keys::Keys;
use crate::endpoint::OWN_HEADERS;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// An endpoint, as the file describes it.
pub(super) struct Endpoint {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
}

/// Reads it.
pub(super) fn read(keys: &mut Keys) -> Option<Endpoint> {
    let text = keys.take::<String>("http");
    let url = text.and_then(|text| {
        let url = url(&text);
        url.map_err(|why| keys.problem(format!("http: {why}"))).ok()
    });
    let mut headers = HeaderMap::new();
    for (name, value) in keys.texts("headers") {
        match header(&name, &value) {
            Ok((name, value)) => drop(headers.insert(name, value)),
            Err(why) => keys.problem(format!("headers.{name} {why}")),
        }
    }
    Some(Endpoint { url: url?, headers })
}

fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{text:?} is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{text:?} begins with neither http:// nor https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not shown: there is a password in it.
        return Err("the URL has a user in it: say it in headers, as Authorization".to_owned());
    }
    Ok(url)
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = HeaderName::try_from(name).map_err(|_| "is no name of a header")?;
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err("is set by the worker itself");
    }
    // Not shown: it may be a secret.
    let mut value = HeaderValue::try_from(value).map_err(|_| "has a value that no header can")?;
    value.set_sensitive(true);
    Ok((name, value))
}
