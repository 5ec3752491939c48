"""rhio and NATS on this machine, set up the way that Kubernetes would set up what was rendered."""

import base64
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import trustme
import yaml
from common import KEY_A, Failed, check, clean_environment, say
from rendering import only
from tools import nats_server

# A machine that is busy with something else needs more time, not another verdict.
PATIENCE = 30 * float(os.environ.get("RHIO_TEST_PATIENCE", "1"))

# The other one of two linked clusters has this private key. ci/linked-*-values.yaml have the public ones.
KEY_B = "b" * 64
# A seed for an nkey, and the public key that belongs to it. For this check alone.
NKEY_SEED = "SUAHE2DJN4QGG2DBOJ2CAY3IMVRWWORANZVWK6JMEBXG6IDTMVRXEZK6YE"
NKEY_PUBLIC = "UBU6HSGNOF6C2P6EXX7RHF5JY7I7J3J4N6SIO6LC3HAMRCZUR2XJNKOM"

# What the Secrets and ConfigMaps hold that a values file says exist. For each values file, by name and key.
EXISTING = {
    "minimal": {"rhio-key": {"private-key": KEY_A}},
    "linked-a": {"rhio-key": {"private-key": KEY_A}},
    "linked-b": {"rhio-key": {"private-key": KEY_B}},
    "existing-secrets": {
        "rhio-identity": {"ed25519": KEY_A},
        "rhio-nats": {"user": "rhio", "pass": "it's a secret"},
        "rhio-nats-tls": {},  # made for each run
        "rhio-s3": {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"},
        "rhio-s3-ca": {"ca.crt": ""},
    },
    "nats-token": {"rhio-nats": {"token": "t0ken"}},
    "nats-nkey": {"rhio-nats": {"seed": NKEY_SEED}},
    "nats-creds": {"rhio-nats": {"user.creds": ""}},  # made for each run
    "everything": {"rhio-extra": {}},
}

# How the NATS server of a values file asks for credentials. A .creds file needs an operator's set-up to be asked for;
# there it is only checked that rhio reads the file and offers what is in it.
NATS_AUTHORIZATION = {
    "everything": "users: [{ user: rhio, password: "
    r""""not: a 'plain' \"password\" {{ nor }} a template, 100 % \\ #" }]""",
    "existing-secrets": 'users: [{ user: rhio, password: "it\'s a secret" }]',
    "nats-token": 'token: "t0ken"',
    "nats-nkey": f"users: [{{ nkey: {NKEY_PUBLIC} }}]",
}


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(what, condition, alive=lambda: True):
    until = time.monotonic() + PATIENCE
    while not condition():
        check(alive(), f"{what}: it ended")
        check(time.monotonic() < until, f"{what}: not within {PATIENCE:.0f} s")
        time.sleep(0.05)


@contextlib.contextmanager
def process(command, log, **more):
    """Runs a program, and ends it whatever happens."""
    with open(log, "ab") as out:
        child = subprocess.Popen([*map(str, command)], stdout=out, stderr=subprocess.STDOUT, **more)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


class Client:
    """As much of NATS as it takes to make a stream, publish, and look at a stream."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.lines = self.socket.makefile("rb")
        self.lines.readline()
        self.socket.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB inbox.* 1\r\n')

    def request(self, subject, payload):
        text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.socket.sendall(f"PUB {subject} inbox.1 {len(text)}\r\n".encode() + text + b"\r\n")
        while True:
            words = self.lines.readline().split()
            check(words, "NATS closed the connection")
            if words[0] == b"PING":
                self.socket.sendall(b"PONG\r\n")
            elif words[0] == b"MSG":
                answer = json.loads(self.lines.read(int(words[-1]) + 2))
                check("error" not in answer, f"NATS, {subject}: {answer.get('error')}")
                return answer

    def close(self):
        self.lines.close()
        self.socket.close()


@contextlib.contextmanager
def nats(home, streams=None, options=""):
    """A NATS server; its port. Streams are made before anything else, without authorization."""
    home.mkdir(parents=True, exist_ok=True)
    binary = nats_server()

    @contextlib.contextmanager
    def server(more):
        port = free_port()
        file = home / "nats.conf"
        file.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{home / "js"}" }}\n{more}\n')
        log = home / "nats.log"
        with process([binary, "-c", file], log) as child:

            def listens():
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    return True
                except OSError:
                    return False

            try:
                wait("nats-server listens", listens, lambda: child.poll() is None)
            except Failed as error:
                raise Failed(f"{error}\n--- its log ---\n{log.read_text()[-2000:]}") from error
            yield port

    def make(port):
        client = Client(port)
        for stream, subjects in (streams or {}).items():
            client.request(f"$JS.API.STREAM.CREATE.{stream}", {"name": stream, "subjects": subjects})
        client.close()

    if streams and options:
        with server("") as port:
            make(port)
        streams = None
    with server(options) as port:
        if not options:
            make(port)
        yield port


def data_of(objects, name, existing):
    """What a Secret or a ConfigMap holds, made by the chart or there already."""
    if name in existing:
        return existing[name]
    for item in objects:
        if item["metadata"]["name"] == name and item["kind"] == "Secret":
            return {key: base64.b64decode(text).decode() for key, text in item["data"].items()}
    raise Failed(f"there is no Secret {name}")


class Pod:
    """Does with a rendered Deployment what Kubernetes would: mounts, environment, arguments."""

    def __init__(self, name, objects, home, binary, port, existing, overrides=None):
        self.name, self.log = name, home / "rhio.log"
        spec = only(objects, "Deployment")["spec"]["template"]["spec"]
        container = spec["containers"][0]
        self.environment = clean_environment()
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {}).get("secretKeyRef")
            text = (
                data_of(objects, source["name"], existing)[source["key"]]
                if source
                else variable.get("value", "somewhere")
            )
            self.environment[variable["name"]] = text

        mounts = {}
        for mount in container["volumeMounts"]:
            volume = next(v for v in spec["volumes"] if v["name"] == mount["name"])
            folder = home / "pod" / mount["mountPath"].lstrip("/")
            folder.mkdir(parents=True)
            mounts[mount["mountPath"]] = folder
            if "configMap" in volume:
                for key, text in only(objects, "ConfigMap", volume["configMap"]["name"])["data"].items():
                    (folder / key).write_text(text)
            if "secret" in volume:
                data = data_of(objects, volume["secret"]["secretName"], existing)
                items = volume["secret"].get("items") or [{"key": key, "path": key} for key in data]
                for entry in items:
                    file = folder / entry["path"]
                    file.write_text(data[entry["key"]])
                    # The group of 0440 is Kubernetes' way to let a user who is not root read; here it is the user.
                    file.chmod(0o400)

        self.config_file = mounts["/etc/rhio"] / "config.yaml"
        self.config = yaml.safe_load(self.config_file.read_text())
        # Paths of the container are elsewhere on this machine. Nothing else of the file is touched.
        for path, text in values(self.config):
            mount = next((m for m in mounts if str(text) == m or str(text).startswith(m + "/")), None)
            check(mount or not str(text).startswith("/"), f"{name}: nothing is mounted at {text}, {'.'.join(path)}")
            if mount:
                here = Path(str(mounts[mount]) + str(text)[len(mount) :])
                check(here.exists(), f"{name}: there is no {text}, {'.'.join(path)}")
                self.environment["RHIO_" + "__".join(path).upper()] = str(here)
        if "import" in self.config:
            self.environment["RHIO_IMPORT__DIRS"] = json.dumps([str(mounts[d]) for d in self.config["import"]["dirs"]])
        scheme = "tls://" if str(self.config["nats"]["endpoint"]).startswith("tls://") else ""
        self.environment["RHIO_NATS__ENDPOINT"] = f"{scheme}localhost:{port}"
        if "s3" in self.config:
            buckets = home / "buckets"
            publish, subscribe = (self.config.get(section) or {} for section in ("publish", "subscribe"))
            names = [b if isinstance(b, str) else b["bucket"] for b in publish.get("s3_buckets") or []]
            for bucket in names + [b["local_bucket"] for b in subscribe.get("s3_buckets") or []]:
                (buckets / bucket).mkdir(parents=True)
            buckets.mkdir(exist_ok=True)
            self.environment["RHIO_S3__ENDPOINT"] = f"file://{buckets}"
        self.udp_port = free_port(socket.SOCK_DGRAM)
        self.environment["RHIO_BIND_PORT"] = str(self.udp_port)
        # 0 stays 0: HTTP is off.
        self.http_port = free_port() if self.config["http_bind_port"] else 0
        self.environment["RHIO_HTTP_BIND_PORT"] = str(self.http_port)
        self.environment.update(overrides or {})
        program = {"rhio": binary}
        self.command = [program.get(word, word) for word in container["command"]]
        self.command += [
            str(self.config_file) if word == "/etc/rhio/config.yaml" else word for word in container["args"]
        ]
        self.folder = mounts[container["workingDir"]]

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def answers(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    @contextlib.contextmanager
    def running(self):
        """Starts it; when the caller is done, ends it the way that Kubernetes does."""
        with process(self.command, self.log, env=self.environment, cwd=self.folder) as child:
            alive = lambda: child.poll() is None  # noqa: E731
            try:
                wait("rhio is running", lambda: "rhio is running" in self.text(), alive)
                if self.http_port:
                    for path in ("/livez", "/readyz", "/metrics"):
                        wait(f"{path} answers 200", lambda path=path: self.answers(path), alive)
                yield child
                child.send_signal(signal.SIGTERM)
                check(child.wait(timeout=PATIENCE) == 0, f"ended with {child.returncode} on SIGTERM")
                refused = [
                    line for line in self.text().splitlines() if re.search(r"WARN.*(config\.yaml:[0-9]|RHIO_)", line)
                ]
                check(not refused, f"rhio warns of its configuration: {refused}")
            except (Failed, subprocess.TimeoutExpired) as error:
                raise Failed(f"{self.name}: {error}\n--- rhio's log ---\n{self.text()[-4000:]}") from error


def values(config, path=()):
    if isinstance(config, dict):
        for key, inner in config.items():
            yield from values(inner, (*path, key))
    elif not isinstance(config, list):
        yield path, config


def streams_of(config):
    streams = {}
    sections = [config.get(section) or {} for section in ("publish", "subscribe")]
    for entry in itertools.chain.from_iterable(section.get("nats_subjects") or [] for section in sections):
        streams.setdefault(entry["stream"], []).append(entry["subject"])
    return streams


def config_of(objects):
    name = only(objects, "Deployment")["metadata"]["name"]
    return yaml.safe_load(only(objects, "ConfigMap", name)["data"]["config.yaml"])


def certificates(home):
    """A CA, a server's certificate for NATS, a client's for rhio."""
    home.mkdir(parents=True)
    ca = trustme.CA()
    ca.cert_pem.write_to_path(home / "ca.crt")
    server, client = ca.issue_cert("localhost"), ca.issue_cert("rhio@example.org")
    server.private_key_pem.write_to_path(home / "server.key")
    server.cert_chain_pems[0].write_to_path(home / "server.crt")
    files = {"cert_file": "server.crt", "key_file": "server.key", "ca_file": "ca.crt"}
    tls = "tls { " + "".join(f'{key}: "{home / file}", ' for key, file in files.items()) + "verify: true }"
    data = {
        "ca.crt": (home / "ca.crt").read_text(),
        "tls.crt": client.cert_chain_pems[0].bytes().decode(),
        "tls.key": client.private_key_pem.bytes().decode(),
    }
    return tls, data


def creds_file():
    part = lambda data: base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()  # noqa: E731
    jwt = ".".join(
        [
            part({"typ": "JWT", "alg": "ed25519-nkey"}),
            part({"sub": NKEY_PUBLIC, "nats": {"type": "user", "version": 2}}),
            part("signature"),
        ]
    )
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{NKEY_SEED}\n------END USER NKEY SEED------\n"
    )


def run_one(name, objects, binary, work):
    home = work / name
    existing = dict(EXISTING.get(name, {}))
    options = f"authorization {{ {NATS_AUTHORIZATION[name]} }}" if name in NATS_AUTHORIZATION else ""
    if "rhio-nats-tls" in existing:
        tls, existing["rhio-nats-tls"] = certificates(home / "tls")
        options += "\n" + tls
    if name == "nats-creds":
        existing["rhio-nats"] = {"user.creds": creds_file()}
    with nats(home / "nats", streams_of(config_of(objects)), options) as port:
        # Nodes are not there; their names need not be looked up.
        pod = Pod(
            name, objects, home, binary, port, existing, {"RHIO_NODES": "[]"} if config_of(objects).get("nodes") else {}
        )
        with pod.running():
            pass
    asked = "; NATS asks for credentials" if options else ""
    said = "/livez, /readyz and /metrics answer" if pod.http_port else "HTTP is off"
    say(f"{name}: rhio runs on the rendered config.yaml, ends with 0; {said}{asked}")


def run_linked(rendered, binary, work):
    """The two linked clusters really replicate, in both directions."""
    a, b = rendered["linked-a"], rendered["linked-b"]
    with contextlib.ExitStack() as stack:
        ports, pods = {}, {}
        for name, objects in (("linked-a", a), ("linked-b", b)):
            streams = streams_of(config_of(objects))
            ports[name] = stack.enter_context(nats(work / name / "nats", streams))
            pods[name] = Pod(name, objects, work / name, binary, ports[name], EXISTING[name])
        for name, other in (("linked-a", "linked-b"), ("linked-b", "linked-a")):
            nodes = pods[name].config["nodes"]
            nodes[0]["endpoints"] = [f"127.0.0.1:{pods[other].udp_port}"]
            pods[name].environment["RHIO_NODES"] = json.dumps(nodes)
        for pod in pods.values():
            stack.enter_context(pod.running())
        for source, target, subject, stream in (
            ("linked-a", "linked-b", "energy.1", "energy"),
            ("linked-b", "linked-a", "weather.1", "weather"),
        ):
            client = Client(ports[source])
            client.request(subject, b"1")
            client.close()

            def arrived(target=target, stream=stream):
                client = Client(ports[target])
                count = client.request(f"$JS.API.STREAM.INFO.{stream}", {})["state"]["messages"]
                client.close()
                return count == 1

            try:
                wait(f"a message from {source} arrives in {target}", arrived)
            except Failed as error:
                raise Failed(f"{error}\n--- {target} ---\n{pods[target].text()[-3000:]}") from error
    say("linked-a and linked-b: two rhios on the rendered files replicate in both directions")
