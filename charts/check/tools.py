"""Where the tools come from. What has to be installed goes into .servers/, pinned."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml
from common import HOME, ROOT, check, say

HELM = "v3.22.0"
# Kubernetes' version that a helm built here takes for granted, as a released one does.
HELM_KUBERNETES = "37"
PROMETHEUS_OPERATOR = "v0.85.0"


def elsewhere(binary, variable):
    """A binary that is named by a variable or on PATH."""
    named = os.environ.get(variable)
    if named:
        check(os.access(named, os.X_OK), f"{variable} names {named}, which cannot be executed")
        return named
    return shutil.which(binary)


def helm():
    found = elsewhere("helm", "RHIO_TEST_HELM")
    if found:
        return found
    binary, stamp = HOME / "bin" / "helm", HOME / f"helm-{HELM}"
    if not (stamp.exists() and binary.exists()):
        check(shutil.which("go"), "neither helm nor go is on PATH; put one there, or name a helm in RHIO_TEST_HELM")
        say(f"building helm {HELM} from its Go module into .servers; this takes a few minutes")
        (HOME / "bin").mkdir(parents=True, exist_ok=True)
        module = "helm.sh/helm/v3"
        version = {
            "internal/version.version": HELM,
            **{f"pkg/{package}.k8sVersionMajor": "1" for package in ("chartutil", "lint/rules")},
            **{f"pkg/{package}.k8sVersionMinor": HELM_KUBERNETES for package in ("chartutil", "lint/rules")},
        }
        flags = " ".join(["-s -w", *(f"-X {module}/{name}={value}" for name, value in version.items())])
        with tempfile.TemporaryDirectory(dir=HOME) as work:
            environment = {**os.environ, "GOBIN": work, "CGO_ENABLED": "0"}
            command = ["go", "install", "-trimpath", "-ldflags", flags, f"{module}/cmd/helm@{HELM}"]
            built = subprocess.run(command, env=environment, capture_output=True, text=True)
            check(built.returncode == 0, f"go could not build helm:\n{built.stderr[-2000:]}")
            os.replace(Path(work) / "helm", binary)
        stamp.touch()
    return str(binary)


def promtool():
    found = elsewhere("promtool", "RHIO_TEST_PROMTOOL")
    if found:
        return found
    binary = HOME / "bin" / "promtool"
    if not binary.exists():
        check(
            shutil.which("apt-get"), "promtool is not on PATH and there is no apt-get; name one in RHIO_TEST_PROMTOOL"
        )
        say("taking promtool from Debian's package prometheus into .servers")
        (HOME / "bin").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=HOME) as work:

            def download():
                return subprocess.run(
                    ["apt-get", "download", "-q", "prometheus"], cwd=work, capture_output=True, text=True
                )

            done = download()
            if done.returncode != 0:
                # A fresh machine has no package lists.
                subprocess.run(["apt-get", "update", "-q"], capture_output=True)
                done = download()
            check(
                done.returncode == 0,
                f"apt-get could not download prometheus; name a promtool in RHIO_TEST_PROMTOOL\n{done.stderr}",
            )
            package = next(Path(work).glob("*.deb"))
            subprocess.run(["dpkg-deb", "-x", package, Path(work) / "x"], check=True)
            os.replace(Path(work) / "x" / "usr" / "bin" / "promtool", binary)
    return str(binary)


def nats_server():
    found = elsewhere("nats-server", "RHIO_TEST_NATS_SERVER")
    if found:
        return found
    binary = HOME / "bin" / "nats-server"
    if not binary.exists():
        subprocess.run([ROOT / "scripts" / "servers"], check=True)
    return str(binary)


def custom_resources():
    """The schemas of the Prometheus operator's custom resources, by kind."""
    home = HOME / f"prometheus-operator-{PROMETHEUS_OPERATOR}"
    names = {"ServiceMonitor": "servicemonitors", "PrometheusRule": "prometheusrules"}
    if not all((home / f"{name}.yaml").exists() for name in names.values()):
        check(
            shutil.which("go"),
            "the Prometheus operator's custom resources come from its Go module, and go is not on PATH",
        )
        say(f"taking the custom resources of the Prometheus operator {PROMETHEUS_OPERATOR} from its Go module")
        module = f"github.com/prometheus-operator/prometheus-operator@{PROMETHEUS_OPERATOR}"
        done = subprocess.run(["go", "mod", "download", "-json", module], cwd="/", capture_output=True, text=True)
        check(done.returncode == 0, f"go could not download {module}:\n{done.stdout}{done.stderr}")
        source = Path(json.loads(done.stdout)["Dir"]) / "example" / "prometheus-operator-crd"
        home.mkdir(parents=True, exist_ok=True)
        for name in names.values():
            shutil.copyfile(source / f"monitoring.coreos.com_{name}.yaml", home / f"{name}.yaml")
    schemas = {}
    for kind, name in names.items():
        resource = yaml.safe_load((home / f"{name}.yaml").read_text())
        schemas[kind] = strict(resource["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    return schemas


def strict(schema):
    """The API server drops fields that a custom resource does not have. Here they are errors."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(value) for key, value in schema.items()}
    if schema.pop("x-kubernetes-int-or-string", False):
        schema["type"] = ["integer", "string"]
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema


def rhio():
    binary = Path(os.environ.get("RHIO_BIN") or ROOT / "target" / "debug" / "rhio").resolve()
    check(
        os.access(binary, os.X_OK),
        f"there is no rhio at {binary}: build it with `cargo build --bin rhio`, or name one in RHIO_BIN",
    )
    return str(binary)
