// BullMQ: see docs/peers.md for the settings and why. Arguments and environment as in ../measure.py:
//
//     node bench.mjs single|bulk|drain|idle TASKS
//
// and BENCH_MODULES, the folder with node_modules. The same file is the worker: node bench.mjs worker.

import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const { BENCH_NAME: NAME, BENCH_REDIS_URL: REDIS_URL } = process.env;
const { BENCH_REPORT: REPORT, BENCH_MODULES: MODULES } = process.env;
const require = createRequire(`${MODULES}/`);
const { Queue, QueueEvents, Worker } = require("bullmq");
const { Redis } = require("ioredis");

const PAYLOAD_BYTES = 100;
// Submissions under way at once.
const AT_ONCE = 200;
// Tasks of a worker at once.
const CONCURRENCY = 100;
// Tasks of one call in `bulk`: as many as in a message of Taskyard's.
const BULK = 100;
// How often Redis is asked, and how long at most: as for Taskyard.
const LOOK_EVERY_MS = 5;
const LIMIT_MS = 300_000;
const READ_AT_ONCE = 1000;

const connect = () => new Redis(REDIS_URL, { maxRetriesPerRequest: null });
const redis = connect();

async function work() {
  const worker = new Worker(NAME, async (job) => job.data.text, {
    connection: redis,
    concurrency: CONCURRENCY,
  });
  worker.on("error", (error) => console.error(error));
  process.once("SIGTERM", () => worker.close().then(() => process.exit(0)));
}

const payloads = (count, name = NAME) =>
  Array.from({ length: count }, (_, number) => `${name}-${number}`.padEnd(PAYLOAD_BYTES, "x"));

// Submits, each confirmed by Redis; returns the ids in the order of the payloads.
async function submit(queue, texts) {
  const ids = [];
  let next = 0;
  const submitter = async () => {
    while (next < texts.length) {
      const number = next++;
      ids[number] = (await queue.add("echo", { text: texts[number] })).id;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, submitter));
  return ids;
}

async function submitBulk(queue, texts) {
  const ids = [];
  for (let from = 0; from < texts.length; from += BULK) {
    const some = texts.slice(from, from + BULK);
    const jobs = await queue.addBulk(some.map((text) => ({ name: "echo", data: { text } })));
    ids.push(...jobs.map((job) => job.id));
  }
  return ids;
}

// Runs `body` while a worker runs.
async function withWorker(body) {
  const worker = spawn(process.execPath, [fileURLToPath(import.meta.url), "worker"], {
    stdio: "inherit",
  });
  let isOver = false;
  const ended = new Promise((_, reject) => {
    worker.once("exit", (code) => isOver || reject(new Error(`the worker has ended with ${code}`)));
  });
  try {
    return await Promise.race([body(), ended]);
  } finally {
    isOver = true;
    worker.kill();
  }
}

// Waits until so many are completed; what is not by the limit is lost, and found by `faults`.
async function completed(queue, count) {
  const begun = performance.now();
  let seen = 0;
  while ((seen = await queue.getCompletedCount()) < count) {
    if (performance.now() - begun > LIMIT_MS) break;
    await sleep(LOOK_EVERY_MS);
  }
  return seen;
}

// How many are missing, and how many are not what was sent.
async function faults(queue, ids, texts) {
  const found = { missing: 0, wrong: 0 };
  for (let from = 0; from < ids.length; from += READ_AT_ONCE) {
    const pipeline = redis.pipeline();
    const some = ids.slice(from, from + READ_AT_ONCE);
    some.forEach((id) => pipeline.hget(queue.toKey(id), "returnvalue"));
    for (const [offset, [error, kept]] of (await pipeline.exec()).entries()) {
      if (error) throw error;
      if (kept === null) found.missing += 1;
      else if (JSON.parse(kept) !== texts[from + offset]) found.wrong += 1;
    }
  }
  return found;
}

// Connections, scripts, compiled code. Returns how many are completed by now.
async function warmUp(queue, count) {
  const texts = payloads(Math.max(Math.floor(count / 10), 100), `${NAME}-warm`);
  await submit(queue, texts);
  return completed(queue, texts.length);
}

// Producer and worker at once: first submit to last result.
async function throughput(queue, count, submitAll) {
  const texts = payloads(count);
  return withWorker(async () => {
    const before = await warmUp(queue, count);
    const begun = performance.now();
    const ids = await submitAll(queue, texts);
    await completed(queue, before + count);
    const seconds = (performance.now() - begun) / 1000;
    return { tasks: count, seconds, ...(await faults(queue, ids, texts)) };
  });
}

// A backlog: first result to last, so the start of the worker is not counted.
async function drain(queue, count) {
  const texts = payloads(count);
  const ids = await submit(queue, texts);
  return withWorker(async () => {
    const before = await completed(queue, 1);
    const begun = performance.now();
    await completed(queue, count);
    const seconds = (performance.now() - begun) / 1000;
    return { tasks: count - before, seconds, ...(await faults(queue, ids, texts)) };
  });
}

// One task at a time: submit to result.
async function idle(queue, count) {
  const events = new QueueEvents(NAME, { connection: connect() });
  await events.waitUntilReady();
  const texts = payloads(count);
  return withWorker(async () => {
    await warmUp(queue, count);
    const took_ms = [];
    let wrong = 0;
    for (const text of texts) {
      const begun = performance.now();
      const job = await queue.add("echo", { text });
      const result = await job.waitUntilFinished(events, LIMIT_MS);
      took_ms.push(performance.now() - begun);
      wrong += result === text ? 0 : 1;
    }
    return { took_ms, missing: 0, wrong };
  });
}

const MEASURES = {
  single: (queue, count) => throughput(queue, count, submit),
  bulk: (queue, count) => throughput(queue, count, submitBulk),
  drain,
  idle,
};

// By its file: packages need not export their package.json.
const version = (name) =>
  JSON.parse(readFileSync(`${MODULES}/node_modules/${name}/package.json`)).version;

const [what, count] = process.argv.slice(2);
if (what === "worker") {
  await work();
} else {
  const queue = new Queue(NAME, { connection: redis });
  const report = await MEASURES[what](queue, Number(count));
  const packages = ["bullmq", "ioredis"].map((name) => [name, version(name)]);
  report.versions = { node: process.versions.node, ...Object.fromEntries(packages) };
  writeFileSync(REPORT, JSON.stringify(report));
  process.exit(0);
}
