"""Runs seed-client.py as it stands, with this pod in the place of http://localhost:8000."""

import os
import runpy
import sys

import httpx

pod = os.environ["POD_URL"]
made = httpx.Client.__init__


def elsewhere(self, *args, base_url="", **options):
    made(self, *args, base_url=str(base_url).replace("http://localhost:8000", pod), **options)


httpx.Client.__init__ = elsewhere
names = runpy.run_path(sys.argv[1])

assert names["step_id"].startswith("step_"), names["step_id"]
status = names["status"]
assert status["step_id"] == names["step_id"], status
assert status["status"] in ("pending", "claimed", "completed"), status
assert status["payload"] == {"type": "data_processing", "args": {"file": "data.csv"}, "metadata": {}}, status
assert (status["priority"], status["max_retries"]) == (0, 3), status

stats = names["client"].get_queue_stats()
assert stats["active_pods"] == 1, stats
assert set(stats["pod_capacity"]) == {stats["current_leader"]}, stats

urgent = names["client"].submit_step("hello_world", {"name": "Ada"}, priority=7, max_retries=0)
assert names["client"].get_step_status(urgent)["priority"] == 7
try:
    names["client"].get_step_status("step_of_nobody")
    raise SystemExit("an unknown step was found")
except httpx.HTTPStatusError as error:
    assert error.response.status_code == 404, error
print("the client of the seed works")
