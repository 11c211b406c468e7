"""The old prototype's design, as a yardstick: line-buffered Popen, two reader threads an instance, queues.

Usage: prototype.py COUNT PROMPTS PROMPT_JSON PROGRAM [ARG...]; prints prompts per second.
"""

import queue
import subprocess
import sys
import threading
import time


class Instance:
    def __init__(self, command):
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.stdout = queue.Queue()
        self.stderr = queue.Queue()
        for stream, lines in ((self.process.stdout, self.stdout), (self.process.stderr, self.stderr)):
            threading.Thread(target=self.read, args=(stream, lines), daemon=True).start()

    @staticmethod
    def read(stream, lines):
        for line in iter(stream.readline, ""):
            lines.put(line)

    def send(self, line):
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def reply(self, end):
        lines = []
        while True:
            line = self.stdout.get()
            if line == end:
                return lines
            lines.append(line)


def main():
    count, prompts, text = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    instances = [Instance(sys.argv[4:]) for _ in range(count)]
    for instance in instances:
        assert instance.stdout.get() == "standin ready\n"
    nonce = "0123456789abcdef0123456789abcdef"
    request, end = f"{nonce} {text}\n", f"{nonce} end\n"
    begun = time.monotonic()
    done = 0
    while done < prompts:
        # One prompt on each instance, then one reply from each: as busy as its round-robin could keep them.
        for instance in instances:
            instance.send(request)
        for instance in instances:
            instance.reply(end)
        done += count
    print(done / (time.monotonic() - begun))
    for instance in instances:
        instance.process.stdin.close()
        instance.process.wait()


main()
