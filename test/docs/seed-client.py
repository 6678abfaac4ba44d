import httpx
from typing import Dict, Any, Optional

class FleetQClient:
    def __init__(self, base_url: str = "http://localhost:8000"):
        self.client = httpx.Client(base_url=base_url)
    
    def submit_step(self, step_type: str, args: Dict[str, Any], 
                   priority: int = 0, max_retries: int = 3) -> str:
        response = self.client.post("/submit", json={
            "type": step_type,
            "args": args,
            "priority": priority,
            "max_retries": max_retries
        })
        response.raise_for_status()
        return response.json()["step_id"]
    
    def get_step_status(self, step_id: str) -> Dict[str, Any]:
        response = self.client.get(f"/status/{step_id}")
        response.raise_for_status()
        return response.json()
    
    def get_queue_stats(self) -> Dict[str, Any]:
        response = self.client.get("/admin/queue")
        response.raise_for_status()
        return response.json()

# Usage
client = FleetQClient()
step_id = client.submit_step("data_processing", {"file": "data.csv"})
status = client.get_step_status(step_id)
