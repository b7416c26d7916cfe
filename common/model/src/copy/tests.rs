use super::*;

const SOURCES: [Source; 8] = [
    Source::Submit,
    Source::SubmitExpired,
    Source::Again,
    Source::Lane,
    Source::Parked,
    Source::WorkerExpired,
    Source::WorkerNacked,
    Source::Report,
];

/// Every combination of small attempts, sources and books.
fn everything() -> impl Iterator<Item = (CopyFacts, Live, Books)> {
    let flags = || [false, true].into_iter();
    State::ALL.iter().flat_map(move |&state| {
        (0..4u32).flat_map(move |a| {
            (0..4u32).flat_map(move |k| {
                SOURCES.into_iter().flat_map(move |source| {
                    flags().flat_map(move |is_redelivered| {
                        flags().flat_map(move |holds_another| {
                            flags().flat_map(move |is_dispatch_confirmed| {
                                flags().map(move |has_start_by| {
                                    let copy = CopyFacts { attempt: k, source, is_redelivered };
                                    let books = Books { holds_another, is_dispatch_confirmed };
                                    (copy, Live { state, attempt: a, has_start_by }, books)
                                })
                            })
                        })
                    })
                })
            })
        })
    })
}

#[test]
fn the_live_attempts_copy_is_never_dropped_unless_another_is_held() {
    for (copy, live, books) in everything() {
        let is_live = copy.attempt >= live.attempt && !live.state.is_final();
        if is_live && judge(copy, Some(live), books) == Verdict::Drop {
            assert!(books.holds_another, "{copy:?} {live:?} {books:?}");
            assert!(matches!(live.state, Blocked | Delayed | Queued), "{copy:?} {live:?}");
        }
    }
}

#[test]
fn an_older_copy_goes_only_when_the_newer_is_known_to_be_stored() {
    for (copy, live, books) in everything() {
        if copy.attempt < live.attempt && live.state == Dispatched {
            let expected = match books.is_dispatch_confirmed || books.holds_another {
                true => Verdict::Drop,
                false => Verdict::Resend,
            };
            assert_eq!(judge(copy, Some(live), books), expected, "{copy:?} {live:?}");
        }
    }
}

#[test]
fn a_second_submission_is_a_first_delivery_or_expires_where_the_first_cannot() {
    for (copy, live, books) in everything() {
        if judge(copy, Some(live), books) == Verdict::Answer {
            match copy.source {
                Source::SubmitExpired => assert!(!live.has_start_by),
                source => assert!(source == Source::Submit && !copy.is_redelivered),
            }
        }
    }
}

#[test]
fn what_has_no_start_by_never_expires() {
    for (copy, live, books) in everything() {
        if judge(copy, Some(live), books) == Verdict::Expire {
            assert!(live.has_start_by, "{copy:?} {live:?}");
        }
    }
}

#[test]
fn a_final_state_only_settles() {
    for (copy, live, books) in everything() {
        let verdict = judge(copy, Some(live), books);
        assert_eq!(verdict == Verdict::Settle, live.state.is_final(), "{copy:?} {live:?}");
    }
}

#[test]
fn a_lost_record_is_rebuilt_from_whatever_copy_comes() {
    for source in SOURCES {
        let copy = CopyFacts { attempt: 2, source, is_redelivered: false };
        let expected = match source {
            Source::SubmitExpired => Verdict::Expire,
            _ => Verdict::Rebuild,
        };
        assert_eq!(judge(copy, None, Books::default()), expected);
    }
}

#[test]
fn a_newer_copy_than_the_record_is_adopted() {
    for (copy, live, books) in everything() {
        if copy.attempt > live.attempt && !live.state.is_final() {
            assert_eq!(judge(copy, Some(live), books), Verdict::Adopt);
        }
    }
}
