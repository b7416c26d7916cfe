// Stays and takes many tasks: a line of JSON in for each, lines of JSON out. Ends when its input ends.
const readline = require("node:readline");

const say = (task, words) => process.stdout.write(JSON.stringify({ id: task.id, ...words }) + "\n");

const payload = (task) =>
  "payload" in task ? Buffer.from(task.payload) : Buffer.from(task.payload_base64, "base64");

const handlers = {
  "js.resident.sum": async (task) => JSON.parse(payload(task)).reduce((a, b) => a + b, 0),
  "js.resident.pid": async () => ({ pid: process.pid }),
};

async function run(task) {
  try {
    const handler = handlers[task.kind];
    if (!handler) return say(task, { error: `no such kind: ${task.kind}`, retryable: false });
    say(task, { log: `attempt ${task.attempt}` });
    say(task, { ok: true, result: await handler(task) });
  } catch (error) {
    // A payload that is no JSON stays so.
    say(task, { error: String(error), retryable: !(error instanceof SyntaxError) });
  }
}

readline.createInterface({ input: process.stdin }).on("line", (line) => run(JSON.parse(line)));
