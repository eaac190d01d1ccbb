"""Runs one GGUF model behind llama.cpp's HTTP server, for its parent only.

The first line on stdin is the configuration as JSON; the process ends when stdin closes, so it never
outlives the process that started it, however that ended.
"""
import json
import os
import sys
import threading


def main():
    config = json.loads(sys.stdin.buffer.readline())
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = config["model"]
    params.model_alias = {config["alias"]}
    params.hostnames = ["127.0.0.1"]
    params.port = config["port"]
    params.api_keys = [config["key"]]
    params.n_ctx = config["context"]
    params.n_parallel = 1
    params.cpuparams.n_threads = config["threads"]
    params.cpuparams_batch.n_threads = config["threads"]
    params.cache_prompt = True
    params.use_jinja = True
    server = xllamacpp.Server(params)
    print("listening on", server.listening_address, flush=True)
    sys.stdin.buffer.read()
    os._exit(0)


main()
