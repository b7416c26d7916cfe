use std::ops::Range;

/// The only source of chance in a simulation: SplitMix64, so that a seed is a whole run.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x7461_736b_7961_7264)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in the range, which must not be empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// A position in something of this length.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(len).unwrap()).unwrap()
    }

    /// True in so many of a million cases.
    pub(crate) fn in_a_million(&mut self, cases: u64) -> bool {
        self.next() % 1_000_000 < cases
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, cases: u64) -> bool {
        self.next() % 100 < cases
    }

    /// Mostly near the lower end, now and then far out: how long things take.
    pub(crate) fn delay(&mut self, usual_ms: u64, worst_ms: u64) -> u64 {
        match self.percent(97) {
            true => self.within(0..usual_ms + 1),
            false => self.within(0..worst_ms + 1),
        }
    }
}
