"""What a server has logged, as a test asks for it."""

import json

from gateway.cli.server_process import ServerProcess


def events(server: ServerProcess, name: str, **fields) -> list[dict]:
    """The lines of event *name* whose fields are those given, in order."""
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name and fields.items() <= line.items()]


def states_of(server: ServerProcess, model: str, version: int) -> list[str]:
    """Through which states the version went."""
    return [line["state"] for line in events(server, "slot_changed", model=model, version=version)]
