use super::*;

fn read(text: &str) -> anyhow::Result<Vec<Handler>> {
    parse(text, || crate::endpoint::client(None))
}

#[track_caller]
fn refusal(text: &str) -> String {
    format!("{:#}", read(text).err().expect("it is refused"))
}

#[test]
fn a_whole_entry_is_read() {
    let text = r#"
        [[handler]]
        kind = "image.#"
        exec = ["sh", "-c", "cat"]
        timeout_ms = 5
        dir = "/"
        env = { A = "b" }
        concurrency = 2
        memory_max = "1g"
        cpu_seconds_max = 7
    "#;
    let [Handler { kind, action: Action::Exec(exec), .. }] = &read(text).unwrap()[..] else {
        panic!("one program")
    };
    assert_eq!((kind.as_str(), exec.timeout), ("image.#", Some(Duration::from_millis(5))));
    assert_eq!(exec.program.exec, ["sh", "-c", "cat"]);
    assert_eq!(
        (exec.program.env["A"].as_str(), exec.program.dir.as_deref()),
        ("b", Some(Path::new("/")))
    );
    let limits = exec.program.limits;
    assert_eq!((limits.memory_max, limits.cpu_seconds_max), (Some(1 << 30), Some(7)));
}

#[test]
fn each_action_is_read() {
    let text = r#"
        [[handler]]
        kind = "a"
        http = "https://example.org/run?x=1"
        headers = { X-Api-Version = "2", Authorization = { env = "PATH" } }
        [[handler]]
        kind = "b"
        resident = ["sh", "-c", "cat"]
        recycle_after = 100
        [[handler]]
        kind = "c"
        exec = ["sh"]
    "#;
    let [a, b, c] = &read(text).unwrap()[..] else { panic!("three handlers") };
    let (Action::Http(http), Action::Resident(_), Action::Exec(exec)) =
        (&a.action, &b.action, &c.action)
    else {
        panic!("one of each")
    };
    assert_eq!(http.url.as_str(), "https://example.org/run?x=1");
    assert_eq!(http.headers["x-api-version"], "2");
    assert_eq!(http.headers["authorization"], std::env::var("PATH").unwrap());
    assert!(http.headers["authorization"].is_sensitive());
    assert!(exec.program.hidden.contains("PATH"), "it was given to another handler");
}

#[test]
fn all_problems_are_reported_together() {
    let text = r#"
        [[handler]]
        kind = "a b"
        exec = []
        timeout_ms = 0
        concurrency = 0
        dir = "/none"
        [[handler]]
        kind = "x"
        exec = ["no-such-program-here"]
        env = { A = 1, B = { env = "TASKYARD_NO_SUCH_VARIABLE" } }
        [[handler]]
        kind = "y"
        exec = ["/none/such"]
        memory_max = "much"
        [[handler]]
        kind = "z"
        exek = ["sh"]
        [[handler]]
        kind = "zz"
        exec = ["sh"]
        recycle_after = 3
        colour = "red"
    "#;
    let error = refusal(text);
    for part in [
        "handler 1 (a b): ",
        "' '",
        "exec names no program",
        "timeout_ms must be at least 1",
        "concurrency must be at least 1",
        "/none is no",
        "no-such",
        "env.A is neither",
        "env.B: the environment has no text named TASKYARD_NO_SUCH_VARIABLE",
        "/none/such",
        "\"much\" is no size",
        "handler 4 (z): what is it to do?",
        "recycle_after does not go with",
        "there is no key colour",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(refusal("").contains("there is no [[handler]]"));
    assert!(refusal("[[handlers]]").contains("no key handlers"));
    assert!(refusal("handler = 3").contains("no list"));
}

#[test]
fn two_actions_in_one_handler_are_refused() {
    let error = refusal("[[handler]]\nkind = 'a'\nexec = ['sh']\nhttp = 'http://h/'\n");
    assert!(error.contains("exclude each other"), "{error}");
}

#[test]
fn bad_endpoints_are_refused_for_what_they_are() {
    for (url, why) in [
        ("example.org/x", "no URL"),
        ("ftp://example.org/", "neither http:// nor https://"),
        ("http://me:secret@example.org/", "Authorization"),
        ("http://", "no URL"),
    ] {
        let error = refusal(&format!("[[handler]]\nkind = 'a'\nhttp = '{url}'\n"));
        assert!(error.contains(why), "{url}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
    for (name, value, why) in [
        ("a b", "x", "is no name of a header"),
        ("X-Task-Id", "x", "set by the worker"),
        ("A", "a\u{1}secret", "a value that no header can"),
    ] {
        let headers = format!("headers = {{ {name:?} = {:?} }}", value.replace('\u{1}', "\\u0001"));
        let headers = headers.replace("\\\\u", "\\u");
        let error = refusal(&format!("[[handler]]\nkind = 'a'\nhttp = 'http://h/'\n{headers}\n"));
        assert!(error.contains(why) && !error.contains("secret"), "{name}: {error}");
    }
}

#[test]
fn users_are_checked() {
    let entry = |more: &str| format!("[[handler]]\nkind = 'a'\nexec = ['sh']\n{more}\n");
    assert!(refusal(&entry("user = 'no-such-user-here'")).contains("no user no-such-user-here"));
    assert!(refusal(&entry("uid = 1")).contains("needed both"));
    assert!(refusal(&entry("user = 'root'\nuid = 1\ngid = 1")).contains("user says it all"));
    // Whoever runs the tests.
    let read = read(&entry("uid = 65534\ngid = 65534"));
    match nix::unistd::geteuid().is_root() {
        true => assert!(read.is_ok()),
        false => assert!(format!("{:#}", read.err().unwrap()).contains("runs as root")),
    }
}

#[test]
fn processor_time_of_a_resident_program_is_refused() {
    let error = refusal("[[handler]]\nkind = 'a'\nresident = ['sh']\ncpu_seconds_max = 3\n");
    assert!(error.contains("timeout_ms"), "{error}");
}
