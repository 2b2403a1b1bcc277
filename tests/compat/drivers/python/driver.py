"""Driver for Python's clients: driver.py CLIENT BOOTSTRAP. ../README.md is the contract."""
import json
import sys
import threading
import traceback

lock = threading.Lock()


def say(**line):
    with lock:
        print(json.dumps(line), flush=True)


def answer(client, request):
    try:
        result = getattr(client, "op_" + request["op"])(request) or {}
        say(id=request["id"], **result)
    except Exception as e:  # whatever a library throws is the answer
        where = traceback.extract_tb(e.__traceback__)[-1]
        say(id=request["id"], error=f"{type(e).__name__}: {e} ({where.filename}:{where.lineno})")


def main():
    name, bootstrap = sys.argv[1:3]
    if name == "confluent":
        from confluent import Client
    elif name == "kafka-python":
        from kafkapython import Client
    elif name == "kcat":
        from kcat import Client
    else:
        raise SystemExit(f"unknown client {name}")
    client = Client(bootstrap, say)
    say(event="ready", client=name, version=client.version)
    for line in sys.stdin:
        threading.Thread(target=answer, args=(client, json.loads(line)), daemon=True).start()


main()
