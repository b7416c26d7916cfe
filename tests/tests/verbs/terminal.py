"""Runs a program on a pseudo terminal, presses keys when it shows what is waited for, and says how it
left the terminal.

Arguments: ROWS COLUMNS STEPS PROGRAM ARGUMENT…; STEPS is JSON: a list of objects with "wait" (texts that
the screen shall show, all of them), and one of "keys", "size" ([rows, columns]), "signal".
"""

import fcntl, json, os, pty, re, select, signal, struct, sys, termios, time

LIMIT_S = 60


class Screen:
    """As much of a terminal as our programs use."""

    def __init__(self, rows, columns):
        self.text, self.alternate = "", False
        self.resize(rows, columns)

    def resize(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.clear()

    def clear(self):
        self.cells = [[" "] * self.columns for _ in range(self.rows)]
        self.row = self.column = 0

    def feed(self, text):
        self.text += text
        while self.text:
            escape = re.match(r"\x1b\[([?0-9;]*)([A-Za-z])", self.text)
            if escape:
                self.obey(escape[1], escape[2])
                self.text = self.text[escape.end() :]
            elif self.text[0] == "\x1b":
                if len(self.text) < 32 and not re.match(r"\x1b[^\[]", self.text):
                    return  # the rest is still to come
                self.text = self.text[2:]
            else:
                self.put(self.text[0])
                self.text = self.text[1:]

    def obey(self, numbers, letter):
        if letter == "H":
            row, column = (numbers.split(";") + ["", ""])[:2]
            self.row, self.column = int(row or 1) - 1, int(column or 1) - 1
        elif letter == "J":
            if numbers == "2":
                self.clear()
            else:
                for row in range(self.row, self.rows):
                    begin = self.column if row == self.row else 0
                    self.cells[row][begin:] = [" "] * (self.columns - begin)
        elif letter == "K":
            self.cells[self.row][0 if numbers == "2" else self.column :] = [" "] * (
                self.columns - (0 if numbers == "2" else self.column)
            )
        elif letter == "A":
            self.row = max(0, self.row - int(numbers or 1))
        elif numbers == "?1049":
            self.alternate = letter == "h"

    def put(self, character):
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row += 1
        elif character >= " ":
            if self.row < self.rows and self.column < self.columns:
                self.cells[self.row][self.column] = character
            self.column += 1
        if self.row >= self.rows:
            self.cells = self.cells[1:] + [[" "] * self.columns]
            self.row = self.rows - 1

    def shown(self):
        return "\n".join("".join(row).rstrip() for row in self.cells)


def set_size(terminal, rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def main():
    rows, columns, steps = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    master, slave = pty.openpty()
    set_size(slave, rows, columns)
    before = termios.tcgetattr(slave)
    child = os.fork()
    if child == 0:
        os.login_tty(slave) if hasattr(os, "login_tty") else login(slave)
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.argv[4], sys.argv[4:])
    screen, seen_alternate, raw = Screen(rows, columns), False, b""

    def read(limit_s):
        nonlocal seen_alternate, raw
        if not select.select([master], [], [], limit_s)[0]:
            return
        try:
            data = os.read(master, 1 << 16)
        except OSError:
            return
        raw += data
        screen.feed(decoder.decode(data))
        seen_alternate |= screen.alternate

    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for step in steps:
        deadline = time.monotonic() + LIMIT_S
        while not all(text in screen.shown() for text in step["wait"]):
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                sys.exit(f"waited for {step['wait']} in vain; the screen shows:\n{screen.shown()}")
            read(0.1)
        if "keys" in step:
            os.write(master, step["keys"].encode())
        elif "size" in step:
            screen.resize(*step["size"])
            set_size(master, *step["size"])
            os.kill(child, signal.SIGWINCH)
        elif "signal" in step:
            os.kill(child, getattr(signal, step["signal"]))
    deadline = time.monotonic() + LIMIT_S
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        read(0.1)
        if ended:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            sys.exit(f"it did not end; the screen shows:\n{screen.shown()}")
    print(
        json.dumps(
            {
                "code": os.waitstatus_to_exitcode(status),
                "was_full_screen": seen_alternate,
                "is_full_screen": screen.alternate,
                "is_as_before": termios.tcgetattr(slave) == before,
                "has_colours": re.search(rb"\x1b\[[0-9;]*3[1-6]", raw) is not None
                or re.search(rb"\x1b\[38;5;", raw) is not None,
                "screen": screen.shown(),
            }
        )
    )


def login(slave):
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for descriptor in range(3):
        os.dup2(slave, descriptor)


main()
