//! Bad handlers files.

use taskyard_tests::{EVENTUALLY, Yard};

#[tokio::test]
async fn all_that_is_wrong_with_a_file_is_said_at_once() -> anyhow::Result<()> {
    let handlers = r#"
        [[handler]]
        kind = "a"
        exec = ["no-such-program-here"]
        http = "http://localhost/"

        [[handler]]
        kind = "b"
        http = "localhost:80"
        colour = "red"

        [[handler]]
        kind = "c"
        resident = ["no-such-program-here"]
        headers = { A = "b" }
        recycle_after = 0
    "#;
    let yard =
        Yard::builder().worker(|w| w.id("w1").handlers(handlers)).start_without_waiting().await?;
    let status = yard.worker("w1").wait_exit(EVENTUALLY).await?;
    assert_eq!(status.code(), Some(64));
    let log = yard.worker("w1").log();
    for part in [
        "handler 1 (a): exec, http and resident exclude each other",
        "handler 2 (b): http: \"localhost:80\" begins with neither",
        "handler 2 (b): there is no key colour",
        "handler 3 (c): recycle_after must be at least 1",
        "handler 3 (c): the program \"no-such-program-here\" cannot be found",
        "handler 3 (c): headers does not go with what it does",
    ] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    yard.discard();
    Ok(())
}
