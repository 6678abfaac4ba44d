class FleetQClient {
    constructor(baseUrl = 'http://localhost:8000') {
        this.baseUrl = baseUrl;
    }
    
    async submitStep(type, args, priority = 0, maxRetries = 3) {
        const response = await fetch(`${this.baseUrl}/submit`, {
            method: 'POST',
            headers: {'Content-Type': 'application/json'},
            body: JSON.stringify({
                type,
                args,
                priority,
                max_retries: maxRetries
            })
        });
        
        if (!response.ok) throw new Error(`HTTP ${response.status}`);
        const data = await response.json();
        return data.step_id;
    }
    
    async getStepStatus(stepId) {
        const response = await fetch(`${this.baseUrl}/status/${stepId}`);
        if (!response.ok) throw new Error(`HTTP ${response.status}`);
        return response.json();
    }
}

// Usage
const client = new FleetQClient();
const stepId = await client.submitStep('data_processing', {file: 'data.csv'});
const status = await client.getStepStatus(stepId);
