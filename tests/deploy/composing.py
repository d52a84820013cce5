"""What `docker compose` makes of several files, as far as those of deploy/ use it; anything else there is an error.

project = merged("compose.yaml", "compose.own-kafka.yaml")
"""

import copy
from typing import Any

import yaml

from tests.harness import ROOT

DEPLOY = ROOT / "deploy"
Mapping = dict[str, Any]


class Override(list[Any]):
    """A list that takes the place of what was there: `!override`."""


class _Loader(yaml.SafeLoader):
    """YAML with the tag that compose adds."""


_Loader.add_constructor(
    "!override",
    lambda loader, node: Override(loader.construct_sequence(node)),  # type: ignore[arg-type]
)


def load(name: str) -> Mapping:
    """One file of deploy/ as it is."""
    found: Mapping = yaml.load((DEPLOY / name).read_text(encoding="utf-8"), _Loader)
    return found


def merged(*names: str) -> Mapping:
    """The project that the files make together, without services whose profile nobody asked for."""
    project: Mapping = {}
    for name in names:
        said = load(name)
        for service in said["services"].values():
            _extend(service)
        _merge(project, said)
    project["services"] = {name: each for name, each in project["services"].items() if "profiles" not in each}
    return project


def _extend(service: Mapping) -> None:
    said = service.pop("extends", None)
    if said is not None:
        base = copy.deepcopy(load(said["file"])["services"][said["service"]])
        _merge(base, service)
        service.clear()
        service.update(base)


def _merge(under: Mapping, over: Mapping) -> None:
    for name, value in over.items():
        there = under.get(name)
        if isinstance(there, dict):
            _merge(there, value)
        elif name == "volumes" and there is not None:
            under[name] = list(
                ({_target(each): each for each in there} | {_target(each): each for each in value}).values()
            )
        elif isinstance(there, list) and name != "command" and not isinstance(value, Override):
            under[name] = [*there, *value]
        else:
            under[name] = copy.deepcopy(value)


def _target(volume: str) -> str:
    """Where a container sees it: there is one volume a place."""
    return volume.split(":")[1]
