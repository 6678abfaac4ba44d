"""Submits a step, asks why it waits, and waits for its end. Needs httpx and a pod that runs (npm start).

    python examples/12-client.py [http://localhost:8000]
"""

import sys
import time
import uuid

import httpx


class FleetQ:
    def __init__(self, base_url: str, token: str | None = None):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=base_url, headers=headers, timeout=10)

    def submit(self, type: str, args: dict, key: str, **options) -> str:
        """The key makes it safe to send this again after a network error."""
        headers = {"idempotency-key": key}
        answer = self.http.post("/submit", json={"type": type, "args": args, **options}, headers=headers)
        answer.raise_for_status()
        return answer.json()["step_id"]

    def status(self, step_id: str) -> dict:
        return self.http.get(f"/status/{step_id}").raise_for_status().json()

    def why(self, step_id: str) -> str:
        return self.http.get(f"/why/{step_id}").raise_for_status().json()["sentence"]

    def wait(self, step_id: str, seconds: float = 30) -> dict:
        until = time.monotonic() + seconds
        while True:
            status = self.status(step_id)
            if status["tray"] == "settled":
                return status
            if time.monotonic() > until:
                raise TimeoutError(self.why(step_id))
            time.sleep(0.1)


fleet = FleetQ(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000")

key = str(uuid.uuid4())
step = fleet.submit("hello_world", {"name": "Ada"}, key)
print(step == fleet.submit("hello_world", {"name": "Ada"}, key))
print(fleet.wait(step)["result"])

later = fleet.submit("hello_world", {}, str(uuid.uuid4()), delay_seconds=3600)
print(fleet.why(later))

# It prints:
# True
# {'greeting': 'Hello, Ada!'}
# It is due in 1.0 h, at 2026-11-20T15:31:41.408Z: that is when its submitter wants it.
