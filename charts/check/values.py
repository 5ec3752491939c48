"""Values: accepted, refused, explained, and what becomes of them."""

import base64
import http.server
import json
import re
import shutil
import subprocess
import threading

import yaml
from common import CHART, KEY_A, KUBERNETES, ROOT, check, clean_environment, say
from rendering import only


def lint(chart):
    for file in [None, *sorted(CHART.glob("ci/*-values.yaml"))]:
        done = chart.run(
            "lint", "--strict", "--kube-version", KUBERNETES[-1], CHART, *(["--values", file] if file else [])
        )
        check(done.returncode == 0, f"helm lint --strict {file or ''}:\n{done.stdout}{done.stderr}")
    say("helm lint --strict: well, with the defaults and every values file")


def versions():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    cargo = re.search(
        r'^\[workspace\.package\][^\[]*?^version = "(.*?)"', (ROOT / "Cargo.toml").read_text(), re.M | re.S
    )[1]
    check(chart["version"] == chart["appVersion"] == cargo, f"Chart.yaml is not of version {cargo}, as Cargo.toml is")
    say(f"chart and rhio are both {cargo}")


def bad_values(chart):
    files = sorted(CHART.glob("ci/bad/*.yaml"))
    for file in files:
        expected = re.match(r"# expected: (.*)", file.read_text())[1]
        done = chart.template("--values", file)
        check(done.returncode != 0, f"{file.name} was accepted")
        # Before version 3.18 helm wrote config.nodes.0 and not /config/nodes/0.
        named = expected in done.stderr or expected.lstrip("/").replace("/", ".") in done.stderr
        check(named, f"{file.name} was refused without naming '{expected}':\n{done.stderr}")
    say(f"{len(files)} values files with mistakes: each was refused with a message that names the mistake")


def leaves(value, path=""):
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path


def readme():
    """Every value is in README.md, and README.md has none that does not exist."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    text = (CHART / "README.md").read_text()
    documented = set(re.findall(r"^\| `([^`]+)` \|", text, re.M))

    # Maps whose keys are the user's or Kubernetes' are explained as one value.
    def known(leaf):
        return any(leaf == name or leaf.startswith(name + ".") for name in documented)

    missing = [leaf for leaf in leaves(values) if not known(leaf)]
    check(not missing, f"README.md does not explain {', '.join(missing)}")
    paths = set(leaves(values))
    paths |= {".".join(p.split(".")[:n]) for p in paths for n in range(1, p.count(".") + 2)}
    schema = json.loads((CHART / "values.schema.json").read_text())
    wrong = [name for name in documented if name not in paths and not in_schema(schema, name)]
    check(not wrong, f"README.md explains values that do not exist: {', '.join(wrong)}")
    unknown = [leaf for leaf in leaves(values) if not in_schema(schema, leaf)]
    check(not unknown, f"values.schema.json does not know {', '.join(unknown)}")
    say(f"{len(paths)} values are in README.md and in values.schema.json")


def in_schema(schema, path):
    for key in path.split("."):
        if "properties" not in schema:
            # Anything may stand here.
            return schema.get("type") == "object" or "$ref" in schema
        if key not in schema["properties"]:
            return False
        schema = schema["properties"][key]
    return True


def example_config(chart, binary, work):
    """Everything that config.example.yaml shows is accepted under `config`, and means the same to rhio."""
    lines = []
    for line in (ROOT / "config.example.yaml").read_text().splitlines():
        # A key is "#key" or "#  key"; an explanation is "# text" or "  # text".
        if re.match(r"#(\S|  )", line):
            line = line[1:]
        lines.append(line)
    config = yaml.safe_load("\n".join(lines))
    understood = len(config) > 10 and config["nats"]["credentials"]["password"] == "secret" and config["nodes"]
    check(understood, "config.example.yaml was not understood")
    # These the chart refuses, and says why.
    for key in ("private_key_path", "blobs_dir", "http_bind_address"):
        config.pop(key, None)
    config["tracing"].pop("headers")
    values = work / "example.yaml"
    values.write_text(yaml.safe_dump({"config": config}))
    objects = chart.render("--values", values)
    file = work / "example-config.yaml"
    file.write_text(only(objects, "ConfigMap")["data"]["config.yaml"])
    text = file.read_text()
    check("secret" not in text, "a secret of config.example.yaml is in the ConfigMap")
    key = work / "example-key"
    key.touch(mode=0o600)
    key.write_text(KEY_A)
    command = [binary, "-c", file, "-k", key, "id"]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    check(done.returncode == 0, f"rhio refuses config.example.yaml as rendered:\n{done.stderr}")
    say("every key of config.example.yaml is accepted under `config`, and rhio accepts what is rendered")


def private_keys(chart):
    """64 hex digits, each time others."""
    seen = set()
    for _ in range(20):
        objects = chart.render("--show-only", "templates/secrets.yaml")
        key = base64.b64decode(only(objects, "Secret")["data"]["private-key"]).decode()
        check(re.fullmatch(r"[0-9a-f]{64}", key), f"the generated private key has {len(key)} characters")
        seen.add(key)
    check(len(seen) == 20, "two generated private keys are the same")
    say("20 generated private keys: each 64 hex digits, no two the same")


def restarts(chart, work):
    """What restarts the pod and what does not."""

    def checksum(config, *more):
        file = work / "restart.yaml"
        file.write_text(yaml.safe_dump({"config": config}))
        pod = only(chart.render("--values", file, *more), "Deployment")["spec"]["template"]
        return json.dumps(pod, sort_keys=True)

    published = {"publish": {"nats_subjects": [{"subject": "a", "stream": "a"}]}, "nodes": [{"public_key": "0" * 64}]}
    before = checksum({})
    check(checksum(published) == before, "a change of nodes and publish restarts rhio, which reloads them")
    check(
        checksum(published, "--set", "restart.onEveryChange=true")
        != checksum({}, "--set", "restart.onEveryChange=true"),
        "restart.onEveryChange does not restart rhio",
    )
    check(checksum({"log_level": "DEBUG"}) != before, "a change of log_level does not restart rhio")
    token = [checksum({"nats": {"credentials": {"token": token}}}) for token in ("a", "b")]
    check(token[0] != token[1], "a change of a token does not restart rhio")
    say("nodes, publish and subscribe reload; everything else restarts the pod, secrets in config too")


def kept_key(chart):
    """An upgrade takes up the private key that is there. The cluster is as much of an API server as lookup asks for."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "link-rhio-private-key", "namespace": "messaging"},
        "data": {"private-key": base64.b64encode(KEY_A.encode()).decode()},
    }

    def resources(version, *kinds):
        described = [{"name": f"{kind.lower()}s", "namespaced": True, "kind": kind} for kind in kinds]
        for resource in described:
            resource.update(singularName=resource["kind"].lower(), verbs=["get", "list"])
        return {"kind": "APIResourceList", "groupVersion": version, "resources": described}

    apps = {"groupVersion": "apps/v1", "version": "v1"}
    answers = {
        "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [{"name": "apps", "versions": [apps], "preferredVersion": apps}],
        },
        "/api/v1": resources("v1", "Secret", "ConfigMap", "Service", "ServiceAccount", "Pod"),
        "/apis/apps/v1": resources("apps/v1", "Deployment"),
        "/api/v1/namespaces/messaging/secrets/link-rhio-private-key": secret,
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer = answers.get(self.path.split("?")[0])
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            body = json.dumps(answer or missing).encode()
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        arguments = ["--dry-run=server", "--disable-openapi-validation", "--kube-apiserver", address]
        arguments += ["--show-only", "templates/secrets.yaml"]
        kept = only(chart.render("--is-upgrade", *arguments), "Secret")
        check(kept["data"] == secret["data"], "an upgrade replaces the private key that is there")
        del answers["/api/v1/namespaces/messaging/secrets/link-rhio-private-key"]
        made = only(chart.render(*arguments), "Secret")
        check(made["data"] != secret["data"] and made["immutable"] is True, "the first installation makes no key")
        server.shutdown()
    say("the private key that is in the cluster is kept")


def notes(chart, work):
    """helm shows the notes only with a cluster at hand. A template in a copy of the chart shows them without."""
    copy = work / "notes"
    shutil.copytree(CHART, copy)
    text = '{{ include (print $.Template.BasePath "/NOTES.txt") . | toJson }}'
    template = f"kind: Notes\nmetadata: {{ name: notes }}\ntext: {text}\n"
    (copy / "templates" / "notes.yaml").write_text(template)
    for name, expected in {
        "default": "inside of this cluster",
        "nodeport": "nodePort",
        "loadbalancer": "loadBalancer",
        "minimal": "rhio id",
    }.items():
        done = chart.run(
            "template",
            "link",
            copy,
            "--namespace",
            "messaging",
            "--kube-version",
            KUBERNETES[-1],
            "--values",
            CHART / "ci" / f"{name}-values.yaml",
            "--show-only",
            "templates/notes.yaml",
        )
        check(done.returncode == 0, f"the notes with {name}-values.yaml:\n{done.stderr}")
        text = only([yaml.safe_load(done.stdout)], "Notes")["text"]
        for part in (expected, "rhio id", "config.jetstream.enabled=true"):
            check(part in text, f"the notes with {name}-values.yaml lack '{part}'")
        snippets = re.findall(r"^   config:\n(?:     .*\n)+", text, re.M)
        check(len(snippets) == 2, "the notes do not show how to link two clusters")
        for snippet in snippets:
            file = work / "linked.yaml"
            file.write_text(
                re.sub(r"<public key of .*?>", KEY_A, snippet)
                .replace("<address of this node>", "a.example.org")
                .replace("<address of the other node>", "b.example.org")
            )
            chart.render("--values", file)
    say("the notes are rendered; what they show for linking two clusters is accepted as values")
