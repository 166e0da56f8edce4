"""What measures the deployment: perf_analyzer against a real server, and what users would run instead of it."""
