// Turns text into a title. A thrown error is exit code 1: the task is tried again.
const fs = require("node:fs");

function report(words) {
  fs.writeSync(Number(process.env.TASKYARD_REPORT_FD), JSON.stringify(words) + "\n");
}

const text = fs.readFileSync(0, "utf8");
if (text.trim() === "") {
  console.error("there is nothing to make a title of");
  process.exit(65); // not retried
}
report({ progress: 50, note: "writing" });
report({ log: `${text.length} characters` });
process.stdout.write(text.replace(/\p{L}+/gu, (word) => word[0].toUpperCase() + word.slice(1)));
