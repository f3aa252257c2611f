"""Validates the manifests against the schemas of Kubernetes, evaluates the expressions of the
injection, and parses the expressions of the alerts and the dashboard.

scripts/manifests.sh runs it with the rendered manifests as files NAME.yaml. Does not check the
settings; dev/checks/tests/it/manifests.rs compares them with the programs.
"""

import json
import sys
from pathlib import Path

import kubernetes_validate
import promql_parser
import yaml
from cel_expr_python import cel

from cel_types import TypeMismatch, compiled, without_names

OLDEST = (1, 25)
# For each kind newer than OLDEST: the first Kubernetes with the apiVersion in the manifests.
SINCE = {"MutatingAdmissionPolicy": (1, 36), "MutatingAdmissionPolicyBinding": (1, 36)}
# Earlier versions of the injection's kinds, which scripts/deploy.sh sets.
EARLIER = {(1, 34): "v1beta1", (1, 35): "v1beta1", (1, 32): "v1alpha1", (1, 33): "v1alpha1"}
# Kinds of the Prometheus operator, which Kubernetes has no schemas for.
FOREIGN = {"monitoring.coreos.com/v1"}


def versions():
    found = {tuple(int(part) for part in version.split(".")[:2]) for version in kubernetes_validate.utils.all_versions()}
    return sorted(version for version in found if version >= OLDEST)


def complaints(name, thing):
    """Yields the errors of the schemas of all versions that serve this kind."""
    kind = thing["kind"]
    for version in versions():
        if version < SINCE.get(kind, OLDEST):
            if version not in EARLIER:
                continue
            thing = {**thing, "apiVersion": f"admissionregistration.k8s.io/{EARLIER[version]}"}
        text = ".".join(map(str, version))
        try:
            kubernetes_validate.validate(thing, text, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{name}: {kind} {thing['metadata']['name']}, Kubernetes {text}: {'/'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{name}: {error.message}"


def validate(files):
    """Returns the number of validated objects; ends the program at invalid objects."""
    found, count, foreign = [], 0, set()
    for file in files:
        for thing in yaml.safe_load_all(file.read_text()):
            if thing is None or thing["apiVersion"].startswith("kustomize.config.k8s.io/"):
                continue
            if thing["apiVersion"] in FOREIGN:
                foreign.add(thing["kind"])
                continue
            count += 1
            found += complaints(file.name, thing)
    if found:
        sys.exit("\n".join(found))
    for kind in sorted(foreign):
        print(f"skipped: {kind} has no schema in Kubernetes")
    return count


def schemas_notice_a_mistake():
    """Asserts that invalid objects fail."""
    good = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"internalTrafficPolicy": "Local"}}
    assert not list(complaints("good", good))
    assert list(complaints("bad", {**good, "spec": {"internalTrafikPolicy": "Local"}}))
    assert list(complaints("bad", {**good, "spec": {"ports": [{"port": "http"}]}}))


# ---- the injection, as the API server applies it to a pod ----


class Policy:
    """The MutatingAdmissionPolicy, compiled as by the API server and evaluated for pods."""

    def __init__(self, policy):
        self.spec = policy["spec"]
        known = {"object": cel.Type.DYN}
        # Match conditions see no variables, and a variable sees only the ones before it.
        self.conditions = [compiled(one["expression"], known, cel.Type.BOOL) for one in self.spec["matchConditions"]]
        self.variables = {}
        for one in self.spec["variables"]:
            self.variables[one["name"]] = compiled(one["expression"], known)
            known[f"variables.{one['name']}"] = self.variables[one["name"]].return_type()
        (mutation,) = self.spec["mutations"]
        self.mutation = compiled(mutation["jsonPatch"]["expression"], known)

    def matches(self, pod):
        wanted = self.spec["matchConstraints"]["objectSelector"]["matchLabels"].items()
        labels = pod["metadata"].get("labels", {})
        if any(labels.get(key) != value for key, value in wanted):
            return False
        return all(one.eval(data={"object": pod}).plain_value() for one in self.conditions)

    def mutated(self, pod):
        """Returns the init containers of the pod after the mutation."""
        present = list(pod["spec"].get("initContainers", []))
        if not self.matches(pod):
            return present
        data = {"object": pod}
        for name, expression in self.variables.items():
            data[f"variables.{name}"] = expression.eval(data=data).plain_value()
        for patch in without_names(self.mutation.eval(data=data).plain_value()):
            assert patch["op"] == "add", patch
            if patch["path"] == "/spec/initContainers":
                assert "initContainers" not in pod["spec"], "a list that is there would be lost"
                present = patch["value"]
            else:
                assert patch["path"] == "/spec/initContainers/-", patch
                present = present + [patch["value"]]
        return present


def pod(labels=True, annotations=None, owners=None, present=None, containers=("application",), **more):
    metadata = {"labels": {"pod-startup-lock/inject": "true"} if labels else {}}
    if annotations is not None:
        metadata["annotations"] = annotations
    if owners is not None:
        metadata["ownerReferences"] = [{"kind": kind} for kind in owners]
    spec = {"containers": [{"name": name} for name in containers], **more}
    if present is not None:
        spec["initContainers"] = [{"name": name} for name in present]
    return {"metadata": metadata, "spec": spec}


def required(terms):
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def affine(terms):
    """Returns a pod whose required node affinity has these terms of key, operator and values."""
    def expression(key, operator, values):
        return {"key": key, "operator": operator} | ({} if values is None else {"values": values})

    return pod(affinity=required([{"matchExpressions": [expression(*one) for one in term]} for term in terms]))


NAME = "pod-startup-lock"
OS = "kubernetes.io/os"
# Description, pod, and the names of its init containers after the mutation.
CASES = [
    ("no init container", pod(), [NAME]),
    ("an empty list of them", pod(present=[]), [NAME]),
    ("last", pod(present=["migrate", "fetch"]), ["migrate", "fetch", NAME]),
    ("once", pod(present=["migrate", NAME]), ["migrate", NAME]),
    ("once, and left where it is", pod(present=[NAME, "migrate"]), [NAME, "migrate"]),
    ("once, under a name of its own", pod(present=["guard"], annotations={f"{NAME}/gate": "guard"}), ["guard"]),
    ("a gate that is named and is not there", pod(present=["a"], annotations={f"{NAME}/gate": "guard"}), ["a", NAME]),
    ("not asked for", pod(labels=False), []),
    ("opted out", pod(annotations={f"{NAME}/inject": "false"}), []),
    ("opted in twice", pod(annotations={f"{NAME}/inject": "true"}), [NAME]),
    ("other annotations", pod(annotations={"a": "b"}), [NAME]),
    ("of a DaemonSet", pod(owners=["DaemonSet"], present=["a"]), ["a"]),
    ("of a ReplicaSet", pod(owners=["ReplicaSet"]), [NAME]),
    ("of a Job", pod(owners=["Job"]), [NAME]),
    ("a static pod's mirror", pod(annotations={"kubernetes.io/config.mirror": "1"}), []),
    ("of Windows", pod(os={"name": "windows"}, present=["a"]), ["a"]),
    ("of Linux", pod(os={"name": "linux"}), [NAME]),
    ("for nodes with Windows", pod(nodeSelector={OS: "windows"}, present=["a"]), ["a"]),
    ("for nodes with Windows, in the old way", pod(nodeSelector={"beta.kubernetes.io/os": "windows", "a": "b"}), []),
    ("for one build of Windows", pod(nodeSelector={"node.kubernetes.io/windows-build": "10.0.20348"}), []),
    ("for nodes with Linux", pod(nodeSelector={OS: "linux", "a": "windows"}), [NAME]),
    ("with options of Windows", pod(securityContext={"windowsOptions": {"runAsUserName": "a"}}), []),
    ("with other options", pod(securityContext={"runAsUser": 5}), [NAME]),
    ("by affinity: Windows", affine([[(OS, "In", ["windows"])]]), []),
    ("by affinity: not Linux", affine([[("a", "Exists", None), (OS, "NotIn", ["linux"])]]), []),
    ("by affinity: Linux", affine([[(OS, "In", ["linux"])]]), [NAME]),
    ("by affinity: not Windows", affine([[(OS, "NotIn", ["windows"])]]), [NAME]),
    ("by affinity: either", affine([[(OS, "In", ["windows"])], [(OS, "In", ["linux"])]]), [NAME]),
    ("by affinity: both kinds of Windows", affine([[(OS, "In", ["windows"])], [("node.kubernetes.io/windows-build", "Exists", None)]]), []),
    ("by affinity: another label", affine([[("zone", "In", ["windows"])]]), [NAME]),
    ("by affinity: a field", pod(affinity=required([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["x"]}]}])), [NAME]),
    ("by affinity: preferred", pod(affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}), [NAME]),
    ("by affinity to pods", pod(affinity={"podAntiAffinity": {}}), [NAME]),
    ("for Fargate", pod(nodeSelector={"eks.amazonaws.com/compute-type": "fargate"}), []),
    ("for a virtual node", pod(nodeSelector={OS: "linux", "type": "virtual-kubelet"}), []),
    ("for a super node", pod(nodeSelector={"node.kubernetes.io/instance-type": "eklet"}), []),
    ("for another type of node", pod(nodeSelector={"type": "fast", "eks.amazonaws.com/compute-type": "auto"}), [NAME]),
    ("by affinity: Fargate", affine([[(OS, "In", ["linux"]), ("eks.amazonaws.com/compute-type", "In", ["fargate"])]]), []),
    ("by affinity: a virtual node, or a super node", affine([[("type", "In", ["virtual-kubelet"])], [("node.kubernetes.io/instance-type", "In", ["eklet"])]]), []),
    ("by affinity: a virtual node, or another", affine([[("type", "In", ["virtual-kubelet", "fast"])]]), [NAME]),
    ("by affinity: a virtual node in one of two terms", affine([[("type", "In", ["virtual-kubelet"])], [("zone", "In", ["a"])]]), [NAME]),
    ("by affinity: no virtual node", affine([[("type", "NotIn", ["virtual-kubelet"]), ("zone", "Exists", None)]]), [NAME]),
    ("by the cluster's names", pod(dnsPolicy="ClusterFirst"), [NAME]),
    ("by the node's names", pod(dnsPolicy="Default", present=["a"]), ["a"]),
    ("by names of its own", pod(dnsPolicy="None", dnsConfig={"nameservers": ["10.0.0.1"]}), []),
    ("by names of its own, not of Services", pod(dnsPolicy="None", dnsConfig={"searches": ["example.com"]}), []),
    ("by names of its own, of Services too", pod(dnsPolicy="None", dnsConfig={"searches": ["a.example", "svc.cluster.local"]}), [NAME]),
    ("on the host network", pod(hostNetwork=True, dnsPolicy="ClusterFirst", present=["a"]), ["a"]),
    ("on the host network, with no word about names", pod(hostNetwork=True), []),
    ("on the host network, by the cluster's names", pod(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"), [NAME]),
    ("not on the host network", pod(hostNetwork=False, dnsPolicy="ClusterFirst"), [NAME]),
    ("a container of the name", pod(containers=("application", NAME), present=["a"]), ["a"]),
]


def env_of(policy, **annotations):
    (gate,) = policy.mutated(pod(annotations={f"{NAME}/{key}": value for key, value in annotations.items()}))
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in gate["env"]}


def replaced(policy, name, expression):
    """Returns the policy with another expression for a variable."""
    variables = [{**one, "expression": expression} if one["name"] == name else one for one in policy.spec["variables"]]
    return {"spec": {**policy.spec, "variables": variables}}


def types_notice_a_mistake(policy):
    """Asserts that expressions fail that a real API server has refused, and similar ones."""
    for name, expression in [
        ("asked", "[['PSL_READY', object.metadata.annotations['a']]]"),
        ("asked", "[['PSL_READY', variables.annotations['a']], ['a', 'b']]"),
        ("asked", "[['PSL_READY', 1]]"),
        ("asked", "{'a': 'b', 'c': object.metadata.name}"),
        ("asked", "[1, object.a].map(one, one)"),
        ("asked", "object.a ? ['a'] : ['a'].map(one, [one, object.b])[0]"),
        ("dnsPolicy", "1 + 'a'"),
        ("dnsPolicy", "variables.lockHost == 1"),
        ("dnsPolicy", "variables.values"),
        ("lockHost", "1"),
    ]:
        try:
            Policy(replaced(policy, name, expression))
        except (TypeMismatch, ValueError, RuntimeError):
            continue
        raise AssertionError(f"the type of this is wrong, and it compiles: {expression}")
    for condition in ["object.metadata.name", "'true'"]:
        try:
            Policy({"spec": {**policy.spec, "matchConditions": [{"expression": condition}]}})
        except TypeMismatch:
            continue
        raise AssertionError(f"no condition, and it compiles: {condition}")


def check_injection(policy, example):
    types_notice_a_mistake(policy)
    # The API server knows these types only in mutations; elsewhere the policy would not compile.
    for one in policy.spec["variables"] + policy.spec["matchConditions"]:
        assert "Object" not in one["expression"] and "JSONPatch" not in one["expression"], one
    for case, before, after in CASES:
        names = [one["name"] for one in policy.mutated(before)]
        assert names == after, f"{case}: {names}, not {after}"
    bare = env_of(policy)
    assert bare["PSL_LOCK_HOST"] == "lock.pod-startup-lock", bare
    assert "PSL_LOCK_DURATION" not in bare and "PSL_READY" not in bare, bare
    asked = env_of(policy, duration="45s", ready="http:8080/healthz")
    assert asked["PSL_LOCK_DURATION"] == "45s" and asked["PSL_READY"] == "http:8080/healthz", asked

    # Values that init accepts are passed on; others are left out, so that the pod still starts.
    for key, variable, passed, left in [
        (
            "duration",
            "PSL_LOCK_DURATION",
            ["0", "20", "45s", "1m30s", "1.5s", "500ms"],
            ["", "soon", "-5s", "5 s", "1m30", "s", "5d", "20\n", "9" * 30, "1s" * 5, "none"],
        ),
        (
            "ready",
            "PSL_READY",
            ["tcp:1", "tcp:65535", "http:8080", "http:8080/", "http:8080/healthz?a=b&c='d'", "http:1/" + "a" * 255],
            ["", "8080", "tcp:0", "tcp:080", "tcp:65536", "tcp:1/", "udp:53", "http:80/a b", "http:80/#a", "http:80/$(A)", "http:1/" + "a" * 256],
        ),
    ]:
        for value in passed:
            assert env_of(policy, **{key: value}).get(variable) == value, f"{key}: {value!r} is left out"
        for value in left:
            assert variable not in env_of(policy, **{key: value}), f"{key}: {value!r} is passed on"

    # With the address of the node, no name has to resolve.
    by_address = Policy(replaced(policy, "lockHost", "''"))
    assert env_of(by_address)["PSL_LOCK_HOST"] == {"fieldRef": {"fieldPath": "status.hostIP"}}
    for more in [{"hostNetwork": True}, {"dnsPolicy": "Default"}, {"dnsPolicy": "None"}]:
        assert len(by_address.mutated(pod(**more))) == 1, more

    # The kubelet starts no container with runAsNonRoot in a pod with user 0.
    for said, wanted in [(None, True), ({}, True), ({"runAsUser": 1000}, True), ({"runAsNonRoot": True}, True), ({"runAsUser": 0}, False)]:
        of_user = pod()
        if said is not None:
            of_user["spec"]["securityContext"] = said
        (gate,) = policy.mutated(of_user)
        assert gate["securityContext"]["runAsNonRoot"] is wanted, f"a pod's {said}: {gate['securityContext']}"

    # The API server refuses containers with more resources than the pod.
    (gate,) = policy.mutated(pod(resources={"limits": {"cpu": "20m", "memory": "8Mi"}}))
    assert gate["resources"] == {}, gate["resources"]

    # Fields that the example also has are equal, and a mutated pod is valid.
    (gate,) = policy.mutated(pod())
    (written,) = example["spec"]["template"]["spec"]["initContainers"]
    for field in ["name", "image", "imagePullPolicy", "resources", "terminationMessagePolicy"]:
        assert gate[field] == written[field], f"{field}: {gate[field]}, the example has {written[field]}"
    for field, value in written["securityContext"].items():
        assert gate["securityContext"][field] == value, field
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}
    whole["spec"] = {"containers": [{"name": "a", "image": "a"}], "initContainers": [gate]}
    found = list(complaints("injected", whole))
    assert not found, found


def check_queries(objects):
    """Returns the number of expressions in rules and dashboard; ends the program at an invalid one."""
    (rules,) = (one for one in objects if one["kind"] == "PrometheusRule")
    (dashboard,) = (one for one in objects if one["metadata"]["name"] == "pod-startup-lock-dashboard")
    queries = [rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"]]
    for panel in json.loads(dashboard["data"]["pod-startup-lock.json"])["panels"]:
        # Grafana replaces this variable.
        queries += [one["expr"].replace("$__rate_interval", "5m").replace("$node", ".*") for one in panel["targets"]]
    for query in queries:
        try:
            promql_parser.parse(query)
        except ValueError as error:
            sys.exit(f"{query}: {error}")
    return len(queries)


def documents(file):
    return [one for one in yaml.safe_load_all(file.read_text()) if one]


def main():
    files = [Path(name) for name in sys.argv[1:]]
    schemas_notice_a_mistake()
    count = validate(files)
    oldest, newest = (".".join(map(str, version)) for version in (versions()[0], versions()[-1]))
    print(f"{count} objects of {len(files)} files are valid in Kubernetes {oldest} to {newest}")

    by_name = {file.name: file for file in files}
    (policy,) = (one for one in documents(by_name["injection.yaml"]) if one["kind"] == "MutatingAdmissionPolicy")
    (example,) = documents(by_name["example.yaml"])
    check_injection(Policy(policy), example)
    queries = check_queries(documents(by_name["monitoring.yaml"]))
    print(f"{queries} expressions of the alerts and the dashboard are valid PromQL")
    print(f"the injection is correct for {len(CASES)} kinds of pods")


main()
