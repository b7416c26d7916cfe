"""Counts words: text in, JSON out. Says how far it is while it runs."""
import collections, json, os, sys


def report(**words):
    os.write(int(os.environ["TASKYARD_REPORT_FD"]), json.dumps(words).encode() + b"\n")


try:
    text = sys.stdin.buffer.read().decode()
except UnicodeDecodeError as error:
    print(f"no text: {error}", file=sys.stderr)
    sys.exit(os.EX_DATAERR)  # 65: not retried

counts = collections.Counter()
lines = text.splitlines()
for number, line in enumerate(lines, 1):
    counts.update(line.lower().split())
    report(progress=100 * number // len(lines), note=f"line {number} of {len(lines)}")
report(log=f"{len(counts)} different words")
json.dump(counts, sys.stdout)
