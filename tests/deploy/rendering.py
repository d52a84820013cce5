"""What `kustomize build` makes of deploy/kubernetes, as far as those files use it; anything else there is an error.

manifests = render(ROOT / "deploy" / "kubernetes" / "overlays" / "try")
"""

import base64
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
KEYS = {
    "apiVersion", "kind", "resources", "components", "generatorOptions", "configMapGenerator", "secretGenerator", "patches", "labels",
    "images", "namespace",
}  # fmt: skip
CLUSTER_WIDE = ("Namespace",)


def render(folder: Path) -> list[Manifest]:
    """All manifests of a kustomization."""
    return _built(folder, [])


def documents(path: Path) -> Iterator[Manifest]:
    """The manifests of one file."""
    for each in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        assert isinstance(each, dict), f"{path}: not a mapping"
        yield each


def _built(folder: Path, around: list[Manifest]) -> list[Manifest]:
    """What a kustomization makes; a component works on all that is `around` it too."""
    said = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    assert not set(said) - KEYS, f"{folder}: {set(said) - KEYS}"
    found = list(around)
    for name in said.get("resources", ()):
        path = (folder / name).resolve()
        found += _built(path, []) if path.is_dir() else documents(path)
    for name in said.get("components", ()):
        found = _built((folder / name).resolve(), found)
    for made in _generated(folder, said):
        _add(found, made)
    for patch in said.get("patches", ()):
        apply(found, patch)
    for each in said.get("labels", ()):
        _label(found, each)
    for each in found:
        for image in said.get("images", ()):
            _tag(each, image)
        if "namespace" in said and each["kind"] not in CLUSTER_WIDE:
            each["metadata"]["namespace"] = said["namespace"]
    names = [(each["kind"], each["metadata"]["name"]) for each in found]
    assert len(names) == len(set(names)), "one name twice"
    return found


def _generated(folder: Path, said: dict[str, Any]) -> Iterator[Manifest]:
    options = said.get("generatorOptions", {})
    for each in said.get("configMapGenerator", ()):
        data = {Path(name).name: (folder / name).read_text(encoding="utf-8") for name in each["files"]}
        assert each.get("behavior", "create") in ("create", "replace")
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(each, options), "data": data}
    for each in said.get("secretGenerator", ()):
        pairs = [text.partition("=")[::2] for text in each["literals"]]
        data = {key: base64.b64encode(value.encode()).decode() for key, value in pairs}
        yield {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": _metadata(each, options),
            "data": data,
            "type": "Opaque",
        }


def _add(found: list[Manifest], made: Manifest) -> None:
    """Add what was generated, or put its data in the place of those of the same name."""
    for each in found:
        if (each["kind"], each["metadata"]["name"]) == (made["kind"], made["metadata"]["name"]):
            each["data"] = made["data"]
            return
    found.append(made)


def _metadata(said: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    assert options["disableNameSuffixHash"], f"{said['name']} would have another name with each change"
    more = {key: dict(options[key]) for key in ("labels", "annotations") if key in options}
    return {"name": said["name"], **more}


def apply(found: list[Manifest], patch: dict[str, Any]) -> None:
    """JSON patches of one object that is there."""
    target = patch["target"]
    (manifest,) = [
        each for each in found if (each["kind"], each["metadata"]["name"]) == (target["kind"], target["name"])
    ]
    for step in yaml.safe_load(patch["patch"]):
        *way, last = step["path"].strip("/").split("/")
        place: Any = manifest
        for part in way:
            place = place[int(part)] if isinstance(place, list) else place[part]
        match step["op"]:
            case "add" if isinstance(place, list):
                assert last == "-"
                place.append(copy.deepcopy(step["value"]))
            case "add":
                place[last] = copy.deepcopy(step["value"])
            case "replace":
                assert last in place, step
                place[last] = step["value"]
            case "remove":
                del place[last]
            case other:
                raise AssertionError(other)


def _label(found: list[Manifest], said: dict[str, Any]) -> None:
    for each in found:
        each["metadata"].setdefault("labels", {}).update(said["pairs"])
        if said.get("includeTemplates") and "template" in each.get("spec", {}):
            each["spec"]["template"]["metadata"].setdefault("labels", {}).update(said["pairs"])
            for claim in each["spec"].get("volumeClaimTemplates", ()):
                claim["metadata"].setdefault("labels", {}).update(said["pairs"])


def _tag(manifest: Manifest, image: dict[str, str]) -> None:
    for container in manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ()):
        if container["image"].partition(":")[0] == image["name"]:
            container["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
