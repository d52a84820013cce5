"""Who may reach whom in the cluster: the network policies let through every flow that there is, and nothing else."""

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from itertools import product
from typing import Any

import kubernetes_validate
import pytest

from tests.deploy.rendering import documents, render
from tests.deploy.test_kubernetes import KUBERNETES, NEWEST, OLDEST

OWN = "trueclock"
TCP, UDP = "TCP", "UDP"


@dataclass(frozen=True)
class Place:
    """A pod, by its namespace and labels, or an address outside the cluster."""

    name: str
    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    namespace_labels: dict[str, str] = field(default_factory=dict)
    address: str = ""

    @property
    def part(self) -> bool:
        """Whether it is one of ours: the policies are about those."""
        return self.labels.get("app.kubernetes.io/part-of") == "trueclock"


def elsewhere(name: str, namespace: str, labels: dict[str, str] | None = None, **more: str) -> Place:
    named = {"kubernetes.io/metadata.name": namespace, **{key.replace("_", "-"): value for key, value in more.items()}}
    return Place(name, namespace, labels or {}, named)


def outside(name: str, address: str) -> Place:
    return Place(name, address=address)


OTHERS = [
    elsewhere("caller", "shop", trueclock_callers="allowed"),
    elsewhere("stranger", "other"),
    elsewhere("evaluator", OWN, {"trueclock-admin": "allowed"}),
    elsewhere("lodger", OWN),
    elsewhere("prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"}),
    elsewhere("grafana", "monitoring", {"app.kubernetes.io/name": "grafana"}),
    elsewhere("names", "kube-system", {"k8s-app": "kube-dns"}),
    elsewhere("keda", "keda", {"app": "keda-operator"}),
    elsewhere("strimzi", "kafka", {"strimzi.io/cluster": "kafka"}),
    elsewhere("model", "models"),
    elsewhere("collector", "observability", {"app.kubernetes.io/name": "opentelemetry-collector"}),
    elsewhere("its neighbour", "observability"),
    outside("local names", "169.254.20.10"),
    outside("provider", "104.18.7.192"),
    outside("provider, IPv6", "2606:4700::6812:7c0"),
    outside("metadata", "169.254.169.254"),
    outside("API server", "10.96.0.1"),
]
PORTS = [(UDP, 53)] + [(TCP, port) for port in (53, 80, 443, 4000, 4001, 4318, 6066, 8000, 9092, 9093)]

GATEWAY = {
    ("caller", "gateway", TCP, 4000),
    ("evaluator", "gateway", TCP, 4001),
    ("prometheus", "gateway", TCP, 4001),
    ("gateway", "names", UDP, 53),
    ("gateway", "names", TCP, 53),
    ("gateway", "provider", TCP, 443),
    ("gateway", "provider, IPv6", TCP, 443),
}
STREAM = {
    ("evaluator", "stream", TCP, 6066),
    ("prometheus", "stream", TCP, 6066),
    ("stream", "names", UDP, 53),
    ("stream", "names", TCP, 53),
}
BROKER = {
    ("gateway", "kafka", TCP, 9092),
    ("stream", "kafka", TCP, 9092),
    ("kafka", "kafka", TCP, 9092),
    ("keda", "kafka", TCP, 9092),
    ("kafka", "names", UDP, 53),
    ("kafka", "names", TCP, 53),
}
OWN_BROKERS = {("gateway", "strimzi", TCP, 9093), ("stream", "strimzi", TCP, 9093)}
EXAMPLES = {
    ("gateway", "model", TCP, 8000),
    ("gateway", "collector", TCP, 4318),
    *((one, "local names", protocol, 53) for one in ("gateway", "stream", "kafka") for protocol in (UDP, TCP)),
}
FLOWS = {"gateway": GATEWAY, "try": GATEWAY | STREAM | BROKER, "production": GATEWAY | STREAM | OWN_BROKERS}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    for each in selector.get("matchExpressions", ()):
        assert each["operator"] == "In"
        if labels.get(each["key"]) not in each["values"]:
            return False
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def is_peer(peer: dict[str, Any], place: Place, namespace: str) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        if not place.address or ip_address(place.address) not in ip_network(block["cidr"]):
            return False
        return not any(ip_address(place.address) in ip_network(each) for each in block.get("except", ()))
    if place.address:
        return False
    there = (
        selects(peer["namespaceSelector"], place.namespace_labels)
        if "namespaceSelector" in peer
        else place.namespace == namespace
    )
    return there and selects(peer.get("podSelector", {}), place.labels)


def lets(policies: list[dict[str, Any]], way: str, own: Place, other: Place, port: tuple[str, int]) -> bool:
    """Whether the policies that select `own` let a connection through: `Ingress` from, `Egress` to `other`."""
    concerned = [
        each["spec"]
        for each in policies
        if own.namespace == OWN
        and selects(each["spec"]["podSelector"], own.labels)
        and way in each["spec"]["policyTypes"]
    ]
    rules = [rule for spec in concerned for rule in spec.get(way.lower(), ())]
    side = "from" if way == "Ingress" else "to"
    passes = any(
        any(is_peer(peer, other, OWN) for peer in rule[side])
        and any((each["protocol"], each["port"]) == port for each in rule["ports"])
        for rule in rules
    )
    return passes or not concerned


def flows(manifests: list[dict[str, Any]]) -> set[tuple[str, str, str, int]]:
    """Who reaches whom, of all that `PORTS` and `OTHERS` name: (from, to, protocol, port)."""
    policies = [each for each in manifests if each["kind"] == "NetworkPolicy"]
    pods = [
        Place(
            each["metadata"]["name"].removeprefix("trueclock-"),
            OWN,
            each["spec"]["template"]["metadata"]["labels"],
            {"kubernetes.io/metadata.name": OWN},
        )
        for each in manifests
        if each["kind"] == "StatefulSet"
    ]
    places = [*pods, *OTHERS]
    return {
        (one.name, other.name, *port)
        for one, other, port in product(places, places, PORTS)
        if one.part or other.part
        if not (one.address and other.address)
        if lets(policies, "Egress", one, other, port) and lets(policies, "Ingress", other, one, port)
    }


@pytest.mark.parametrize("overlay", FLOWS)
def test_exactly_the_flows_that_there_are(overlay: str) -> None:
    assert flows(render(KUBERNETES / "overlays" / overlay)) == FLOWS[overlay]


def test_the_examples_add_what_they_say_alone() -> None:
    """`examples/egress.yaml` beside an overlay."""
    added = list(documents(KUBERNETES / "examples" / "egress.yaml"))
    for policy in added:
        for version in (OLDEST, NEWEST):
            kubernetes_validate.validate(policy, version, strict=True)
    assert flows(render(KUBERNETES / "overlays" / "try") + added) == FLOWS["try"] | EXAMPLES


def test_nothing_is_left_open() -> None:
    """Every rule names peers and ports: an empty list would let all through."""
    for overlay in FLOWS:
        for policy in render(KUBERNETES / "overlays" / overlay):
            if policy["kind"] == "NetworkPolicy":
                for rule in (*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())):
                    assert rule.get("ports")
                    assert rule.get("from") or rule.get("to")
                    assert {} not in (rule.get("from") or rule.get("to"))
