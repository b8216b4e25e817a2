"""llama.cpp's own server, as xllamacpp packages it, for `serving.py` to start: needs `pip install xllamacpp`.

python benchmarks/llama_server.py MODEL.gguf --port 8081 --threads 2 --parallel 8
"""

import argparse
import signal
import sys

import xllamacpp  # pyright: ignore[reportMissingImports]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--parallel", type=int, default=8, help="requests at once")
    parser.add_argument("--context", type=int, default=2048, help="of each")
    arguments = parser.parse_args()

    options = xllamacpp.CommonParams()
    options.model.path = arguments.model
    options.port = arguments.port
    options.n_parallel = arguments.parallel
    options.n_ctx = arguments.context * arguments.parallel
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = arguments.threads
    server = xllamacpp.Server(options)
    print(f"ready at {server.listening_address}: {xllamacpp.get_system_info()}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pause()


if __name__ == "__main__":
    main()
