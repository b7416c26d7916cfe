//! What may be wrong with a Redis, one thing after the other on one server.

use crate::patient::{Expected, Patient, redis, redis_info};
use anyhow::ensure;
use taskyard_tests::{Place, Servers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What makes something wrong, what sets it right again (commands of Redis), and what is found.
type Case<'a> = (&'a [&'a [&'a str]], &'a [&'a [&'a str]], Expected<'a>);

const CASES: &[Case<'_>] = &[
    (
        &[
            &["CONFIG", "SET", "maxmemory", "500mb"],
            &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
        ],
        &[
            &["CONFIG", "SET", "maxmemory", "0"],
            &["CONFIG", "SET", "maxmemory-policy", "noeviction"],
        ],
        ("redis-memory", "problem", "allkeys-lru"),
    ),
    (
        &[&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]],
        &[&["CONFIG", "SET", "maxmemory-policy", "noeviction"]],
        ("redis-memory", "warning", "volatile-ttl"),
    ),
    (
        &[&["CONFIG", "SET", "appendonly", "no"]],
        &[&["CONFIG", "SET", "appendonly", "yes"]],
        ("redis-persistence", "warning", "nothing is written to disk"),
    ),
    (
        &[&["CONFIG", "SET", "appendonly", "no"], &["CONFIG", "SET", "save", "3600 1"]],
        &[&["CONFIG", "SET", "appendonly", "yes"], &["CONFIG", "SET", "save", ""]],
        ("redis-persistence", "warning", "since the last snapshot"),
    ),
    (
        &[&["CONFIG", "SET", "appendfsync", "no"]],
        &[&["CONFIG", "SET", "appendfsync", "everysec"]],
        ("redis-persistence", "warning", "appendfsync no"),
    ),
    (
        &[&["CONFIG", "SET", "appendfsync", "always"]],
        &[&["CONFIG", "SET", "appendfsync", "everysec"]],
        ("redis-persistence", "warning", "appendfsync always"),
    ),
    (
        &[&["CONFIG", "SET", "hash-max-listpack-value", "64"]],
        &[&["CONFIG", "SET", "hash-max-listpack-value", "1024"]],
        ("redis-hashes", "warning", "64"),
    ),
    (
        // Nobody is there to copy from, which makes it no less a replica.
        &[&["REPLICAOF", "127.0.0.1", "1"]],
        &[&["REPLICAOF", "NO", "ONE"]],
        ("redis-role", "problem", "replica of 127.0.0.1:1"),
    ),
];

#[tokio::test]
async fn each_misconfiguration_of_redis_is_found() -> anyhow::Result<()> {
    let servers = Servers::start().await?;
    let place = servers.place().await?;
    let (patient, url) = (Patient::at(&servers, &place), place.redis_url());
    for (wrong, right, expected) in CASES {
        let before = patient.examine(&[], "").await?;
        ensure!(before.find(*expected).is_none(), "{expected:?} before {wrong:?}");
        for words in *wrong {
            redis(url, words).await?;
        }
        let report = patient.wait_for(&[], "", *expected).await?;
        assert_eq!(report.code, Some(i32::from(expected.1 == "problem")), "{report:#?}");
        for words in *right {
            redis(url, words).await?;
        }
    }
    nearly_full(&patient, url).await?;
    replica_that_is_not_online(&patient, servers.redis().port()).await
}

async fn nearly_full(patient: &Patient, url: &str) -> anyhow::Result<()> {
    let used = redis_info(url, "used_memory").await?;
    for (percent, verdict) in [(98, "problem"), (87, "warning"), (50, "ok")] {
        let limit = (used * 100 / percent).to_string();
        redis(url, &["CONFIG", "SET", "maxmemory", &limit]).await?;
        patient.wait_for(&[], "", ("redis-memory", verdict, "percent")).await?;
    }
    redis(url, &["CONFIG", "SET", "maxmemory", "0"]).await?;
    Ok(())
}

/// One that asks for everything and then never says how far it has come.
async fn replica_that_is_not_online(patient: &Patient, port: u16) -> anyhow::Result<()> {
    let mut replica = TcpStream::connect(("127.0.0.1", port)).await?;
    replica.write_all(b"REPLCONF listening-port 1\r\n").await?;
    let mut answer = [0; 5];
    replica.read_exact(&mut answer).await?;
    ensure!(answer == *b"+OK\r\n", "{answer:?}");
    replica.write_all(b"PSYNC ? -1\r\n").await?;
    patient.wait_for(&[], "", ("redis-role", "warning", "the replica 127.0.0.1:1")).await?;
    Ok(())
}

/// A user of Redis with these rules, and the address that it uses.
async fn user(place: &Place, name: &str, rules: &str) -> anyhow::Result<String> {
    let set = format!("ACL SETUSER {name} on >secret {rules}");
    redis(place.redis_url(), &set.split_whitespace().collect::<Vec<_>>()).await?;
    Ok(place.redis_url().replace("redis://", &format!("redis://{name}:secret@")))
}

#[tokio::test]
async fn missing_permissions_of_redis_are_found() -> anyhow::Result<()> {
    let servers = Servers::start().await?;
    let place = servers.place().await?;
    let mut patient = Patient::at(&servers, &place);
    let dispatcher = "~taskyard:* ~{taskyard:task:* +@read +@write +@scripting +@connection +info \
                      +config|get +select";
    // Each may a little less than it needs.
    let no_restore = format!("{dispatcher} -restore");
    let no_scripts = dispatcher.replace("+@scripting ", "");
    let no_payloads = dispatcher.replace("~{taskyard:task:* ", "");
    let no_config = dispatcher.replace("+config|get ", "");
    let users: [(&str, &str, &str, Expected<'_>); 8] = [
        ("d1", dispatcher, "dispatcher", ("redis-user", "ok", "")),
        ("d2", &no_restore, "dispatcher", ("redis-user", "warning", "RESTORE")),
        ("d3", &no_scripts, "dispatcher", ("redis-user", "problem", "EVALSHA")),
        ("d4", &no_payloads, "dispatcher", ("redis-user", "problem", "DEL")),
        ("d5", &no_config, "dispatcher", ("redis-hashes", "unknown", "CONFIG GET")),
        (
            "r1",
            "%R~taskyard:* +@read +@connection +info +select",
            "operator",
            ("redis-user", "ok", ""),
        ),
        (
            "r2",
            "%R~taskyard:* +@connection +info +select",
            "submitter",
            ("redis-user", "problem", "HGETALL"),
        ),
        (
            "r3",
            "%R~taskyard:* +@read +@connection +select",
            "operator",
            ("redis-version", "unknown", "INFO is forbidden"),
        ),
    ];
    for (name, rules, role, expected) in users {
        patient.redis_url = user(&place, name, rules).await?;
        let report = patient.examine(&["--role", role], "").await?;
        ensure!(report.find(expected).is_some(), "{name}: {expected:?} is not in {report:#?}");
    }
    // A dispatcher that reads only.
    let report = patient.examine(&["--role", "dispatcher"], "").await?;
    for part in ["HSET", "ZADD", "EVALSHA", "PEXPIREAT"] {
        ensure!(report.find(("redis-user", "problem", part)).is_some(), "{part}: {report:#?}");
    }
    assert_eq!(report.code, Some(1));
    let keys = redis(place.redis_url(), &["DBSIZE"]).await?;
    assert_eq!(keys, "int(0)", "the doctor wrote something");
    Ok(())
}

#[tokio::test]
async fn a_node_of_a_cluster_is_found() -> anyhow::Result<()> {
    let servers = Servers::builder()
        .redis_arg("cluster-enabled", "yes")
        // A cluster has one database.
        .redis_arg("databases", "1")
        .start()
        .await?;
    let place = servers.place().await?;
    let mut patient = Patient::at(&servers, &place);
    patient.redis_url = servers.redis().url(0);
    let report = patient.examine(&[], "").await?;
    ensure!(report.find(("redis-role", "problem", "Cluster")).is_some(), "{report:#?}");
    Ok(())
}
