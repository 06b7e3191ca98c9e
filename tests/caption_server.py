# SPDX-License-Identifier: Apache-2.0
"""A server on the loopback that speaks as much of the OpenAI protocol as captions need, and can be made to fail.

An answer is a pure function of the request's pictures and schema. A fault hits a question either the first time it is
asked (`once`) or every time.
"""

import hashlib
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENGLISH = "The light of the scene falls on {word}, and it is seen from the side while the camera stays with it."
GERMAN = "Das Licht der Szene liegt auf {word}, und man sieht es von der Seite, weil die Kamera dabei bleibt."
FAULTS = ("429", "500", "stall", "empty", "truncated", "missing", "control", "fence", "language", "prose")
STALL_S = 30.0


class CaptionServer:
    """What was asked, and which fault comes next.

    Args:
        chances: given the text of a yes-or-no question, the likeliest tokens and their probabilities.
        fault: given a question's hash (of pictures and schema) and how often it was asked before, a name of FAULTS or
            None.
    """

    def __init__(self) -> None:
        self.fault: Callable[[str, int], str | None] = lambda key, times: None
        self.chances: Callable[[str], list[tuple[str, float]]] = lambda question: [("Yes", 0.5), ("No", 0.5)]
        self.requests: list[dict[str, Any]] = []
        self.num_open = self.most_open = 0
        self.times: Counter[str] = Counter()
        self.url = ""
        self.delay_s = 0.0
        self.released = threading.Event()
        self._lock = threading.Lock()

    def reset(self, fault: Callable[[str, int], str | None] = lambda key, times: None) -> None:
        self.released.set()  # what still stalls belongs to another test
        self.released = threading.Event()
        self.fault, self.requests, self.times, self.most_open = fault, [], Counter(), 0

    def answer(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        if request.get("logprobs"):
            return 200, self._judged(request)
        key = _key(request)
        with self._lock:
            self.requests.append(request)
            fault = self.fault(key, self.times[key])
            self.times[key] += 1
        if fault in ("429", "500"):
            return int(fault), {"error": {"message": f"fault {fault}", "type": "fault"}}
        if fault == "stall":
            self.released.wait(STALL_S)
            return 200, _faulty(None, request, key)
        with self.counted():
            time.sleep(self.delay_s)
            return 200, _completion(None, "stop") if fault == "empty" else _faulty(fault, request, key)

    def _judged(self, request: dict[str, Any]) -> dict[str, Any]:
        """One token and the chances that `chances` gives it and others; a server without scores says null."""
        with self._lock:
            self.requests.append(request)
        found = self.chances(request["messages"][-1]["content"][-1]["text"])
        completion = _completion("Yes", "length")
        tokens = [{"token": token, "logprob": math.log(chance), "bytes": None} for token, chance in found]
        scores = {"content": [{**tokens[0], "top_logprobs": tokens}], "refusal": None} if tokens else None
        completion["choices"][0]["logprobs"] = scores
        return completion

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self.num_open += 1
            self.most_open = max(self.most_open, self.num_open)
        try:
            yield
        finally:
            with self._lock:
                self.num_open -= 1


def _faulty(fault: str | None, request: dict[str, Any], key: str) -> dict[str, Any]:
    schema = request["response_format"]["json_schema"]["schema"]
    sentence = GERMAN if fault == "language" else ENGLISH
    found = _example(schema, schema, sentence.format(word=f"thing {key[:6]}"))
    if fault == "missing":
        found.popitem()
    text = json.dumps(found, ensure_ascii=False)
    if fault == "truncated":
        return _completion(text[: len(text) // 2], "length")
    if fault == "control":
        text = text.replace("scene", "sce\x07ne")
    if fault == "fence":
        text = f"```json\n{text}\n```"
    if fault == "prose":
        text = f"Here is the JSON you asked for: {text}"
    return _completion(text, "stop")


def _example(schema: dict[str, Any], root: dict[str, Any], text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, part in schema["properties"].items():
        if "$ref" in part:
            found[name] = _example(root["$defs"][part["$ref"].rpartition("/")[2]], root, text)
        elif part["type"] == "array":
            found[name] = part["items"]["enum"][:1]
        else:
            found[name] = part["enum"][0] if "enum" in part else f"{text} ({name})"
    return found


def _completion(text: str | None, finish_reason: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [] if text is None else [choice],
        "usage": usage,
    }


def _key(request: dict[str, Any]) -> str:
    """The question without what was said about refused answers."""
    first = json.dumps(request["messages"][:2]) + json.dumps(request["response_format"])
    return hashlib.blake2b(first.encode(), digest_size=8).hexdigest()


@contextmanager
def caption_server() -> Iterator[CaptionServer]:
    """A running server."""
    server = CaptionServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request["authorization"] = self.headers.get("Authorization")
            status, body = server.answer(request)
            data = json.dumps(body).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client had stopped waiting

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        http.shutdown()
        http.server_close()
