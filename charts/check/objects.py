"""Rendered objects: by Kubernetes' schemas, and by what the chart promises."""

import functools

import jsonschema
import kubernetes_validate.utils as kubernetes_schemas
from common import Failed, check
from rendering import only


@functools.cache
def kubernetes_schema(*arguments):
    return ORIGINAL_SCHEMA_CONTENTS(*arguments)


ORIGINAL_SCHEMA_CONTENTS = kubernetes_schemas.schema_contents
kubernetes_schemas.schema_contents = kubernetes_schema


def validate(objects, version, custom, name):
    for item in objects:
        what = f"{name}: {item['kind']} {item['metadata']['name']}, Kubernetes {version}"
        if item["kind"] in custom:
            errors = list(jsonschema.Draft202012Validator(custom[item["kind"]]).iter_errors(item))
            check(not errors, f"{what}: {errors[:1]}")
            continue
        try:
            used = kubernetes_schemas.validate(item, version, strict=True)
            check(used == version, f"{what}: there is no schema of this version, {used} was used")
        except (kubernetes_schemas.ValidationError, kubernetes_schemas.SchemaNotFoundError) as error:
            raise Failed(f"{what}: {getattr(error, 'json_path', '')} {error.message}") from error


def restricted(objects, name):
    """The Pod Security Standard `restricted`, and what the chart promises beyond it."""
    for item in objects:
        if item["kind"] not in ("Deployment", "Pod"):
            continue
        pod = item["spec"]["template"]["spec"] if item["kind"] == "Deployment" else item["spec"]
        check(
            pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0,
            f"{name}: a pod may run as root",
        )
        check(pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", f"{name}: no seccomp profile")
        check(pod["automountServiceAccountToken"] is False, f"{name}: a token is mounted")
        check(
            not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), f"{name}: a host namespace is used"
        )
        check(not any("hostPath" in volume for volume in pod.get("volumes", [])), f"{name}: a hostPath is mounted")
        ours = pod["containers"][0]
        context = ours["securityContext"]
        check(
            context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True,
            f"{name}: privileges",
        )
        check(context["capabilities"] == {"drop": ["ALL"]}, f"{name}: capabilities")


def references(objects, name):
    """What refers to something within the chart finds it."""
    deployment = only(objects, "Deployment")
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    for item in objects:
        if item["kind"] == "Service":
            check(item["spec"]["selector"].items() <= labels.items(), f"{name}: a Service selects nothing")
            check(
                all(port["targetPort"] in ports for port in item["spec"]["ports"]),
                f"{name}: a Service has no port in the pod",
            )
        if item["kind"] in ("PodDisruptionBudget", "NetworkPolicy"):
            selector = item["spec"].get("selector") or item["spec"].get("podSelector")
            check(selector["matchLabels"].items() <= labels.items(), f"{name}: {item['kind']} selects nothing")
        if item["kind"] == "ServiceMonitor":
            wanted = item["spec"]["selector"]["matchLabels"].items()
            selected = [o for o in objects if o["kind"] == "Service" and wanted <= o["metadata"]["labels"].items()]
            check(
                [o["spec"]["ports"][0]["name"] for o in selected] == ["http"],
                f"{name}: ServiceMonitor selects {len(selected)} Services",
            )
        if item["kind"] == "Pod":
            check(
                not deployment["spec"]["selector"]["matchLabels"].items() <= item["metadata"]["labels"].items(),
                f"{name}: the test pod is taken for rhio",
            )
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = pod["spec"]["containers"][0].get(probe)
        check(not probe or probe["httpGet"]["port"] in ports, f"{name}: a probe has no port in the pod")
