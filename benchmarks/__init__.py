"""What measures the deployment: perf_analyzer against a real server, and what users would run instead of it."""

import export as export  # before any module loads ONNX Runtime, whose reports it turns off
