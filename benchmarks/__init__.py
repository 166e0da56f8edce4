"""What measures the deployment: the release's way, the in-process ceiling, and perf_analyzer against a real server."""
