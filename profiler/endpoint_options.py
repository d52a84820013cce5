"""The options that say how an endpoint is asked, for the commands that ask one."""

import argparse
import os

from stream.command import UsageError

__all__ = ["add_endpoint_options", "key_of"]


def add_endpoint_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say how an endpoint is asked: --model, --key-env, --route and --timeout."""
    group = command.add_argument_group("the endpoint")
    group.add_argument("--model", help="the model's name there (default: the first that it lists)")
    group.add_argument("--key-env", metavar="NAME", help="the environment variable that holds the key")
    group.add_argument("--route", choices=("chat", "completions"), default="chat", help="default: chat")
    group.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="of a reply (default: 300)")


def key_of(name: str | None) -> str | None:
    """The key in the environment variable of --key-env; UsageError, which does not show it, where there is none."""
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        hint = " (it wants the variable's name, not the key)" if not name.isidentifier() else ""
        raise UsageError(f"--key-env: no environment variable of that name holds a key{hint}")
    if not key.isascii() or not key.isprintable():
        raise UsageError(f"--key-env: the value of {name} is no key: it has characters that no header takes")
    return key
