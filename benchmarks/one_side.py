"""The worker of `before_after.py`: one model in one commit's environment, driven through `shortlist.load`.

Reads one JSON request per line and answers with one JSON line.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import shortlist


def main() -> None:
    model: Any = None
    answer: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        match request.pop("do"):
            case "load":
                model = shortlist.load(request.pop("model"), **request)
                answer = {"notes": list(getattr(model, "notes", ()))}
            case "encode":
                answer = {"tokens": list(model.encode(request["text"]))}
            case "generate":
                generation = model.generate(request.pop("prompt"), **request)
                answer = {"tokens": list(generation.tokens)}
            case "where":
                answer = {"file": shortlist.__file__}
            case "peak":
                answer = {"mb": peak_mb()}
        answer["seconds"] = time.perf_counter() - start
        print(json.dumps(answer), flush=True)


def peak_mb() -> float:
    """The most memory that this process has held, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    main()
