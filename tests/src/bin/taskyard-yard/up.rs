//! A system that stays until Ctrl-C.

use std::time::Duration;

use taskyard_tests::{Process, Yard};

use crate::{
    Failure,
    system::{self, WORKERS, until_interrupted},
};

/// How often it is looked whether all programs run.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Starts the system, prints how to reach it, and keeps it running: a program that ends is started
/// again, as a supervisor would, so killing one is a fine experiment.
pub(crate) async fn run() -> Result<(), Failure> {
    let yard = system::start().await?;
    describe(&yard);
    let outcome = until_interrupted(keep(&yard)).await;
    match outcome {
        Err(Failure::Interrupted) => {
            yard.discard();
            println!("\nEverything is cleaned up.");
            Ok(())
        }
        Err(other) => Err(other),
        Ok(error) => Err(Failure::Unavailable(error)),
    }
}

/// Never returns but with an error.
async fn keep(yard: &Yard) -> anyhow::Error {
    loop {
        let servers = [yard.servers().rabbitmq().process(), yard.servers().redis().process()];
        for process in yard.processes().chain(servers) {
            if let Err(error) = keep_one(process) {
                return error;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn keep_one(process: &Process) -> anyhow::Result<()> {
    if process.is_running()? {
        return Ok(());
    }
    println!("{} has ended; starting it again. Its log ended with:", process.name());
    println!("{}", process.log_tail(5));
    process.start()
}

fn describe(yard: &Yard) {
    let (amqp, redis) = (yard.place().amqp_url(), yard.place().redis_url());
    println!("\nRunning, logs and files in {}", yard.folder().display());
    println!("  RabbitMQ    {amqp}");
    println!("  Redis       {redis}");
    for number in 0..yard.dispatcher_count() {
        let (process, http) = (yard.dispatcher(number), yard.http(number));
        println!("  {}  http://{http}  pid {}", process.name(), pid(process));
    }
    for (id, weight) in WORKERS {
        println!("  {id}  weight {weight}  pid {}", pid(yard.worker(id)));
    }
    println!("\nIn another shell:");
    println!("  export TASKYARD_AMQP_URL='{amqp}' TASKYARD_REDIS_URL='{redis}'");
    println!("  target/release/taskyard submit echo --data hello --wait");
    println!(
        "  target/release/taskyard workers; target/release/taskyard stats; target/release/taskyard --help"
    );
    println!("  amqp-publish -u '{amqp}' -e taskyard.tasks -r echo -b hello");
    println!("  redis-cli -u '{redis}' ZREVRANGE taskyard:recent:succeeded 0 9");
    println!("  redis-cli -u '{redis}' HGETALL taskyard:task:ID");
    println!("  kill -9 {}   # a worker dies; it is started again", pid(yard.worker(WORKERS[0].0)));
    println!(
        "\nKinds: echo (returns its payload), sleep ({{\"ms\":50}}), fail ({{\"failures\":2}}),"
    );
    println!("       file.sha256 (a path). Ctrl-C ends and removes everything.");
}

fn pid(process: &Process) -> String {
    process.pid().map(|pid| pid.to_string()).unwrap_or_default()
}
