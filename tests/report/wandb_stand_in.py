"""A W&B server on this machine that keeps what it is sent, and can stop answering."""

import contextlib
import http.server
import json
import threading


class StandIn(http.server.ThreadingHTTPServer):
    """Keeps runs by id: group, display name, config, history rows.

    Attributes:
      runs: what was sent, by run id.
      answering: set it False and every request fails from then on.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs, self.answering, self.refused = {}, True, 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def stand_in():
    """A running server, stopped at the end."""
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def _answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.server.answering:
            self.server.refused += 1
            self._answer({}, 500)
        elif self.path == "/graphql":
            request = json.loads(body)
            answer = getattr(self, f"_{request.get('operationName')}", lambda _: {})
            self._answer({"data": answer(request.get("variables") or {})})
        else:
            if self.path.endswith("/file_stream"):
                self._stream(self.path.split("/")[-2], json.loads(body))
            self._answer({})

    do_GET = do_PUT = do_POST

    def _stream(self, run_id, message):
        sent = (message.get("files") or {}).get("wandb-history.jsonl")
        if sent:
            history = self.server.runs[run_id]["history"]
            del history[sent["offset"] :]
            history.extend(map(json.loads, sent["content"]))

    def _RunResumeStatus(self, variables):
        run = self.server.runs.get(variables["name"])
        bucket = None
        if run:
            tail = json.dumps([json.dumps(row) for row in run["history"][-1:]])
            bucket = {
                "id": "x",
                "name": variables["name"],
                "displayName": run["name"],
                "summaryMetrics": "{}",
                "config": "{}",
                "wandbConfig": '{"t": 1}',
                "logLineCount": 0,
                "eventsLineCount": 0,
                "eventsTail": "[]",
                "historyLineCount": len(run["history"]),
                "historyTail": tail,
                "tags": [],
            }
        project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "somebody"}}
        return {"model": project | {"bucket": bucket}}

    def _UpsertBucket(self, variables):
        run = self.server.runs.setdefault(variables["name"], {"history": [], "starts": 0})
        if variables.get("groupName"):
            run["starts"] += 1
            run["group"] = variables["groupName"]
            run["name"] = variables["displayName"]
            run["tags"] = variables["tags"]
        run["config"] = json.loads(variables["config"])
        project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "somebody"}}
        bucket = {
            "id": "x",
            "name": variables["name"],
            "displayName": run["name"],
            "description": "",
            "config": variables["config"],
            "sweepName": None,
            "project": project,
            "historyLineCount": len(run["history"]),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _CreateRunFiles(self, variables):
        files = [
            {"name": name, "uploadUrl": f"{self.server.url}/upload/{name}"}
            for name in variables["files"]
        ]
        return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": files}}
