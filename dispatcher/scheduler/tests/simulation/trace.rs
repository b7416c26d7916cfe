use std::fmt::{self, Write};

/// Everything that happened: its digest always, its text where somebody wants to read it.
#[derive(Debug)]
pub(crate) struct Trace {
    digest: u64,
    text: Option<String>,
}

impl Trace {
    pub(crate) fn new(is_kept: bool) -> Self {
        Self { digest: 0xcbf2_9ce4_8422_2325, text: is_kept.then(String::new) }
    }

    pub(crate) fn line(&mut self, now: u64, what: fmt::Arguments<'_>) {
        writeln!(self, "{now} {what}").expect("a digest takes everything");
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn into_text(self) -> String {
        self.text.unwrap_or_default()
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // FNV-1a.
        for byte in text.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(kept) = &mut self.text {
            kept.push_str(text);
        }
        Ok(())
    }
}
