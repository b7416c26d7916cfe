"""Stays and takes many tasks: a line of JSON in for each, lines of JSON out. Ends when its input ends."""
import base64, json, os, sys


class Permanent(Exception):
    """What no other attempt mends."""


def say(task, **words):
    print(json.dumps({"id": task["id"], **words}), flush=True)  # unflushed, nobody hears it


def upper(task):
    return payload(task).decode().upper()


def reverse(task):
    return payload(task)[::-1]


def pid(task):
    return {"pid": os.getpid(), "attempt": task["attempt"]}


def payload(task):
    if "payload" in task:
        return task["payload"].encode()
    return base64.b64decode(task["payload_base64"])  # what is no UTF-8


HANDLERS = {"py.resident.upper": upper, "py.resident.reverse": reverse, "py.resident.pid": pid}

for line in sys.stdin:
    task = json.loads(line)
    try:
        if task["kind"] not in HANDLERS:
            raise Permanent(f"no such kind: {task['kind']}")
        say(task, progress=50, note="working")
        result = HANDLERS[task["kind"]](task)
        if isinstance(result, bytes):
            say(task, ok=True, result_base64=base64.b64encode(result).decode())
        else:
            say(task, ok=True, result=result)
    except Permanent as error:
        say(task, error=str(error), retryable=False)
    except Exception as error:
        say(task, error=f"{type(error).__name__}: {error}")
